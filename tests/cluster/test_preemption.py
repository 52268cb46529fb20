"""What dies on the way, on a real Slurm: the run ends as if nothing had happened, every language once."""

import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mms_recipes import adapter_files, checkpoints
from mms_recipes.cluster import run_state
from tests.cluster import jobs, slurm
from tests.fairseq import tones
from tests.fairseq.test_preemption import listens

pytestmark = pytest.mark.slow

UPDATES = 40
LONGER = (f"optimization.max_update={UPDATES}", "dataset.validate_interval_updates=20", "common.log_interval=1")
RARE = (*LONGER, "checkpoint.save_interval_updates=1000")  # what is gone on from is what the signal had written
OFTEN = (*LONGER, "checkpoint.save_interval_updates=2")


Undisturbed = Callable[[tuple[str, ...], int], Path]


@pytest.fixture(scope="module")
def whole(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What some ranks train with some settings that nothing disturbs, each once (at a save dev is read, too)."""

    @functools.cache
    def run(settings: tuple[str, ...], ranks: int) -> Path:
        runs = tmp_path_factory.mktemp("whole")
        small = [setting for setting in (*jobs.SMALL, *settings) if "launcher" not in setting]
        train = [sys.executable, "-m", "mms_recipes.train", "+experiment=smoke_lsah", f"task.data={data}", *small]
        world = f"distributed_training.distributed_world_size={ranks}"
        done = jobs.run([*train, f"runs={runs}", f"model.base={base}", "common.cpu=true", world])
        assert done.returncode == 0, done.stdout
        return runs / "smoke_lsah"

    return run


def assert_equal(run: Path, undisturbed: Path) -> None:
    found, expected = (adapter_files.read_adapters(folder / "adapters") for folder in (run, undisturbed))
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
        if wanted <= set(environment) and b"mms_recipes.cluster.job" in command and not command.startswith(b"srun"):
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
    cluster: Path, base: Path, data: Path, whole: Undisturbed, tmp_path: Path, nodes: int
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
    assert_equal(run, whole(RARE, nodes))


def test_job_that_is_cancelled_is_not_requeued(cluster: Path, base: Path, data: Path, tmp_path: Path) -> None:
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", *RARE)
    run = tmp_path / "smoke_lsah"
    job = submitted(run)
    wait_for_updates(run, job)
    subprocess.run(["scancel", job], check=True)
    (part,) = jobs.wait(run).values()
    assert part["state"] == "stopped" and "SIGTERM after update" in part["reason"], part
    assert "JobState=CANCELLED" in details(job) and "Restarts=0" in details(job)
    assert checkpoints.num_updates(run / "checkpoints/checkpoint_last.pt") >= 3


def test_signal_while_python_imports(cluster: Path, base: Path, data: Path, tmp_path: Path) -> None:
    """Before the run has a folder of its own, and on both nodes: it is requeued all the same."""
    world = "distributed_training.distributed_world_size=2"
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", world)
    run = tmp_path / "smoke_lsah"
    job = submitted(run)
    deadline = time.monotonic() + jobs.SECONDS
    while len(found := processes(job)) < 2 or not all(listens(process, signal.SIGUSR1) for process in found):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not (run / "status.json").exists()
    subprocess.run(["scancel", "--signal=USR1", job], check=True)
    assert_done(run)
    assert "Restarts=1" in details(job)
    log = "".join(path.read_text() for path in run.glob("slurm/*_log.err"))
    assert "stopped: SIGUSR1 before the first update" in log and f"job {job} is requeued" in log


def test_killed_rank_fails_fast_and_goes_on(
    cluster: Path, base: Path, data: Path, whole: Undisturbed, tmp_path: Path
) -> None:
    world = "distributed_training.distributed_world_size=2"
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", *OFTEN, world)
    run = tmp_path / "smoke_lsah"
    job = submitted(run)
    wait_for_updates(run, job, 6)
    (rank,) = processes(job, rank=1)
    os.kill(rank, signal.SIGKILL)
    killed = time.monotonic()
    while "Restarts=1" not in (told := details(job)):
        assert time.monotonic() - killed < 60, told + said(run, job)[-3000:]
        time.sleep(0.1)
    assert_done(run)
    assert_equal(run, whole(OFTEN, 2))


def training_on_a_node(base: Path, data: Path, folder: Path) -> tuple[Path, str, str]:
    """Submit a run and wait for its first updates; return its folder, its job and the node that has it."""
    jobs.submit("smoke_lsah", data, folder, f"model.base={base}", *OFTEN)
    run = folder / "smoke_lsah"
    job = submitted(run)
    wait_for_updates(run, job, 6)
    node = re.search(r"BatchHost=(\w+)", details(job))
    assert node is not None
    return run, job, node[1]


def test_vanished_node_is_replaced(cluster: Path, base: Path, data: Path, whole: Undisturbed, tmp_path: Path) -> None:
    """Its slurmd and all that it ran are killed at once; Slurm notices, and requeues the job on the other node."""
    run, job, node = training_on_a_node(base, data, tmp_path)
    slurm.kill(cluster / f"slurmd.{node}.pid", signal.SIGKILL)
    for process in (*step_daemons(job), *processes(job)):  # first what would tell Slurm that the job has ended
        os.kill(process, signal.SIGKILL)
    try:
        assert_done(run)
        assert "Restarts=1" in details(job)
        assert_equal(run, whole(OFTEN, 1))
    finally:
        slurm.start_node(cluster, node)


def test_lost_node_whose_job_lives_on(
    cluster: Path, base: Path, data: Path, whole: Undisturbed, tmp_path: Path
) -> None:
    """Slurm loses the node and starts the job on the other, which waits until the first is dead, and then goes on."""
    run, job, node = training_on_a_node(base, data, tmp_path)
    (first,) = processes(job)
    slurm.kill(cluster / f"slurmd.{node}.pid", signal.SIGKILL)
    os.kill(first, signal.SIGSTOP)  # or it would have finished before Slurm notices
    try:
        deadline = time.monotonic() + jobs.SECONDS
        while "looking whether it lives, until it ends" not in said(run, job):
            assert time.monotonic() < deadline, details(job)
            time.sleep(0.2)
        (second,) = {*processes(job)} - {first}
        before = checkpoints.num_updates(last := run / "checkpoints/checkpoint_last.pt")
        os.kill(first, signal.SIGCONT)
        while checkpoints.num_updates(last) == before:  # nobody else trains
            assert time.monotonic() < deadline
        os.kill(first, signal.SIGKILL)
        assert slurm.lives(second) and not run_state_of(run).startswith("failed")
        assert_done(run)
        assert "Restarts=1" in details(job) and checkpoints.damage(last) is None
        assert_equal(run, whole(OFTEN, 1))
    finally:
        slurm.start_node(cluster, node)


def said(run: Path, job: str) -> str:
    """All that the job's ranks have said."""
    return "".join(path.read_text() for path in run.glob(f"slurm/{job}_*_log.*"))


def run_state_of(run: Path) -> str:
    (part,) = jobs.status(run).values()
    return f"{part['state']} {part['reason']}"
