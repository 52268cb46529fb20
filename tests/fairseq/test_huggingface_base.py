"""Folders of Hugging Face's and old files where a checkpoint is wanted: as a base, to listen with, read on demand."""

import json
from pathlib import Path

import pytest
import safetensors
import torch
import transformers
from fairseq import checkpoint_utils, tasks
from omegaconf import OmegaConf

from mms_recipes import adapter_files, checkpoints
from mms_recipes.conversion import converter
from mms_recipes.formats import portable
from mms_recipes.recognizer import load_recognizer, open_recognizer
from tests.fairseq.travelling import (
    LETTERS,
    huggingface_config,
    shake,
    signal,
    write_adapters,
    write_dense,
    write_huggingface,
    write_old,
    write_pretrained,
)


def test_a_folder_is_a_base(tmp_path: Path) -> None:
    write_pretrained(tmp_path / "pretrained.pt")
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    for name, same in (("pretrained.pt", "pretrained.pt"), ("dense.pt", "dense.pt"), ("adapters", "dense.pt")):
        converter.convert(tmp_path / name, tmp_path / f"{name}.hf", "huggingface")
        base, ours = checkpoints.read_base(tmp_path / f"{name}.hf"), checkpoints.read_base(tmp_path / same)
        assert base.hash == ours.hash and base.normalize
        assert base.encoder_state.keys() == ours.encoder_state.keys()
    weight, _, letters = checkpoints.read_base(tmp_path / "dense.pt.hf").require_head()
    assert letters[4:] == list(LETTERS["eng"]) and len(weight) == len(letters)


def test_fine_tuning_starts_from_a_folder(tmp_path: Path) -> None:
    """fairseq's wav2vec_ctc reads the base by itself, so it gets a file."""
    theirs = write_huggingface(tmp_path / "hf", shake(transformers.Wav2Vec2ForPreTraining(huggingface_config())))
    with checkpoints.as_pretrained(str(tmp_path / "hf")) as path:
        assert path is not None and Path(path).is_file()
        state = checkpoint_utils.load_checkpoint_to_cpu(path)
    cfg = OmegaConf.create({"_name": "audio_pretraining", "data": "", "normalize": True})
    model = tasks.setup_task(cfg).build_model(state["cfg"].model, from_checkpoint=True)
    model.remove_pretraining_modules()
    model.load_state_dict(state["model"])
    expected = theirs.wav2vec2.encoder.layers[1].feed_forward.output_dense.weight
    assert torch.equal(model.encoder.layers[1].fc2.weight, expected)


def test_an_old_file_is_a_base(tmp_path: Path) -> None:
    model = write_old(tmp_path / "xlsr.pt")
    base = checkpoints.read_base(tmp_path / "xlsr.pt")
    assert base.normalize and base.cfg.encoder_layers == 3
    assert torch.equal(base.encoder_state["mask_emb"], model.mask_emb)


def test_both_spellings_of_weight_norm_are_one_base(tmp_path: Path) -> None:
    write_pretrained(tmp_path / "old.pt")
    state = torch.load(tmp_path / "old.pt", weights_only=False)
    for number, letter in enumerate("gv"):
        tensor = state["model"].pop(f"encoder.pos_conv.0.weight_{letter}")
        state["model"][f"encoder.pos_conv.0.parametrizations.weight.original{number}"] = tensor
    torch.save(state, tmp_path / "new.pt")
    assert checkpoints.read_base(tmp_path / "new.pt").hash == checkpoints.read_base(tmp_path / "old.pt").hash


def test_a_folder_listens(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    converter.convert(tmp_path / "adapters", tmp_path / "hf", "huggingface")
    converter.convert(tmp_path / "dense.pt", tmp_path / "dense_hf", "huggingface")
    source, padding = signal()
    given = (source, (~padding).sum(1), ["eng", "jpn"])
    for first, second in (("adapters", "hf"), ("dense.pt", "dense_hf")):
        ours, theirs = (
            load_recognizer(tmp_path / name, torch.device("cpu"), ["eng", "jpn"]) for name in (first, second)
        )
        assert torch.equal(ours.emissions(*given)[0], theirs.emissions(*given)[0])
    moved = load_recognizer(tmp_path / "adapters", torch.device("cpu"), ["eng"], base=tmp_path / "hf")
    assert moved.base_hash == ours.base_hash


def test_adapters_are_read_when_asked_for(tmp_path: Path) -> None:
    write_dense(tmp_path / "dense.pt")
    write_adapters(tmp_path / "adapters", tmp_path / "dense.pt")
    (tmp_path / "adapters" / "fra.safetensors").write_bytes(b"not looked at")
    recognizer = open_recognizer(tmp_path / "adapters", torch.device("cpu"))
    assert recognizer.available == ["eng", "fra", "jpn"] and recognizer.adapters is None
    recognizer.add_languages(["eng"])
    recognizer.add_languages(["jpn", "eng"])
    assert recognizer.adapters is not None and recognizer.adapters.langs == ["eng", "jpn"]
    together = load_recognizer(tmp_path / "adapters", torch.device("cpu"), ["eng", "jpn"])
    source, padding = signal()
    given = (source, (~padding).sum(1), ["jpn", "eng"])
    assert torch.equal(recognizer.emissions(*given)[0], together.emissions(*given)[0])
    with pytest.raises(ValueError, match="not an adapter file, or cut off"):
        recognizer.add_languages(["fra"])


def test_the_licence_of_the_base_is_in_the_adapters(tmp_path: Path) -> None:
    write_dense(tmp_path / "mms1b_x.pt")
    base = checkpoints.read_base(tmp_path / "mms1b_x.pt")
    assert base.origin.licence == "cc-by-nc-4.0"
    adapters = write_adapters(tmp_path / "adapters", tmp_path / "mms1b_x.pt")
    adapter_files.write_one_file(tmp_path / "one.pt", base, list(adapters.values()))
    converter.convert(tmp_path / "one.pt", tmp_path / "taken", "adapters")
    adapter = adapter_files.read_adapter(tmp_path / "taken" / "eng.safetensors")
    assert adapter.licence == "cc-by-nc-4.0" and adapter.provenance == ["adapters form of one.pt"]
    with safetensors.safe_open(tmp_path / "taken" / "eng.safetensors", "pt") as file:
        assert json.loads(file.metadata()["licence"]) == "cc-by-nc-4.0"
    converter.convert(tmp_path / "taken", tmp_path / "hf", "huggingface")
    assert "license: cc-by-nc-4.0" in (tmp_path / "hf" / "README.md").read_text()


def test_on_demand_is_a_mapping() -> None:
    asked: list[str] = []
    table = portable.OnDemand(["b", "a"], lambda key: asked.append(key) or key.upper())  # type: ignore[func-returns-value]
    assert list(table) == ["b", "a"] and len(table) == 2 and "a" in table and "c" not in table
    assert not asked
    assert table["b"] == "B"
    with pytest.raises(KeyError):
        table["c"]
