"""A signal stops a run after the next update, on all ranks; started again, it ends as if nothing had happened."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mms_recipes import adapter_files, checkpoint_files, checkpoints
from mms_recipes.cluster import signals
from tests.fairseq import tones
from tests.fairseq.small import Pretrained
from tests.fairseq.test_resume import BASE_KEY, RUNS

pytestmark = pytest.mark.slow

# the only checkpoints before the end are those that the signals make
SETTINGS = ("checkpoint.save_interval_updates=1000", "dataset.validate_interval_updates=1000", "common.log_interval=1")


# with more, where a sum is cut among threads depends on how memory lies, and with it its last bit
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def command(experiment: str, data: Path, runs: Path, base: Path, *overrides: str) -> list[str]:
    train = [sys.executable, "-m", "mms_recipes.train", f"+experiment={experiment}", f"task.data={data}"]
    given = [f"{BASE_KEY[experiment]}={base}"] if experiment in BASE_KEY else []
    return [*train, f"runs={runs}", *given, *RUNS[experiment], *SETTINGS, *overrides]


def stop_after_updates(arguments: list[str], count: int, signum: int, group: bool = False) -> tuple[int, str]:
    """Start a run, signal it (`group`: and its children) after `count` updates; return exit status and output."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=group, env=ONE_THREAD
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "audio_per_second" in line:
            count -= 1
            if count == 0:
                (os.killpg if group else os.kill)(process.pid, signum)
    return process.wait(), "".join(lines)


def last(runs: Path, experiment: str) -> Path:
    return runs / experiment / "checkpoints" / "checkpoint_last.pt"


def assert_equal(found: Path, expected: Path) -> None:
    one, other = checkpoints.load_checkpoint(found), checkpoints.load_checkpoint(expected)
    assert one["optimizer_history"][-1]["num_updates"] == other["optimizer_history"][-1]["num_updates"]
    for name, tensor in other["model"].items():
        torch.testing.assert_close(one["model"][name], tensor, atol=0, rtol=0)


@pytest.mark.parametrize("experiment", RUNS)
def test_stopped_run_ends_as_an_uninterrupted_one(tmp_path: Path, pretrained: Pretrained, experiment: str) -> None:
    data = tones.write_corpus(tmp_path / "data", train=12, dev=2)
    whole = command(experiment, data, tmp_path / "whole", pretrained.path)
    subprocess.run(whole, check=True, capture_output=True, env=ONE_THREAD)
    stopped = command(experiment, data, tmp_path / "stopped", pretrained.path)
    for signum in (signal.SIGTERM, signal.SIGUSR1):
        status, said = stop_after_updates(stopped, 2, signum)
        assert status == signals.EXIT_CODE, said[-3000:]
        assert f"stopped: {signum.name} after update" in said and "the same command goes on" in said
        told = json.loads((tmp_path / "stopped" / experiment / "status.json").read_text())
        assert told["state"] == "stopped" and signum.name in told["reason"]
    subprocess.run(stopped, check=True, capture_output=True, env=ONE_THREAD)
    assert_equal(last(tmp_path / "stopped", experiment), last(tmp_path / "whole", experiment))
    if experiment == "smoke_lsah":
        one, other = (
            adapter_files.read_adapters(tmp_path / name / experiment / "adapters") for name in ("whole", "stopped")
        )
        assert sorted(one) == sorted(other) == sorted(tones.LETTERS)
        assert all(
            torch.equal(one[lang].tensors[key], other[lang].tensors[key]) for lang in one for key in one[lang].tensors
        )


def test_run_that_its_hours_end_is_not_done(tmp_path: Path, pretrained: Pretrained) -> None:
    data = tones.write_corpus(tmp_path / "data", train=12, dev=2)
    settings = (f"model.base={pretrained.path}", "optimization.max_update=3")
    with pytest.raises(signals.Stopped, match=r"stop_time_hours=1e-06 are over after update 1; with more it goes on"):
        tones.train("smoke_ctc", data, tmp_path, *settings, "optimization.stop_time_hours=1e-6")
    told = json.loads((tmp_path / "smoke_ctc" / "status.json").read_text())
    assert told["state"] == "stopped" and "stop_time_hours" in told["reason"]
    tones.train("smoke_ctc", data, tmp_path, *settings)
    assert checkpoints.num_updates(tmp_path / "smoke_ctc" / "checkpoints" / "checkpoint_last.pt") == 3


