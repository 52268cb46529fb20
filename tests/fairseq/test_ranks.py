"""Two ranks of one job (gloo, on CPU): what one process does, in two."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mms_recipes import adapter_files, checkpoints
from tests.fairseq import tones
from tests.fairseq.small import Pretrained

pytestmark = pytest.mark.slow


def train_on_two_ranks(experiment: str, data: Path, runs: Path, *overrides: str) -> Path:
    """Train with one process per rank; return the run's folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {
        "world_size": 2,
        "no_spawn": "true",
        "backend": "gloo",
        "init_method": f"tcp://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "mms_recipes.train", f"+experiment={experiment}", f"task.data={data}"]
    command += [f"runs={runs}", *(f"distributed_training.distributed_{key}={value}" for key, value in world.items())]
    processes = [
        subprocess.Popen(
            [*command, f"distributed_training.distributed_rank={rank}", *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(output[-2000:] for output in outputs)
    return runs / experiment


@pytest.mark.parametrize(
    ("langs", "shares"),
    [(sorted(tones.LETTERS), ()), (["eng"], ("task.update_seconds=1",))],
    ids=["rounds of many batches", "rounds of one batch: a rank has none"],
)
def test_lsah_on_two_ranks_is_lsah_on_one(
    tmp_path: Path, pretrained: Pretrained, langs: list[str], shares: tuple[str, ...]
) -> None:
    data = tones.write_corpus(tmp_path / "data", langs, train=9, dev=3)
    settings = (f"model.base={pretrained.path}", "optimization.max_update=4", "dataset.validate_interval_updates=2")
    settings += ("dataset.max_tokens=60000", "model.mask_prob=0.3", "optimizer.adam_eps=1e-4", *shares)
    one = adapter_files.read_adapters(tones.train("smoke_lsah", data, tmp_path / "one", *settings) / "adapters")
    two = adapter_files.read_adapters(train_on_two_ranks("smoke_lsah", data, tmp_path / "two", *settings) / "adapters")
    assert sorted(one) == sorted(two) == langs
    for lang, adapter in one.items():
        assert (two[lang].dev_cer, two[lang].num_updates) == (adapter.dev_cer, adapter.num_updates)
        for name, tensor in adapter.tensors.items():
            torch.testing.assert_close(two[lang].tensors[name], tensor, atol=1e-5, rtol=1e-4)


EQUAL = {
    "smoke_pretrain": ("model.encoder_layerdrop=0", "model.dropout=0.1"),
    "smoke_ctc": ("model.mask_prob=0.5", "model.mask_channel_prob=0.3", "model.dropout=0.1", "model.layerdrop=0"),
    "smoke_lid": ("model.mask_prob=0.3", "task.speed_prob=0.5", "model.layerdrop=0"),
}


@pytest.mark.parametrize("experiment", EQUAL)
def test_two_ranks_are_one_with_twice_the_accumulation(tmp_path: Path, pretrained: Pretrained, experiment: str) -> None:
    """With masks, dropout, negatives and Gumbel noise; layer drop leaves out the same blocks on all ranks at once."""
    data = tones.write_corpus(tmp_path / "data", train=20, dev=3)
    settings = [] if experiment == "smoke_pretrain" else [f"model.base={pretrained.path}"]
    settings += ["optimization.max_update=4", "dataset.validate_interval_updates=4", "dataset.max_tokens=128000"]
    settings += ["optimizer.adam_eps=1e-4", "task.hours_per_update=null", *EQUAL[experiment]]
    one = tones.train(experiment, data, tmp_path / "one", *settings, "optimization.update_freq=[2]")
    two = train_on_two_ranks(experiment, data, tmp_path / "two", *settings, "optimization.update_freq=[1]")
    states = [checkpoints.load_checkpoint(run / "checkpoints/checkpoint_last.pt") for run in (one, two)]
    assert [state["optimizer_history"][-1]["num_updates"] for state in states] == [4, 4]
    for name, tensor in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], tensor, atol=1e-5, rtol=1e-4)


def test_sharded_pretraining_is_pretraining(tmp_path: Path) -> None:
    """torch's FSDP on two ranks against all-reduced gradients on two ranks; and it goes on where it stopped.

    Without it logs are gathered and not summed, and checkpoints are sent from rank to rank.
    """
    data = tones.write_corpus(tmp_path / "data", train=20, dev=3)
    settings = ("optimizer.adam_eps=1e-4", "optimization.clip_norm=0.5", "model.checkpoint_activations=true")
    last = {}
    for backend in ("legacy_ddp", "fully_sharded"):
        for updates in (2, 4):
            overrides = (f"distributed_training.ddp_backend={backend}", f"optimization.max_update={updates}", *settings)
            run = train_on_two_ranks("smoke_pretrain", data, tmp_path / backend, *overrides)
        last[backend] = checkpoints.load_checkpoint(run / "checkpoints/checkpoint_last.pt", optimizer=True)
    whole, sharded = last["legacy_ddp"], last["fully_sharded"]
    assert [state["optimizer_history"][-1]["num_updates"] for state in last.values()] == [4, 4]
    assert whole["model"].keys() == sharded["model"].keys()
    for name, tensor in whole["model"].items():
        torch.testing.assert_close(sharded["model"][name], tensor, atol=1e-5, rtol=1e-4)
    for number, values in whole["last_optimizer_state"]["state"].items():
        found = sharded["last_optimizer_state"]["state"][number]
        torch.testing.assert_close(found["exp_avg"], values["exp_avg"], atol=1e-5, rtol=1e-3)


def test_sharded_pretraining_in_bfloat16(tmp_path: Path) -> None:
    """Computing in bfloat16 changes the weights by little, what is kept is float32; one process goes on from two."""
    data = tones.write_corpus(tmp_path / "data", train=20, dev=3)
    settings = ("distributed_training.ddp_backend=fully_sharded", "optimizer.adam_eps=1e-4")
    weights = {}
    for bf16 in ("false", "true"):
        overrides = (*settings, f"common.bf16={bf16}", "optimization.max_update=2")
        run = train_on_two_ranks("smoke_pretrain", data, tmp_path / bf16, *overrides)
        weights[bf16] = checkpoints.load_checkpoint(run / "checkpoints/checkpoint_last.pt")["model"]
    differences = [(weights["true"][name] - tensor).abs().max() for name, tensor in weights["false"].items()]
    assert 0 < max(differences) < 1e-2
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in weights["true"].values())
    command = [sys.executable, "-m", "mms_recipes.train", "+experiment=smoke_pretrain", f"task.data={data}"]
    command += [f"runs={tmp_path / 'true'}", *settings, "common.bf16=true", "optimization.max_update=3"]
    subprocess.run(command, check=True, capture_output=True)
    assert checkpoints.num_updates(tmp_path / "true/smoke_pretrain/checkpoints/checkpoint_last.pt") == 3
