"""What dies on the way, on a real Slurm: the run ends as if nothing had happened, every language once."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from mms_recipes import adapter_files, checkpoints
from mms_recipes.cluster import run_state
from tests.cluster import jobs, slurm
from tests.fairseq import tones

pytestmark = pytest.mark.slow

UPDATES = 40
LONGER = (f"optimization.max_update={UPDATES}", "dataset.validate_interval_updates=20", "common.log_interval=1")
RARE = (*LONGER, "checkpoint.save_interval_updates=1000")  # what is gone on from is what the signal had written
OFTEN = (*LONGER, "checkpoint.save_interval_updates=2")


def undisturbed(base: Path, data: Path, runs: Path, settings: tuple[str, ...]) -> Path:
    """What one process trains that nothing disturbs."""
    small = [setting for setting in jobs.SMALL if "launcher" not in setting]
    return tones.train("smoke_lsah", data, runs, f"model.base={base}", *small, *settings)


@pytest.fixture(scope="module")
def rare(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(base, data, tmp_path_factory.mktemp("rare"), RARE)


@pytest.fixture(scope="module")
def often(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(base, data, tmp_path_factory.mktemp("often"), OFTEN)


def assert_equal(run: Path, whole: Path) -> None:
    found, expected = (adapter_files.read_adapters(folder / "adapters") for folder in (run, whole))
    assert sorted(found) == sorted(expected) == sorted(tones.LETTERS)
    for lang, adapter in expected.items():
        assert found[lang].num_updates == adapter.num_updates
        for name, tensor in adapter.tensors.items():
            torch.testing.assert_close(found[lang].tensors[name], tensor, atol=1e-5, rtol=1e-4)
    assert checkpoints.num_updates(run / "checkpoints/checkpoint_last.pt") == UPDATES


def submitted(run: Path) -> str:
    """The job that trains a run of one part."""
    (job,) = run_state.submissions(run)[-1].jobs
    return job


def wait_for_updates(run: Path, job: str, count: int = 3) -> None:
    """Wait until the job's log tells of some updates, and it has a checkpoint if it writes any."""
    deadline = time.monotonic() + jobs.SECONDS
    while sum(log.read_text().count("audio_per_second") for log in run.glob(f"slurm/{job}_*_log.out")) < count:
        assert time.monotonic() < deadline, jobs.status(run)
        time.sleep(0.02)


def details(job: str) -> str:
    return subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout


def processes(job: str, rank: int | None = None) -> list[int]:
    """Python processes of a job, of one rank or of all."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        wanted = {f"SLURM_JOB_ID={job}".encode(), *([f"SLURM_PROCID={rank}".encode()] if rank is not None else [])}
        if wanted <= set(environment) and b"submitit" in command:
            found.append(int(folder.name))
    return found


def step_daemons(job: str) -> list[int]:
    """The slurmstepds of a job: batch and step."""
    told = subprocess.run(["pgrep", "--full", rf"^slurmstepd: \[{job}\."], capture_output=True, text=True, check=False)
    return [int(line) for line in told.stdout.split()]


def assert_done(run: Path) -> None:
    parts = jobs.wait(run)
    assert [part["state"] for part in parts.values()] == ["done"], parts


@pytest.mark.parametrize("nodes", [1, 2])
def test_signal_stops_requeues_and_goes_on(
    cluster: Path, base: Path, data: Path, rare: Path, tmp_path: Path, nodes: int
) -> None:
    world = f"distributed_training.distributed_world_size={nodes}"
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", *RARE, world)
    run = tmp_path / "smoke_lsah"
    job = submitted(run)
    wait_for_updates(run, job)
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    assert_done(run)
    assert "Restarts=1" in details(job)
    log = "".join(path.read_text() for path in run.glob("*.log"))
    assert re.search(r"stopped: SIGUSR1 after update \d+, with its checkpoint", log)
    assert f"job {job} is requeued" in log and "(resuming)" in log
    assert_equal(run, rare)


def test_job_that_is_cancelled_is_not_requeued(cluster: Path, base: Path, data: Path, tmp_path: Path) -> None:
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", *RARE)
    run = tmp_path / "smoke_lsah"
    job = submitted(run)
    wait_for_updates(run, job)
    subprocess.run(["scancel", job], check=True)
    (part,) = jobs.wait(run).values()
    assert part["state"] == "failed" and "SIGTERM after update" in part["reason"], part
    assert "JobState=CANCELLED" in details(job) and "Restarts=0" in details(job)
    assert checkpoints.num_updates(run / "checkpoints/checkpoint_last.pt") >= 3


def test_killed_rank_fails_fast_and_goes_on(cluster: Path, base: Path, data: Path, often: Path, tmp_path: Path) -> None:
    world = "distributed_training.distributed_world_size=2"
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", *OFTEN, world)
    run = tmp_path / "smoke_lsah"
    job = submitted(run)
    wait_for_updates(run, job, 6)
    (rank,) = processes(job, rank=1)
    os.kill(rank, signal.SIGKILL)
    killed = time.monotonic()
    (part,) = jobs.wait(run).values()
    assert part["state"] == "failed" and time.monotonic() - killed < 60, part
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", *OFTEN, world)
    assert_done(run)
    assert_equal(run, often)


def test_vanished_node_is_replaced(cluster: Path, base: Path, data: Path, often: Path, tmp_path: Path) -> None:
    """Its slurmd and all that it ran are killed at once; Slurm notices, and requeues the job on the other node."""
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", *OFTEN)
    run = tmp_path / "smoke_lsah"
    job = submitted(run)
    wait_for_updates(run, job, 6)
    node = re.search(r"BatchHost=(\w+)", details(job))
    assert node is not None
    slurm.kill(cluster / f"slurmd.{node[1]}.pid", signal.SIGKILL)
    for process in (*step_daemons(job), *processes(job)):  # first what would tell Slurm that the job has ended
        os.kill(process, signal.SIGKILL)
    try:
        assert_done(run)
        assert "Restarts=1" in details(job)
        assert_equal(run, often)
    finally:
        slurm.start_node(cluster, node[1])
