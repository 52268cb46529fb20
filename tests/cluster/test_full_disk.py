"""A disk that is really full while a run writes to it: nothing is torn, and with room again the run goes on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mms_recipes import adapter_files, checkpoints
from mms_recipes.cluster import run_state
from tests.cluster import jobs
from tests.fairseq import tones

pytestmark = pytest.mark.slow

UPDATES = 30
# LSAH writes adapters after every second update, the others checkpoints alone
SETTINGS = (f"optimization.max_update={UPDATES}", "checkpoint.save_interval_updates=2", "common.log_interval=1")
RUNS = {
    "smoke_ctc": ("model.base", "dataset.validate_interval_updates=1000"),
    "smoke_lsah": ("model.base", "dataset.validate_interval_updates=2"),
}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system: {mounted.stderr.strip()} (needs root): this test did NOT run")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, room: int) -> Path:
    """Write a file that leaves `room` bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            size = file.tell()
        file.truncate(size - room)
    return filler


def command(experiment: str, base: Path, data: Path, runs: Path) -> list[str]:
    key, *settings = RUNS[experiment]
    train = [sys.executable, "-m", "mms_recipes.train", f"+experiment={experiment}", f"task.data={data}"]
    return [*train, f"runs={runs}", f"{key}={base}", *SETTINGS, *settings]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(arguments, cwd=jobs.REPOSITORY, env=ENVIRONMENT, **pipes)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(("experiment", "room"), [("smoke_ctc", 40_000), ("smoke_lsah", 0)])  # part of a file, none
def test_run_on_a_full_disk(experiment: str, room: int, base: Path, data: Path, disk: Path, tmp_path: Path) -> None:
    arguments = command(experiment, base, data, disk)
    run = disk / experiment
    last = run / "checkpoints/checkpoint_last.pt"
    process = start(arguments)
    while not last.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    filler = fill(disk, room)
    said, _ = process.communicate(timeout=jobs.SECONDS)
    assert process.returncode == 1, said[-3000:]
    assert "Traceback" not in said and "Logging error" not in said, said[-3000:]
    error = said.strip().splitlines()[-1]
    assert "could not be written (" in error and "No space left" in error, error
    assert "untouched. Free some space and start the same command again: it resumes" in error
    done = checkpoints.num_updates(last)
    assert checkpoints.damage(last) is None and 2 <= done < UPDATES
    assert not [path for path in run.rglob("*") if ".tmp" in path.name or path.name.startswith(".link")]
    assert not (run / run_state.CLAIM).exists()
    assert run_state.collect(run)[0].state == "failed"

    early = start(arguments)
    said, _ = early.communicate(timeout=jobs.SECONDS)
    assert early.returncode == 1 and "Traceback" not in said and "Logging error" not in said, said[-3000:]
    assert "free some space" in said.splitlines()[-1], said
    assert checkpoints.num_updates(last) == done and not (run / run_state.CLAIM).exists()

    filler.unlink()
    again = start(arguments)
    said, _ = again.communicate(timeout=jobs.SECONDS)
    assert again.returncode == 0 and "(resuming)" in said, said[-3000:]
    whole = tmp_path / experiment
    subprocess.run(command(experiment, base, data, tmp_path), check=True, capture_output=True, env=ENVIRONMENT)
    one, other = (checkpoints.load_checkpoint(folder / "checkpoints/checkpoint_last.pt") for folder in (run, whole))
    for name, tensor in other["model"].items():
        torch.testing.assert_close(one["model"][name], tensor, atol=0, rtol=0)
    if experiment == "smoke_lsah":
        found, expected = (adapter_files.read_adapters(folder / "adapters") for folder in (run, whole))
        assert sorted(found) == sorted(expected) == sorted(tones.LETTERS)
        for lang, adapter in expected.items():
            assert found[lang].num_updates == adapter.num_updates
            for key, tensor in adapter.tensors.items():
                torch.testing.assert_close(found[lang].tensors[key], tensor, atol=0, rtol=0)
