"""What is refused before anything is submitted, and what a failed job says of itself."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mms_recipes.cluster import run_state
from tests.cluster import jobs

pytestmark = pytest.mark.slow


def refused(base: Path, data: Path, runs: Path, *overrides: str) -> str:
    """Submit what must be refused, leaving nothing in the queue; return what was said."""
    done = jobs.run(jobs.command("smoke_lsah", data, runs, f"model.base={base}", *overrides))
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert not list(runs.glob("*/submissions"))
    return done.stdout


def test_unknown_partition(cluster: Path, base: Path, data: Path, tmp_path: Path) -> None:
    said = refused(base, data, tmp_path, "hydra.launcher.partition=gpus")
    assert "sbatch refused the job: " in said and "invalid partition" in said.lower()
    assert "hydra.launcher.partition=gpus, there are: urgent, work" in said


def test_shard_out_of_range(cluster: Path, base: Path, data: Path, tmp_path: Path) -> None:
    said = refused(base, data, tmp_path, "task.num_shards=3", "task.shard=range(1,4)")
    assert "shard is 3, expected 0 to 2 (num_shards=3, counted from 0)" in said


def test_world_that_the_nodes_do_not_have(base: Path, data: Path, tmp_path: Path) -> None:
    said = refused(base, data, tmp_path, "distributed_training.distributed_world_size=32", "hydra.launcher.nodes=1")
    assert "distributed_world_size=32, but 1 node(s) with 1 rank(s) each are 1: set hydra.launcher.nodes" in said


def test_several_jobs_for_one_folder(base: Path, data: Path, tmp_path: Path) -> None:
    said = refused(base, data, tmp_path, "common.seed=1,1")
    assert (
        "smoke_lsah/seed_1: several jobs of this command would train in it (the same settings are given twice)" in said
    )
    assert "'name=x_${common.seed}'" in said


def test_a_failed_job_says_why(cluster: Path, base: Path, data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    (broken / "fra/dev.ltr").unlink()
    jobs.submit("smoke_lsah", broken, tmp_path / "runs", f"model.base={base}")
    (part,) = jobs.wait(tmp_path / "runs/smoke_lsah").values()
    assert part["state"] == "failed" and "dev.ltr" in part["reason"] and "\n" not in part["reason"]
    told = subprocess.run(["scontrol", "show", "job", part["job"]], capture_output=True, text=True, check=True).stdout
    assert "JobState=FAILED" in told
    watch = jobs.run([sys.executable, "-m", "mms_recipes.status", str(tmp_path / "runs/smoke_lsah"), "--watch"])
    assert watch.returncode == 1 and "failed" in watch.stdout


def test_a_job_that_ends_before_it_trains(cluster: Path, base: Path, data: Path, tmp_path: Path) -> None:
    """The reason is found in its log."""
    setup = 'hydra.launcher.setup=["export WORLD_SIZE=3 RANK=0"]'
    world = "distributed_training.distributed_world_size=1"
    jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", world, setup)
    (part,) = jobs.wait(tmp_path / "smoke_lsah").values()
    assert part["state"] == "failed"
    told = r"job \d+ ended before it trained \(Slurm: FAILED\): .*world_size=1, but torchrun started 3 processes"
    assert re.match(told, part["reason"]), part["reason"]


def test_a_run_that_is_being_trained(base: Path, data: Path, tmp_path: Path) -> None:
    """The same command typed twice, without Slurm: the second is refused, and the first is not disturbed."""
    train = [sys.executable, "-m", "mms_recipes.train", "+experiment=smoke_lsah", f"task.data={data}"]
    train += [f"runs={tmp_path}", f"model.base={base}", "optimization.max_update=100000"]
    running = tmp_path / "smoke_lsah" / run_state.CLAIM
    first = subprocess.Popen(train, cwd=jobs.REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + jobs.SECONDS
        while not running.exists():
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.1)
        second = jobs.run(train)
        assert second.returncode == 1 and f"is being trained by process {first.pid} on " in second.stdout
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    (part,) = jobs.status(tmp_path / "smoke_lsah").values()
    assert part["state"] == "failed" and "ended without a word" in part["reason"]
