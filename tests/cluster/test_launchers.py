"""What a launcher gets, without a Slurm: the dry run, what is refused at once, and Hydra's other launchers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mms_recipes import adapter_files, train
from tests.cluster import jobs
from tests.fairseq import tones

DRY = ("--dry-run", "task.num_shards=3", "task.shard=range(0,3)", "hydra.launcher.array_parallelism=2")


@pytest.mark.slow
def test_dry_run_prints_what_would_be_submitted(base: Path, data: Path, tmp_path: Path) -> None:
    site = ("hydra.launcher.partition=gpu", "hydra.launcher.account=speech", "hydra.launcher.timeout_min=90")
    size = (
        "hydra.launcher.gpus_per_node=8",
        "distributed_training.distributed_world_size=16",
        "hydra.launcher.mem_gb=64",
    )
    command = jobs.command("smoke_lsah", data, tmp_path / "runs", f"model.base={base}", *DRY, *site, *size)
    done = jobs.run(command, tmp_path)  # outside of the checkout: the launcher is found in whatever installation
    said = done.stdout
    assert done.returncode == 0, said
    sbatch = {line.removeprefix("#SBATCH --") for line in said.splitlines() if line.startswith("#SBATCH")}
    assert {"array=0-2%2", "partition=gpu", "account=speech", "time=90", "nodes=2", "mem=64GB", "requeue"} <= sbatch
    assert {"gpus-per-node=8", "ntasks-per-node=8", "cpus-per-task=1", "job-name=smoke_lsah"} <= sbatch
    assert f"output={tmp_path}/runs/smoke_lsah/slurm/%A_%a_0_log.out" in sbatch
    assert "\nexport SLURM_KILL_BAD_EXIT=1\n" in said and "\nsrun --unbuffered --output " in said
    runs = [line for line in said.splitlines() if line.startswith("# job ")]
    for number, line in enumerate(runs):
        assert line.startswith(
            f"# job {number}, in {tmp_path}/runs/smoke_lsah/shard_{number}: python -m mms_recipes.train "
        )
        assert f"task.shard={number}" in line and "hydra" not in line
    assert len(runs) == 3
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["+experiment=x", "hydra/launcher=slurm"], "without -m Hydra would train here; add -m to the command"),
        (["-m", "+experiment=x", "--dry-run"], "--dry-run shows what would be submitted: it goes with -m and hydra/"),
    ],
)
def test_arguments_that_would_do_something_else(arguments: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        train.prepared(arguments)


def test_a_dry_run_of_a_sites_launcher() -> None:
    """A file that extends slurm; of one that does not, Hydra says that it has no dry_run."""
    given = ["-m", "--config-dir", "mms", "+experiment=x", "hydra/launcher=ours", "--dry-run"]
    assert train.prepared(given)[-2:] == ["hydra/launcher=ours", "hydra.launcher.dry_run=true"]
    with pytest.raises(ValueError, match="it goes with -m and hydra/launcher=slurm"):
        train.prepared(["-m", "hydra/launcher=submitit_local", "--dry-run"])


def test_launcher_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"hydra/launcher=slurm: not installed; pip install '\.\[cluster\]'"):
        train.prepared(["-m", "hydra/launcher=slurm"])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_other_launchers_train_shards(launcher: str, base: Path, data: Path, tmp_path: Path) -> None:
    settings = [setting for setting in jobs.SMALL if "launcher" not in setting]
    command = [sys.executable, "-m", "mms_recipes.train", "-m", "+experiment=smoke_lsah", f"task.data={data}"]
    command += [f"runs={tmp_path}", f"model.base={base}", f"hydra/launcher={launcher}", *settings]
    done = jobs.run([*command, "task.num_shards=2", "task.shard=0,1", "optimization.max_update=2"])
    assert done.returncode == 0, done.stdout
    run = tmp_path / "smoke_lsah"
    found = [lang for shard in ("shard_0", "shard_1") for lang in adapter_files.read_adapters(run / shard / "adapters")]
    assert sorted(found) == sorted(tones.LETTERS)
    told = subprocess.run(
        [sys.executable, "-m", "mms_recipes.status", str(run), "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["states"] == {"done": 2}


def test_a_misspelt_setting_stops_at_compose_time() -> None:
    command = [sys.executable, "-m", "mms_recipes.train", "-m", "+experiment=smoke_lsah", "hydra/launcher=slurm"]
    done = jobs.run([*command, "hydra.launcher.partitoin=gpu"])
    assert done.returncode == 1 and "partitoin: no such key; nearest: " in done.stdout and "partition" in done.stdout
