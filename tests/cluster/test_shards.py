"""Shards of an evaluation on a real Slurm, as docs/cluster.md starts them: an array, and the ranks of one job."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import jobs
from tests.fairseq import tones
from tools import merge_scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def adapters(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("adapters")
    short = ("optimization.max_update=2", "dataset.validate_interval_updates=2")
    return tones.train("smoke_lsah", data, runs, *short, f"model.base={base}") / "adapters"


def evaluation(adapters: Path, data: Path, out: Path, *settings: str) -> str:
    words = [sys.executable, "-m", "mms_recipes.evaluate", f"checkpoint={adapters}", f"data={data}", f"out={out}"]
    return shlex.join([*words, "split=dev", "device=cpu", *settings])


def submit(command: str, log: Path, *options: str) -> None:
    """Submit a command and wait until it has ended well."""
    asked = ["sbatch", "--wait", f"--output={log}", f"--chdir={jobs.REPOSITORY}", *options, f"--wrap={command}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=jobs.SECONDS)
    assert done.returncode == 0, done.stderr + "".join(path.read_text() for path in log.parent.glob("*.log"))


def test_array_and_ranks_find_what_one_job_finds(cluster: Path, adapters: Path, data: Path, tmp_path: Path) -> None:
    whole = evaluation(adapters, data, tmp_path / "whole")
    array = evaluation(adapters, data, tmp_path / "array", "num_shards=3") + " shard=$SLURM_ARRAY_TASK_ID"
    from_rank = ("num_shards=${oc.env:SLURM_NTASKS}", "shard=${oc.env:SLURM_PROCID}")
    ranks = f"srun --kill-on-bad-exit {evaluation(adapters, data, tmp_path / 'ranks', *from_rank)}"
    submit(array, tmp_path / "array-%a.log", "--array=0-2%2")
    submit(ranks, tmp_path / "ranks.log", "--nodes=2", "--ntasks=2")
    submit(whole, tmp_path / "whole.log")
    found = []
    for name, num_shards in (("whole", 0), ("array", 3), ("ranks", 2)):
        assert len(list((tmp_path / name).glob("shards/*.json"))) == num_shards
        assert num_shards == 0 or merge_scores.main([str(tmp_path / name)]) == 0
        document = json.loads((tmp_path / name / "scores.json").read_text())
        found.append([document["languages"], document["macro"], (tmp_path / name / "hypotheses.tsv").read_text()])
    assert found[0] == found[1] == found[2]
    assert sum(row["utterances"] for row in found[0][0].values()) == 3 * len(tones.LETTERS)
