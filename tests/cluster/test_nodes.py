"""One job on two nodes of a real Slurm, gloo on CPU: what one process does, in two."""

import sys
from pathlib import Path

import pytest
import torch

from mms_recipes import adapter_files
from tests.cluster import jobs
from tests.fairseq import tones

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, adapter_files.Adapter]:
    """What one process trains."""
    settings = [setting for setting in jobs.SMALL if "launcher" not in setting]
    run = tones.train("smoke_lsah", data, tmp_path_factory.mktemp("one"), f"model.base={base}", *settings)
    return adapter_files.read_adapters(run / "adapters")


def assert_equal(one: dict[str, adapter_files.Adapter], run: Path) -> None:
    two = adapter_files.read_adapters(run / "adapters")
    assert sorted(one) == sorted(two) == sorted(tones.LETTERS)
    for lang, adapter in one.items():
        assert two[lang].dev_cer == adapter.dev_cer
        for name, tensor in adapter.tensors.items():
            torch.testing.assert_close(two[lang].tensors[name], tensor, atol=1e-5, rtol=1e-4)


def test_two_nodes(
    cluster: Path, one: dict[str, adapter_files.Adapter], base: Path, data: Path, tmp_path: Path
) -> None:
    world = "distributed_training.distributed_world_size=2"  # the launcher finds that it takes two nodes
    said = jobs.submit("smoke_lsah", data, tmp_path, f"model.base={base}", world)
    assert "1 run(s)" in said
    run = tmp_path / "smoke_lsah"
    parts = jobs.wait(run)
    assert [part["state"] for part in parts.values()] == ["done"], parts
    (log, other) = sorted((run / "slurm").glob("*_log.out"))
    assert "done:" in log.read_text() and "languages" not in other.read_text()
    assert_equal(one, run)


def test_two_ranks_of_one_machine(
    one: dict[str, adapter_files.Adapter], base: Path, data: Path, tmp_path: Path
) -> None:
    """By configuration alone, on CPU."""
    train = [sys.executable, "-m", "mms_recipes.train", "+experiment=smoke_lsah", f"task.data={data}"]
    train += [
        f"runs={tmp_path}",
        f"model.base={base}",
        *(setting for setting in jobs.SMALL if "launcher" not in setting),
    ]
    done = jobs.run([*train, "common.cpu=true", "distributed_training.distributed_world_size=2"])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("num_updates 4") == 2  # on dev and at the end, of the first rank alone
    assert_equal(one, tmp_path / "smoke_lsah")


def test_a_job_of_another_size_than_asked_for(cluster: Path, base: Path, data: Path, tmp_path: Path) -> None:
    """Inside the allocation: srun started two processes, and the configuration says three."""
    srun = ["srun", "--nodes=2", "--ntasks=2", "--kill-on-bad-exit=1"]
    train = [sys.executable, "-m", "mms_recipes.train", "+experiment=smoke_lsah", f"task.data={data}"]
    train += [f"runs={tmp_path}", f"model.base={base}", "distributed_training.distributed_world_size=3"]
    done = jobs.run([*srun, *train])
    assert done.returncode != 0
    told = "distributed_world_size=3, but Slurm started 2 processes on 2 node(s), with 1 device(s) each: 2 ranks"
    assert told in done.stdout and "start them on 3 nodes, or set" in done.stdout
