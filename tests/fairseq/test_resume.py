"""SIGKILL at any moment, then the same command: the run ends with the same parameters as if nothing had happened."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mms_recipes import adapter_files, checkpoints
from tests.fairseq import tones
from tests.fairseq.small import Pretrained

pytestmark = pytest.mark.slow

COMMON = ("checkpoint.save_interval_updates=2", "dataset.validate_interval_updates=4")
RUNS = {
    "smoke_pretrain": ("optimization.max_update=14", "model.encoder_layerdrop=0.2", "model.dropout=0.1"),
    "smoke_ctc": (
        "optimization.max_update=14",
        "model.mask_prob=0.5",
        "model.mask_channel_prob=0.3",
        "model.layerdrop=0.2",
    ),
    "smoke_lsah": ("optimization.max_update=14", "model.mask_prob=0.5", "model.mask_channel_prob=0.3"),
    "smoke_lid": ("optimization.max_update=14", "task.speed_prob=0.5", "model.mask_prob=0.3", "model.layerdrop=0.2"),
}
BASE_KEY = dict.fromkeys(("smoke_ctc", "smoke_lsah", "smoke_lid"), "model.base")  # not pretraining


@pytest.mark.parametrize("experiment", RUNS)
def test_killed_run_ends_as_an_uninterrupted_one(tmp_path: Path, pretrained: Pretrained, experiment: str) -> None:
    data = tones.write_corpus(tmp_path / "data", train=12, dev=2)
    base = [f"{BASE_KEY[experiment]}={pretrained.path}"] if experiment in BASE_KEY else []
    settings = (*base, *COMMON, *RUNS[experiment])
    # both in processes of their own: the last bit of a sum depends on how memory lies, which differs inside pytest
    train = [sys.executable, "-m", "mms_recipes.train", f"+experiment={experiment}", f"task.data={data}", *settings]
    subprocess.run([*train, f"runs={tmp_path / 'whole'}"], check=True, capture_output=True)
    whole = tmp_path / "whole" / experiment
    command = [*train, f"runs={tmp_path / 'killed'}"]
    last = tmp_path / "killed" / experiment / "checkpoints" / "checkpoint_last.pt"
    kills = 0
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        written = last.stat().st_mtime_ns if last.exists() else 0
        while process.poll() is None and (not last.exists() or last.stat().st_mtime_ns == written):
            time.sleep(0.005)
        if kills < 2 and process.poll() is None:  # a checkpoint was written just now: kill somewhere after it
            time.sleep(random.uniform(0, 0.3))
            os.kill(process.pid, signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            continue
        output, _ = process.communicate()
        assert process.returncode == 0, output[-2000:]
        break
    assert kills >= 1
    state, expected = (
        checkpoints.load_checkpoint(f / "checkpoints/checkpoint_last.pt") for f in (last.parents[1], whole)
    )
    assert state["optimizer_history"][-1]["num_updates"] == 14
    for name, tensor in expected["model"].items():
        torch.testing.assert_close(state["model"][name], tensor, atol=0, rtol=0)
    if experiment == "smoke_lsah":
        for name in os.listdir(whole / "adapters"):
            adapters = [adapter_files.read_adapter(folder / "adapters" / name) for folder in (whole, last.parents[1])]
            assert adapters[0].num_updates == adapters[1].num_updates
            for key, tensor in adapters[0].tensors.items():
                torch.testing.assert_close(adapters[1].tensors[key], tensor, atol=0, rtol=0)


def test_on_another_number_of_ranks(tmp_path: Path, pretrained: Pretrained) -> None:
    """In mid-epoch, past half of it, from one rank to two: what each update has stays the same."""
    data = tones.write_corpus(tmp_path / "data", train=20, dev=3)
    train = [sys.executable, "-m", "mms_recipes.train", "+experiment=smoke_ctc", f"task.data={data}"]
    train += [f"model.base={pretrained.path}", "dataset.max_tokens=128000", "task.hours_per_update=null"]
    train += ["dataset.validate_interval_updates=1000", "optimizer.adam_eps=1e-4", "common.cpu=true"]
    train += ["optimization.max_update=7", "checkpoint.save_interval_updates=5"]
    alone = [*train, f"runs={tmp_path / 'whole'}", "optimization.update_freq=[2]"]
    subprocess.run(alone, check=True, capture_output=True)
    whole, both = (tmp_path / name / "smoke_ctc/checkpoints" for name in ("whole", "both"))
    both.mkdir(parents=True)
    (at_five,) = whole.glob("checkpoint_*_5.pt")
    shutil.copy(at_five, both / "checkpoint_last.pt")
    two = [*train, f"runs={tmp_path / 'both'}", "distributed_training.distributed_world_size=2"]
    done = subprocess.run(two, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    said = done.stdout + done.stderr
    assert "was written by 1 rank(s) with update_freq 2, this is 2 with 1" in said
    found, expected = (checkpoints.load_checkpoint(folder / "checkpoint_last.pt")["model"] for folder in (both, whole))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4)
