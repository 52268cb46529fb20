"""What a run started from is in what it saves: a base's licence goes through training into the export."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils

from mms_recipes import adapter_files, checkpoints, licences, origins
from mms_recipes.conversion import converter
from mms_recipes.formats import fairseq_configs
from tests.fairseq import tones
from tests.fairseq.small import Pretrained
from tests.fairseq.travelling import write_adapters, write_dense

LICENCE = "cc-by-nc-4.0"
SHORT = ("optimization.max_update=4", "dataset.validate_interval_updates=4")


@pytest.fixture
def licensed(tmp_path: Path, pretrained: Pretrained) -> Path:
    """A base that says its licence inside, as a conversion leaves it; its name says nothing."""
    state = torch.load(pretrained.path, weights_only=True)
    torch.save(state | {"licence": LICENCE, "provenance": ["fairseq form of mms-1b"]}, tmp_path / "start.pt")
    return tmp_path / "start.pt"


def test_dense_training_keeps_the_licence_of_its_base(tmp_path: Path, licensed: Path) -> None:
    data = tones.write_corpus(tmp_path / "data", train=4, dev=2)
    folder = tones.train("smoke_ctc", data, tmp_path / "runs", f"model.base={licensed}", *SHORT)
    dense = folder / "checkpoints" / "checkpoint_last.pt"
    licensed.unlink()  # the checkpoint says it by itself
    converter.convert(dense, tmp_path / "hf", "huggingface")
    assert (tmp_path / "hf" / "README.md").read_text().startswith(f"---\nlicense: {LICENCE}\n")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["provenance"] == [
        "fairseq form of mms-1b",
        "trained from start.pt",
        "huggingface form of checkpoint_last.pt",
    ]


def test_language_identification_and_more_training_keep_it_too(tmp_path: Path, licensed: Path) -> None:
    data = tones.write_corpus(tmp_path / "data", train=4, dev=2)
    lid = tones.train("smoke_lid", data, tmp_path / "runs", f"model.base={licensed}", *SHORT)
    again = (f"model.base={lid / 'checkpoints' / 'checkpoint_last.pt'}", "name=again", *SHORT)
    found = tones.train("smoke_lid", data, tmp_path / "runs", *again) / "checkpoints" / "checkpoint_best.pt"
    origin = converter.read(found).origin
    assert origin.licence == LICENCE
    assert origin.provenance == ("fairseq form of mms-1b", "trained from start.pt", "trained from checkpoint_last.pt")


def save(path: Path, cfg: dict) -> dict:
    checkpoint_utils.torch_persistent_save({"cfg": cfg, "model": {}}, str(path))
    return checkpoints.load_checkpoint(path)


def test_what_is_saved_says_what_the_weights_came_from(tmp_path: Path, licensed: Path) -> None:
    dense = {"_name": "wav2vec_ctc", "w2v_path": str(licensed)}
    saved = save(tmp_path / "a.pt", {"model": dense})
    assert saved["licence"] == LICENCE and saved["provenance"][-1] == "trained from start.pt"
    assert "licence" not in save(tmp_path / "b.pt", {"model": {"_name": "wav2vec2"}, "checkpoint": {}})
    write_dense(tmp_path / "free.pt")
    cfg = {"model": dense, "checkpoint": {"finetune_from_model": str(tmp_path / "free.pt")}}
    assert save(tmp_path / "c.pt", cfg)["licence"] == licences.UNKNOWN  # its weights are those that were trained on
    assert "licence" not in checkpoints.load_checkpoint(tmp_path / "free.pt")


def test_adapters_say_it_of_a_base_that_does_not(tmp_path: Path) -> None:
    write_dense(tmp_path / "base_1b.pt")  # known by its name alone
    base = checkpoints.read_base(tmp_path / "base_1b.pt")
    for adapter in write_adapters(tmp_path / "adapters", base.path).values():
        told = dataclasses.replace(adapter, licence=base.origin.licence, provenance=["trained on base_1b.pt"])
        adapter_files.write_adapter(tmp_path / "adapters", told)
    moved = base.path.rename(tmp_path / "moved.pt")
    adapters = list(adapter_files.read_adapters(tmp_path / "adapters").values())
    adapter_files.write_one_file(tmp_path / "merged.pt", checkpoints.read_base(moved), adapters)
    for found in (converter.read(tmp_path / "merged.pt"), converter.read(tmp_path / "adapters", base=moved)):
        assert found.origin == licences.Origin(LICENCE, ("trained on base_1b.pt",))


def test_a_base_that_is_gone_is_known_by_its_name(tmp_path: Path) -> None:
    assert origins.of_base(str(tmp_path / "gone" / "base_1b.pt")) == licences.Origin(
        LICENCE, ("trained from base_1b.pt",)
    )


@pytest.mark.parametrize(
    ("checkpoint", "model", "found"),
    [
        ({}, {}, None),
        ({"restore_file": "checkpoint_last.pt"}, {"w2v_path": "a.pt"}, "a.pt"),
        ({"restore_file": "b.pt", "finetune_from_model": None}, {"w2v_path": "a.pt"}, "b.pt"),
        ({"restore_file": "checkpoint_last.pt", "finetune_from_model": "c.pt"}, {"w2v_path": "a.pt"}, "c.pt"),
        ({}, {"base": "d.pt"}, "d.pt"),
        ({}, {"w2v_path": ""}, None),
    ],
)
def test_what_a_run_started_from(checkpoint: dict, model: dict, found: str | None) -> None:
    assert fairseq_configs.started_from(fairseq_configs.as_config({"checkpoint": checkpoint, "model": model})) == found
