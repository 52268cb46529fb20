"""An array of LSAH shards on a real Slurm, from two submissions at once to the merged checkpoint."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mms_recipes import adapter_files
from mms_recipes.cluster import run_state
from tests.cluster import jobs
from tests.fairseq import tones

pytestmark = pytest.mark.slow

SHARDS = ("task.num_shards=3", "task.shard=range(0,3)")


@pytest.fixture(scope="module")
def full(cluster: Path) -> Iterator[str]:
    """A job that fills both nodes until it is cancelled."""
    asked = ["sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 3600"]
    job = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    yield job
    subprocess.run(["scancel", job], check=False)


@pytest.fixture(scope="module")
def run(full: str, base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's folder after the same command was typed twice at once, the array waiting for nodes."""
    runs = tmp_path_factory.mktemp("runs")
    two = "hydra.launcher.array_parallelism=2"
    command = jobs.command("smoke_lsah", data, runs, f"model.base={base}", *SHARDS, two)
    pipes = {"cwd": jobs.REPOSITORY, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    said = [process.communicate(timeout=jobs.SECONDS)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    (runs / "said.json").write_text(json.dumps(said))
    return runs / "smoke_lsah"


def test_one_of_two_submissions_at_once_submits(run: Path) -> None:
    said = json.loads((run.parent / "said.json").read_text())
    assert sorted("submitted job" in one for one in said) == [False, True], said
    late = next(one for one in said if "submitted job" not in one)
    assert late.count("not submitted: job") == 3 and "nothing to submit" in late
    (submission,) = run_state.submissions(run)
    assert sorted(path.name for path in submission.jobs.values()) == ["shard_0", "shard_1", "shard_2"]
    text = json.loads(submission.path.read_text())["sbatch"]
    assert "#SBATCH --array=0-2%2" in text and "#SBATCH --requeue" in text


def test_waiting_is_pending(run: Path) -> None:
    parts = jobs.status(run)
    assert {name: part["state"] for name, part in parts.items()} == dict.fromkeys(
        ("shard_0", "shard_1", "shard_2"), "pending"
    )
    assert all(part["reason"] in ("Resources", "Priority", "None") for part in parts.values()), parts


@pytest.fixture(scope="module")
def trained(run: Path, full: str) -> Path:
    subprocess.run(["scancel", full], check=True)
    deadline = time.monotonic() + jobs.SECONDS
    seen: set[str] = set()
    now: set[str] = set()
    while now != {"done"}:
        parts = jobs.status(run)
        now = {part["state"] for part in parts.values()}
        seen |= now
        assert "failed" not in seen and time.monotonic() < deadline, parts
        time.sleep(0.5)
    assert "running" in seen
    return run


def test_shards_train_what_one_job_trains(trained: Path, base: Path, data: Path, tmp_path: Path) -> None:
    parts = jobs.status(trained)
    assert [part["num_updates"] for part in parts.values()] == [4, 4, 4]
    langs = {one["lang"]: one["dev_cer"] for part in parts.values() for one in part["languages"]}
    assert sorted(langs) == sorted(tones.LETTERS) and all(isinstance(rate, float) for rate in langs.values())
    settings = [setting for setting in jobs.SMALL if "launcher" not in setting]
    whole = adapter_files.read_adapters(
        tones.train("smoke_lsah", data, tmp_path, f"model.base={base}", *settings) / "adapters"
    )
    for shard in ("shard_0", "shard_1", "shard_2"):
        for lang, adapter in adapter_files.read_adapters(trained / shard / "adapters").items():
            assert adapter.dev_cer == whole[lang].dev_cer
            for name, tensor in adapter.tensors.items():
                torch.testing.assert_close(tensor, whole[lang].tensors[name], atol=1e-5, rtol=1e-4)


def test_logs_are_per_rank(trained: Path) -> None:
    (submission,) = run_state.submissions(trained)
    for job in submission.jobs:
        assert "done:" in (trained / "slurm" / f"{job}_0_log.out").read_text()


def test_submitting_again_submits_nothing(trained: Path, base: Path, data: Path) -> None:
    said = jobs.submit("smoke_lsah", data, trained.parent, f"model.base={base}", *SHARDS)
    assert said.count("not submitted: done, 4 of 4 updates") == 3 and "nothing to submit" in said


def test_another_configuration_is_refused(trained: Path, base: Path, data: Path) -> None:
    done = jobs.run(jobs.command("smoke_lsah", data, trained.parent, f"model.base={base}", *SHARDS, "task.seed=3"))
    assert done.returncode == 1
    assert "shard_0 was made with another configuration (task.seed: 1 there, 3 here)" in done.stdout
    assert "accept_changes=true" in done.stdout
    here = jobs.command("smoke_lsah", data, trained.parent, f"model.base={base}", "task.num_shards=3", "task.shard=0")
    done = jobs.run([word for word in here if "launcher" not in word] + ["common.seed=5"])  # without Slurm
    assert done.returncode == 1 and "common.seed: 1 there, 5 here" in done.stdout
    assert jobs.status(trained)["shard_0"]["state"] == "done"


def test_only_what_is_missing_is_submitted(trained: Path, base: Path, data: Path, cluster: Path) -> None:
    """A shard whose job was killed is failed, refused by merge, submitted again alone, and goes on."""
    more = ("optimization.max_update=6", "task.shard=range(0,3)")
    said = jobs.submit("smoke_lsah", data, trained.parent, f"model.base={base}", *SHARDS, *more)
    assert "3 run(s)" in said
    job = next(job for job, folder in run_state.submissions(trained)[-1].jobs.items() if folder.name == "shard_1")
    subprocess.run(["scancel", job], check=True)
    parts = jobs.wait(trained)
    assert parts["shard_0"]["state"] == parts["shard_2"]["state"] == "done"
    reason = parts["shard_1"]["reason"]  # of a task that still waited Slurm keeps no record
    assert parts["shard_1"]["state"] == "failed" and ("CANCELLED" in reason or "cancelled while it waited" in reason)
    merge = [sys.executable, "tools/merge_adapters.py", str(trained), str(trained / "all.pt")]
    refused = jobs.run(merge)
    assert refused.returncode == 1 and "shard_1 is failed" in refused.stdout and "--allow-missing" in refused.stdout
    assert not (trained / "all.pt").exists()
    some = jobs.run([*merge, "--allow-missing"])
    assert some.returncode == 0 and "merged although shard_1 is failed" in some.stdout
    said = jobs.submit("smoke_lsah", data, trained.parent, f"model.base={base}", *SHARDS, *more)
    assert said.count("not submitted: done, 6 of 6 updates") == 2 and "1 run(s)" in said
    parts = jobs.wait(trained)
    assert [part["state"] for part in parts.values()] == ["done"] * 3, parts
    merged = jobs.run(merge)
    assert merged.returncode == 0, merged.stdout
    assert sorted(adapter_files.read_adapters(trained / "all.pt")) == sorted(tones.LETTERS)
    rows = (trained / "all.tsv").read_text().splitlines()
    assert rows[0].split("\t") == ["lang", "dev_cer", "num_updates", "file"]
    assert [row.split("\t")[0] for row in rows[1:]] == sorted(tones.LETTERS)
