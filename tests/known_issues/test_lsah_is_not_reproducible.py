"""The same LSAH command gave other adapters each time, with two threads and more."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from mms_recipes import checkpoints
from mms_recipes.models.adapters import PAD_LOGIT, StackedAdapters, StackedHeads, take_rows
from mms_recipes.recognizer import load_recognizer
from tests.known_issues import commands
from tests.known_issues.lab import Lab

THREADS = 2  # at least: with one the order of a sum is always the same
# large enough that torch cuts the sums of the adapters' and heads' gradients among threads
WIDE = ("model.adapter_dim=64", "model.mask_prob=0.3", "task.update_seconds=10", "dataset.max_tokens=640000")


def with_threads(threads: int, command: str, *arguments: str) -> Any:
    torch.set_num_threads(threads)
    return commands.as_typed(command, arguments)


@pytest.mark.parametrize("threads", [1, THREADS])
def test_gradients_are_equal_to_the_bit(threads: int) -> None:
    ended = commands.call(compare_gradients, threads)
    assert ended.code == 0, ended.output


def compare_gradients(threads: int) -> None:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    adapters, heads = StackedAdapters(20, 192, 16), StackedHeads([40, 300, 7, 9], 192)
    for parameter in (*adapters.parameters(), *heads.parameters()):
        torch.nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)
    x_BTC, langs_B = torch.randn(24, 30, 192, generator=generator), torch.arange(24) % 4
    found = set()
    for _ in range(20):
        for module in (adapters, heads):
            module.zero_grad()
        logits = heads(adapters(x_BTC, langs_B), langs_B)
        logits.masked_fill(logits == PAD_LOGIT, 0).square().sum().backward()
        gradients = [parameter.grad for module in (adapters, heads) for parameter in module.parameters()]
        found.add(b"".join(gradient.numpy().tobytes() for gradient in gradients if gradient is not None))
    assert len(found) == 1, f"{len(found)} different gradients in 20 passes over the same batch"


def test_emissions_are_equal_to_the_bit(tiny: Lab) -> None:
    ended = commands.call(compare_emissions, tiny.adapters, sorted((tiny.data / "eng/audio").glob("test_*.wav")))
    assert ended.code == 0, ended.output


def compare_emissions(adapters: Path, files: list[Path]) -> None:
    torch.set_num_threads(THREADS)
    model = load_recognizer(adapters, torch.device("cpu"), ["eng", "fra"])
    audio = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]).repeat(20) for file in files for _ in range(4)]
    audio = [torch.nn.functional.layer_norm(samples, samples.shape) for samples in audio]
    lengths_B = torch.tensor([len(samples) for samples in audio])
    padded_BS = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True)
    langs = ["eng", "fra"] * (len(audio) // 2)
    found = {model.emissions(padded_BS, lengths_B, langs)[0].numpy().tobytes() for _ in range(5)}
    assert len(found) == 1, f"{len(found)} different emissions of the same audio"


def test_rows_are_taken_as_by_indexing() -> None:
    for shape in ((5,), (5, 3), (5, 3, 2)):
        table = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for index in (torch.tensor([4, 0, 4]), torch.tensor([[1, 1], [3, 4]])):
            taken = take_rows(table, index)
            assert torch.equal(taken, table[index])
            weights = torch.randn_like(taken)
            (one,) = torch.autograd.grad((taken * weights).sum(), table)
            (other,) = torch.autograd.grad((table[index] * weights).sum(), table)
            torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_training_and_going_on_are_equal_to_the_bit(tiny: Lab, tmp_path: Path) -> None:
    """Two runs, and one that was stopped half way and went on."""

    def train(name: str) -> dict[str, torch.Tensor]:
        arguments = tiny.lsah(tmp_path / name, 8, *WIDE, "checkpoint.keep_interval_updates=10")
        ended = commands.call(with_threads, THREADS, "train", *arguments, timeout=300)
        assert ended.code == 0, ended.output
        tensors: dict[str, torch.Tensor] = checkpoints.load_checkpoint(folder(name) / "checkpoint_last.pt")["model"]
        return tensors

    def folder(name: str) -> Path:
        return tmp_path / name / "smoke_lsah/checkpoints"

    one, other = train("one"), train("other")
    (half_way,) = folder("one").glob("checkpoint_*_4.pt")
    folder("stopped").mkdir(parents=True)
    shutil.copy(half_way, folder("stopped") / "checkpoint_last.pt")
    gone_on = train("stopped")
    for name, tensor in one.items():
        assert torch.equal(other[name], tensor), name
        assert torch.equal(gone_on[name], tensor), name
