"""A name inside a downloaded model (a language, a file of weights) was joined to a path as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from mms_recipes import files, parsing
from mms_recipes.report import players
from mms_recipes.transcription import lm_search
from tests.known_issues import commands
from tests.known_issues.lab import Lab

ELSEWHERE = ["../mine/eng", "/tmp/eng", "..", "", "a/b", "eng\n", "\x1b[2J", "x" * 300, "-eng"]


@pytest.fixture(scope="module")
def exported(tiny: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's adapters as a Hugging Face folder, the English one inside the model alone."""
    folder = tmp_path_factory.mktemp("exported") / "hf"
    assert commands.run("convert", tiny.adapters, folder, "--to", "huggingface").code == 0
    for path in folder.glob("adapter.*"):
        path.unlink()
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize("name", ELSEWHERE)
def test_only_plain_names_become_names_of_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        files.inside(tmp_path, name)


def test_names_of_languages_are_plain(tmp_path: Path) -> None:
    for name in (
        "eng",
        "urd-script_arabic",
        "kmr-script_latin",
        "zh_CN",
        "pt-BR",
        "日本語",
        "model-00001-of-00002.bin",
    ):
        assert files.inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["../mine/eng", "{}/mine/eng", "..", "a/../../mine/eng"])
def test_a_language_of_a_folder(tmp_path: Path, exported: Path, name: str) -> None:
    victim = tmp_path / "mine" / "eng.safetensors"
    victim.parent.mkdir()
    victim.write_text("mine")
    name = name.format(tmp_path)
    folder = copy(exported, tmp_path / "hf")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({name: vocabulary["eng"]}))
    change(folder / "tokenizer_config.json", target_lang=name)
    for to in ("adapters", "huggingface", "fairseq"):
        refused = commands.run("convert", folder, tmp_path / "out", "--to", to)
        assert refused.is_refused(), refused.output
        assert parsing.shown(name) in refused.last_line and "cannot be the name of a file" in refused.last_line
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "mine"]


def test_a_language_of_a_one_file_checkpoint(tiny: Lab, tmp_path: Path) -> None:
    assert commands.run("convert", tiny.adapters, tmp_path / "one.pt", "--to", "fairseq").code == 0
    state = torch.load(tmp_path / "one.pt", weights_only=False)
    state["adapter"] = {"../eng": state["adapter"]["eng"]}
    torch.save(state, tmp_path / "one.pt")
    for refused in (
        commands.run("convert", tmp_path / "one.pt", tmp_path / "below" / "out", "--to", "adapters"),
        commands.run("transcribe", tiny.wav, "--checkpoint", tmp_path / "one.pt", "--lang", "eng"),
    ):
        assert refused.is_refused(), refused.output
        assert "../eng" in refused.last_line and "one.pt" in refused.last_line


def test_a_language_in_the_header_of_an_adapter(tiny: Lab, tmp_path: Path) -> None:
    with safetensors.safe_open(tiny.adapters / "eng.safetensors", "pt") as file:
        header = file.metadata() | {"lang": json.dumps("../eng")}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    (tmp_path / "adapters").mkdir()
    safetensors.torch.save_file(tensors, tmp_path / "adapters" / "eng.safetensors", header)
    refused = commands.run("convert", tmp_path / "adapters", tmp_path / "out", "--to", "adapters")
    assert refused.is_refused() and "../eng" in refused.last_line, refused.output


def test_a_language_of_a_report_or_a_class_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for lang, split in (("../eng", "test"), ("eng", "../../test")):
        with pytest.raises(ValueError, match=r"\.\./"):
            players.find_audio(tmp_path / "data", split, {lang: ["a"]})
    with pytest.raises(ValueError, match=r"\.\./eng"):
        lm_search.LMSearch(tmp_path / "data", 1).check("../eng", ["|", "a"])


def test_a_file_of_weights_elsewhere(tiny: Lab, tmp_path: Path) -> None:
    assert commands.run("convert", tiny.dense, tmp_path / "hf", "--to", "huggingface").code == 0
    weights = tmp_path / "hf" / "model.safetensors"
    names = list(safetensors.torch.load_file(weights))
    weights.rename(tmp_path / "model.safetensors")
    index = {"weight_map": dict.fromkeys(names, "../model.safetensors")}
    (tmp_path / "hf" / "model.safetensors.index.json").write_text(json.dumps(index))
    refused = commands.run("transcribe", tiny.wav, "--checkpoint", tmp_path / "hf", "--lang", "eng")
    assert refused.is_refused() and "../model.safetensors" in refused.last_line, refused.output