def listens(pid: int, signum: int) -> bool:
    """Whether a process would not simply be killed by a signal."""
    (caught,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> signum - 1 & 1)


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGTERM])
def test_signal_while_python_imports(tmp_path: Path, signum: int) -> None:
    """It would kill Python, with an exit status that nobody takes for `again`."""
    process = subprocess.Popen(
        command("smoke_pretrain", tmp_path, tmp_path, tmp_path), stderr=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    while not listens(process.pid, signum):
        assert process.poll() is None
        time.sleep(0.001)
    libraries = Path(f"/proc/{process.pid}/maps").read_text()
    process.send_signal(signum)
    _, said = process.communicate(timeout=30)
    assert process.returncode == signals.EXIT_CODE and time.monotonic() - began < 10
    assert said.startswith(f"stopped: {signum.name} before the first update: the same command goes on")
    assert "torch" not in libraries and not list(tmp_path.iterdir())


def test_two_ranks_stop_after_the_same_update(tmp_path: Path, pretrained: Pretrained) -> None:
    """One process per rank, started by the first: the signal reaches it alone."""
    data = tones.write_corpus(tmp_path / "data", train=12, dev=2)
    world = ("common.cpu=true", "distributed_training.distributed_world_size=2", "task.hours_per_update=null")
    whole = command("smoke_ctc", data, tmp_path / "whole", pretrained.path, *world)
    subprocess.run(whole, check=True, capture_output=True, env=ONE_THREAD)
    stopped = command("smoke_ctc", data, tmp_path / "stopped", pretrained.path, *world)
    status, said = stop_after_updates(stopped, 2, signal.SIGUSR1)
    assert status == signals.EXIT_CODE, said[-3000:]
    assert "stopped: SIGUSR1 after update" in said
    subprocess.run(stopped, check=True, capture_output=True, env=ONE_THREAD)
    assert_equal(last(tmp_path / "stopped", "smoke_ctc"), last(tmp_path / "whole", "smoke_ctc"))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_to_the_data_workers_too(tmp_path: Path, pretrained: Pretrained, signum: int) -> None:
    """Slurm signals every process of a job, not the first alone."""
    data = tones.write_corpus(tmp_path / "data", train=60, dev=2)  # more batches than are read ahead
    run = command(
        "smoke_ctc",
        data,
        tmp_path,
        pretrained.path,
        "dataset.num_workers=2",
        "dataset.max_tokens=40000",
        "optimization.max_update=200",
    )
    status, said = stop_after_updates(run, 2, signum, group=True)
    assert status == signals.EXIT_CODE, said[-3000:]
    assert checkpoints.num_updates(last(tmp_path, "smoke_ctc")) < 200


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_lost_rank_ends_the_others_soon(tmp_path: Path, pretrained: Pretrained, signum: int) -> None:
    """A rank that is killed, and one whose machine answers no more; then the same command goes on."""
    data = tones.write_corpus(tmp_path / "data", train=12, dev=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        method = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    world = {"world_size": 2, "no_spawn": "true", "backend": "gloo", "init_method": method}
    settings = [f"distributed_training.distributed_{key}={value}" for key, value in world.items()]
    settings += ["optimization.max_update=100000", "checkpoint.save_interval_updates=2"]
    run = command("smoke_ctc", data, tmp_path, pretrained.path, *settings)
    ranks = [
        subprocess.Popen(
            [*run, f"distributed_training.distributed_rank={rank}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"MMS_RECIPES_RANK_TIMEOUT": "15"},
        )
        for rank in range(2)
    ]
    checkpoint = last(tmp_path, "smoke_ctc")
    try:
        while not checkpoint.exists():
            assert ranks[0].poll() is None
            time.sleep(0.01)
        ranks[1].send_signal(signum)
        lost = time.monotonic()
        said, _ = ranks[0].communicate(timeout=120)
        assert time.monotonic() - lost < 60
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert ranks[0].returncode == 1, said[-3000:]
    assert "another rank is gone, or does not answer" in said and "goes on from the last checkpoint" in said
    told = json.loads((tmp_path / "smoke_ctc/status.json").read_text())
    assert told["state"] == "failed" and "another rank is gone" in told["reason"]
    assert checkpoints.damage(checkpoint) is None


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty"])
def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, pretrained: Pretrained, harm: str) -> None:
    data = tones.write_corpus(tmp_path / "data", train=12, dev=2)
    settings = (f"model.base={pretrained.path}", "checkpoint.save_interval_updates=2")
    run = tones.train("smoke_ctc", data, tmp_path, *settings, "optimization.max_update=5")
    path = run / "checkpoints/checkpoint_last.pt"
    assert checkpoints.num_updates(path.with_name(checkpoint_files.BEFORE)) == 4
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    content[place] ^= 1
    path.unlink()  # its other names stay as they are, and are of the update before
    path.write_bytes({"flipped": content, "cut": content[:place], "empty": b""}[harm])
    for other in path.parent.glob("checkpoint_best.pt"):
        other.unlink()
    command = [
        sys.executable,
        "-m",
        "mms_recipes.train",
        "+experiment=smoke_ctc",
        f"task.data={data}",
        f"runs={tmp_path}",
    ]
    done = subprocess.run(
        [*command, *settings, "optimization.max_update=6"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "checkpoint_last.pt: damaged (" in done.stdout and "going on from checkpoint_" in done.stdout
    assert "update 4" in done.stdout
    assert checkpoints.num_updates(path) == 6


def test_damaged_checkpoint_alone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_last.pt"
    path.write_bytes(b"PK but no more")
    with pytest.raises(ValueError, match=r"damaged .*holds no other that is whole\. Restore one from a backup"):
        checkpoints.mend(path)
