"""A data worker that was killed ended training in a traceback; one that stood still, or a small /dev/shm, hung it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mms_recipes import checkpoints
from tests.known_issues import commands
from tests.known_issues.lab import Lab
from tests.known_issues.test_ctrl_c_in_training import ENDLESS, wait_for


def strike(signum: int) -> commands.Meanwhile:
    """Signal one of the data workers after the first updates."""

    def meanwhile(pid: int, output: Callable[[], str]) -> None:
        wait_for(lambda: "minutes_left" in output())
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(workers[-1]), signum)

    return meanwhile


def test_one_that_was_killed_is_named(tiny: Lab, tmp_path: Path) -> None:
    arguments = tiny.lsah(tmp_path, 100000, *ENDLESS, "dataset.num_workers=2")
    ended = commands.run("train", *arguments, meanwhile=strike(signal.SIGKILL))
    assert ended.is_refused(), ended.output[-3000:]
    for word in ("data worker", "SIGKILL", "memory", "dataset.num_workers", "goes on from the last checkpoint"):
        assert word in ended.last_line


def test_in_a_job_of_slurm_it_is_requeued(tiny: Lab, tmp_path: Path) -> None:
    """The job ends as one of which a rank was killed (sbatch.py)."""
    arguments = tiny.lsah(tmp_path, 100000, *ENDLESS, "dataset.num_workers=2")
    job = {"SLURM_JOB_ID": "12"}
    ended = commands.run("train", *arguments, environment=job, meanwhile=strike(signal.SIGKILL))
    assert ended.code == 137 and "Traceback" not in ended.output, ended.output[-3000:]


@pytest.mark.slow
def test_one_that_stands_still_ends_the_run(tiny: Lab, tmp_path: Path) -> None:
    arguments = tiny.lsah(tmp_path, 100000, *ENDLESS, "dataset.num_workers=2")
    soon = {"MMS_RECIPES_RANK_TIMEOUT": "4"}
    ended = commands.run("train", *arguments, environment=soon, meanwhile=strike(signal.SIGSTOP))
    assert ended.is_refused(), ended.output[-3000:]
    assert "stands still" in ended.output and "goes on from the last checkpoint" in ended.last_line


@pytest.mark.slow
@pytest.mark.parametrize("size", ["400k", "4k"])
def test_small_shared_memory_does_not_hang(tiny: Lab, tmp_path: Path, size: str) -> None:
    """Containers have 64 MB of it; here a batch does not fit, or not even a lock."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("mounting a small /dev/shm needs root and unshare: this test did NOT run")
    large = ("dataset.num_workers=2", "dataset.max_tokens=1600000", "task.update_seconds=60")
    ended = commands.call(_with_little, size, tiny.lsah(tmp_path, 8, *large))
    if "unshare failed" in ended.output:
        pytest.skip("this container may not mount: this test did NOT run")
    assert ended.code == 0, ended.output[-3000:]
    assert "/dev/shm has no room" in ended.output and "--shm-size" in ended.output
    assert checkpoints.num_updates(tmp_path / "smoke_lsah/checkpoints/checkpoint_last.pt") == 8


def _with_little(size: str, arguments: list[str]) -> int:
    small = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec python -m mms_recipes.train "$@"'
    python = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shell = ["unshare", "-m", "bash", "-c", small, "bash", *arguments]
    return subprocess.run(shell, check=False, env=os.environ | python, cwd=commands.REPOSITORY).returncode
