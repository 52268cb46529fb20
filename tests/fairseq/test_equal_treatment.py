"""A job over N languages is N jobs: trained together or one by one, each language ends the same."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mms_recipes import adapter_files
from mms_recipes.models.adapters import AdapterStack
from mms_recipes.optimizers import LanguageAdam
from tests.fairseq import tones
from tests.fairseq.small import Pretrained

OVERRIDES = ("optimization.max_update=6", "dataset.validate_interval_updates=3", "model.adapter_dim=4")
OVERRIDES += ("checkpoint.save_interval_updates=0", "optimization.clip_norm=0.5")
# Adam turns a gradient of 1e-9, which is rounding, into a full step: a larger epsilon keeps rounding small
OVERRIDES += ("optimizer.adam_eps=1e-4",)


def train(data: Path, runs: Path, base: Path, langs: str, *overrides: str) -> dict[str, adapter_files.Adapter]:
    settings = (f"model.base={base}", f"task.langs=[{langs}]", *OVERRIDES, *overrides)
    return adapter_files.read_adapters(tones.train("smoke_lsah", data, runs, *settings) / "adapters")


MASKING = ("model.mask_prob=0.5", "model.mask_channel_prob=0.3", "model.mask_channel_length=8")


@pytest.mark.parametrize("masking", [(), MASKING])
def test_together_equals_alone(tmp_path: Path, pretrained: Pretrained, masking: tuple[str, ...]) -> None:
    data = tones.write_corpus(tmp_path / "data", train=9, dev=3)
    # languages of different size, with micro-batches that mix them when they are together
    mixed = ("eng,fra,jpn,rus", "dataset.max_tokens=60000", *masking)
    together = train(data, tmp_path / "together", pretrained.path, *mixed)
    for lang in tones.LETTERS:
        alone = train(data, tmp_path / lang, pretrained.path, lang, *masking)[lang]
        assert alone.dev_cer == together[lang].dev_cer
        assert alone.num_updates == together[lang].num_updates
        for name, tensor in alone.tensors.items():
            torch.testing.assert_close(together[lang].tensors[name], tensor, atol=1e-5, rtol=1e-4)


def test_shards_cover_the_languages_once(tmp_path: Path, pretrained: Pretrained) -> None:
    data = tones.write_corpus(tmp_path / "data", train=4, dev=2)
    whole = train(data, tmp_path / "whole", pretrained.path, "eng,fra,rus", "optimization.max_update=2")
    sharded = {}
    for shard in range(2):
        settings = ("task.num_shards=2", f"task.shard={shard}", "optimization.max_update=2")
        sharded |= train(data, tmp_path / str(shard), pretrained.path, "eng,fra,rus", *settings)
    assert sorted(sharded) == sorted(whole)
    for lang, adapter in whole.items():
        for name, tensor in adapter.tensors.items():
            torch.testing.assert_close(sharded[lang].tensors[name], tensor, atol=1e-5, rtol=1e-4)


def test_languages_are_clipped_each_by_itself() -> None:
    stack = AdapterStack(["eng", "fra"], [5, 7], num_blocks=1, dim=8, width=2)
    stack.reset(seed=1, init="kaiming")
    for parameter in stack.parameters():
        scale = torch.tensor([10.0, 0.001])[parameter.language_of_row]
        parameter.grad = torch.ones_like(parameter) * scale.view(-1, *[1] * (parameter.dim() - 1))
    before = [parameter.grad.clone() for parameter in stack.parameters()]
    cfg = OmegaConf.create(
        {"adam_betas": [0.9, 0.98], "lr": [0.1], "adam_eps": 1e-8, "weight_decay": 0.0, "fp16_adam_stats": False}
    )
    LanguageAdam(cfg, list(stack.parameters())).clip_grad_norm(1.0)
    square = torch.zeros(2)
    for parameter, old in zip(stack.parameters(), before, strict=True):
        rows = parameter.language_of_row
        assert torch.equal(parameter.grad[rows == 1], old[rows == 1])  # below the bound: left as it was
        squares = parameter.grad.square().flatten(1).sum(1) if parameter.dim() > 1 else parameter.grad.square()
        square.index_add_(0, rows, squares)
    assert square[0].sqrt() == pytest.approx(1.0, rel=1e-4)
