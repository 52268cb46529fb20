"""Submit training as a user does, in a process of its own, and ask for its status."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
# a cluster without GPUs; short, but long enough to write a checkpoint in between
SMALL = ("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1")
SMALL += ("optimization.max_update=4", "dataset.validate_interval_updates=2", "checkpoint.save_interval_updates=2")
SMALL += ("dataset.max_tokens=60000", "model.mask_prob=0.3", "optimizer.adam_eps=1e-4")
SECONDS = 300.0  # only a test that fails waits so long


def command(experiment: str, data: Path, runs: Path, *overrides: str) -> list[str]:
    """`python -m mms_recipes.train -m ... hydra/launcher=slurm`."""
    train = [sys.executable, "-m", "mms_recipes.train", "-m", f"+experiment={experiment}"]
    return [*train, f"task.data={data}", f"runs={runs}", *SMALL, *overrides]


def run(arguments: list[str], folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run a command; its output and errors come as one."""
    return subprocess.run(
        arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def submit(experiment: str, data: Path, runs: Path, *overrides: str) -> str:
    """Submit; return what was said."""
    done = run(command(experiment, data, runs, *overrides))
    assert done.returncode == 0, done.stdout
    return done.stdout


def status(folder: Path) -> dict[str, dict[str, Any]]:
    """What `status --json` tells of each part of a run, by its name."""
    asked = [sys.executable, "-m", "mms_recipes.status", str(folder), "--json"]
    told = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert told.stdout, told.stderr
    return {part["name"]: part for part in json.loads(told.stdout)["parts"]}


def wait(folder: Path, *states: str) -> dict[str, dict[str, Any]]:
    """Wait until all parts of a run are in one of `states` (default: ended); return them."""
    deadline = time.monotonic() + SECONDS
    while True:
        parts = status(folder)
        if all(part["state"] in (states or ("done", "stopped", "failed")) for part in parts.values()):
            return parts
        assert time.monotonic() < deadline, parts
        time.sleep(0.5)
