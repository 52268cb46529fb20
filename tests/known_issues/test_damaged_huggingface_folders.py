"""Folders of Hugging Face's with values of another kind, and other tensors than the configuration names.

Each is read as it is meant, or refused with the file and what is wrong in it, before anything is built.
"""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from mms_recipes import adapter_files
from mms_recipes.formats.huggingface import reading
from tests.known_issues import commands
from tests.known_issues.lab import Lab

VALUES = (None, True, 0, -1, 3, 10**9, 10**30, 2.5, "", "2", "../x", [], [0], [1, 2], {}, {"a": 1}, [[1]], "\x1b[2J")
KINDS = ("dense", "adapters", "lid")


@pytest.fixture(scope="module")
def folders(tiny: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind, as converted; the adapters in the layout of transformers 5 and of two languages."""
    place = tmp_path_factory.mktemp("folders")
    found = {name: place / name for name in KINDS}
    assert commands.run("convert", tiny.dense, found["dense"], "--to", "huggingface").code == 0
    two = ("--langs", "eng,fra")
    assert commands.run("convert", tiny.adapters, found["adapters"], "--to", "huggingface", *two).code == 0
    assert commands.run("convert", tiny.lid, found["lid"], "--to", "huggingface").code == 0
    old = found["adapters"] / "preprocessor_config.json"
    (found["adapters"] / "processor_config.json").write_text(
        json.dumps({"feature_extractor": json.loads(old.read_text()), "processor_class": "Wav2Vec2Processor"})
    )
    old.unlink()
    (found["dense"] / "added_tokens.json").write_text("{}")
    return found


def is_refused(folder: Path) -> str | None:
    """Read all of a folder; what is said if it is refused, None if it is read. Anything else is an error."""
    try:
        model = reading.read(folder)
        for lang in model.adapters:
            assert len(model.adapters[lang].symbols) > 4
    except (ValueError, FileNotFoundError) as error:
        assert str(folder) in str(error), error
        assert "\x1b" not in str(error)
        return str(error)
    return None


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON document; of long lists and tables the first and the last."""
    yield path
    keys: list[Any] = []
    if isinstance(content, dict | list):
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    for key in [*keys[:1], *keys[1:][-1:]] if path else keys:
        yield from places(content[key], (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value in one place."""
    if not path:
        return value
    content = copy.deepcopy(content)
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return content


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_of_every_json_file(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder, refused, tried = shutil.copytree(folders[kind], tmp_path / kind), 0, 0
    assert is_refused(folder) is None
    for path in sorted(folder.glob("*.json")):
        before = path.read_text()
        content = json.loads(before)
        for number, place in enumerate(places(content)):
            for value in VALUES[number % 3 :: 3]:  # neighbours get the others
                path.write_text(json.dumps(changed(content, place, value)))
                refused += is_refused(folder) is not None
                tried += 1
        for text in ("", "{", "[]", "nul", before[:-9], before.replace("{", '{"x": NaN,', 1)):
            path.write_text(text)
            assert is_refused(folder) is not None, text
        path.write_bytes(b"\xff\xfe{}")
        assert is_refused(folder) is not None
        path.write_text(before)
    assert is_refused(folder) is None
    assert refused > tried / 3


@pytest.mark.parametrize(
    ("kind", "file", "place", "value", "facts"),
    [
        ("dense", "config.json", ("num_hidden_layers",), 10**9, ["num_hidden_layers", "1000000000"]),
        ("dense", "config.json", ("num_attention_heads",), 0, ["num_attention_heads", "found 0"]),
        ("dense", "config.json", ("num_attention_heads",), 5, ["num_attention_heads", "found 5", "divides"]),
        ("dense", "config.json", ("hidden_size",), -48, ["hidden_size", "-48"]),
        ("dense", "config.json", ("conv_stride",), [5, 4], ["conv_stride", "lengths"]),
        ("dense", "config.json", ("conv_dim",), None, ["conv_dim", "None"]),
        ("dense", "config.json", ("num_hidden_layers",), "2", ["num_hidden_layers", "'2'"]),
        ("dense", "config.json", ("intermediate_size",), 7, ["fc1", "(7, "]),
        ("dense", "config.json", ("vocab_size",), 7, ["proj.weight", "(7, "]),
        ("dense", "vocab.json", ("|",), 1.0, ["vocab.json", "|", "1.0"]),
        ("dense", "vocab.json", ("|",), 10**9, ["vocab.json", "|", "1000000000"]),
        ("dense", "vocab.json", ("|",), 5, ["vocab.json", "have one id, 5"]),
        ("dense", "tokenizer_config.json", ("pad_token",), 3, ["tokenizer_config.json", "pad_token"]),
        ("dense", "preprocessor_config.json", ("sampling_rate",), 8000, ["sampling_rate", "8000", "16000"]),
        ("dense", "preprocessor_config.json", ("do_normalize",), "no", ["do_normalize", "'no'"]),
        ("adapters", "processor_config.json", ("feature_extractor", "do_normalize"), 1, ["do_normalize", "found 1"]),
        ("adapters", "config.json", ("adapter_attn_dim",), 3, ["adapter_layer", "(1, 3, "]),
        ("lid", "config.json", ("id2label", "1"), "eng", ["id2label", "'eng'"]),
        ("lid", "config.json", ("classifier_proj_size",), 7, ["pooling_layer.linear", "(7, "]),
    ],
)
def test_messages_name_file_key_and_value(
    folders: dict[str, Path],
    tmp_path: Path,
    kind: str,
    file: str,
    place: tuple[Any, ...],
    value: Any,
    facts: list[str],
) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / kind)
    path = folder / file
    path.write_text(json.dumps(changed(json.loads(path.read_text()), place, value)))
    said = is_refused(folder)
    assert said is not None
    for fact in facts:
        assert fact in said


def test_a_key_that_is_there_twice(folders: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copytree(folders["dense"], tmp_path / "hf") / "vocab.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + ', "|": 7}')
    said = is_refused(path.parent)
    assert said is not None and "'|' is there twice" in said


# ---- tensors


def nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor.view(-1)[-1] = float("nan")
    return tensor


def infinite(tensor: torch.Tensor) -> torch.Tensor:
    tensor.view(-1)[0] = float("-inf")
    return tensor


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "nan": nan,
    "inf": infinite,
    "int": lambda tensor: tensor.int(),
    "bool": lambda tensor: tensor.bool(),
    "longer": lambda tensor: torch.cat([tensor, tensor]),
    "flat": lambda tensor: tensor.reshape(-1)[None, None],
    "empty": lambda tensor: tensor[:0],
}
NAMES = {
    "dense": ("lm_head.weight", "lm_head.bias", "wav2vec2.encoder.layers.1.feed_forward.output_dense.weight"),
    "lid": ("projector.weight", "classifier.bias", "wav2vec2.encoder.pos_conv_embed.conv.weight_g"),
    "adapters": ("wav2vec2.encoder.layers.0.adapter_layer.linear_1.weight", "lm_head.weight"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / kind)
    paths = [folder / "model.safetensors", *folder.glob("adapter.fra.safetensors")]
    for path in paths:
        whole = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()

        def save(tensors: dict[str, torch.Tensor], path: Path = path, header: dict[str, str] = header) -> None:
            safetensors.torch.save_file({name: t.contiguous() for name, t in tensors.items()}, path, header)

        for name in NAMES[kind]:
            leaf = name.rpartition(".")[0].rpartition(".")[2]
            for what, change in CHANGES.items():
                if what == "flat" and whole[name].ndim == 3 and whole[name].shape[:2] == (1, 1):
                    continue  # is so already
                save(whole | {name: change(whole[name].clone())})
                said = is_refused(folder)
                assert said is not None, (name, what)
                if what in ("nan", "inf", "int", "bool"):
                    assert leaf in said
            save({other: tensor for other, tensor in whole.items() if other != name})
            said = is_refused(folder)
            assert (said is not None and "is missing" in said) or "no weights" in said or "a Wav2Vec2" in said
        save(whole | {"wav2vec2.more.weight": torch.zeros(2)})
        said = is_refused(folder)
        assert said is not None and "more.weight" in said
        save(whole)
        assert is_refused(folder) is None


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_read(folders: dict[str, Path], tmp_path: Path, half: torch.dtype) -> None:
    folder = shutil.copytree(folders["dense"], tmp_path / "half")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    halves = {name: tensor.to(half) for name, tensor in tensors.items()}
    safetensors.torch.save_file(halves, folder / "model.safetensors", {"format": "pt"})
    assert is_refused(folder) is None


def test_a_pickled_file_of_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["dense"], tmp_path / "hf")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert is_refused(folder) is None
    for wrong in (tensors | {1: torch.zeros(1)}, [1], tensors | {"lm_head.bias": "x"}, {}):
        torch.save(wrong, folder / "pytorch_model.bin")
        assert is_refused(folder) is not None


# ---- our own adapters


def test_every_value_of_an_adapters_header(tiny: Lab, tmp_path: Path) -> None:
    path = tmp_path / "eng.safetensors"
    tensors = safetensors.torch.load_file(tiny.adapters / "eng.safetensors")
    with safetensors.safe_open(tiny.adapters / "eng.safetensors", "pt") as file:
        header = file.metadata()

    def said(header: dict[str, str], tensors: dict[str, torch.Tensor] = tensors) -> str | None:
        safetensors.torch.save_file(tensors, path, header)
        try:
            adapter = adapter_files.read_adapter(path)
            assert len(adapter.dictionary()) == len(adapter.letters)
        except ValueError as error:
            assert str(path) in str(error)
            return str(error)
        return None

    assert said(header) is None
    for key in header:
        for value in VALUES:
            said(header | {key: json.dumps(value)})
        for text in ("", "{", "nul", "NaN", "[1"):
            said(header | {key: text})
    letters = json.loads(header["letters"])
    for wrong in (letters[:-1], [*letters, "x"], letters[::-1], [*letters[:-1], letters[5]], [*letters[:-1], 3]):
        assert said(header | {"letters": json.dumps(wrong)}) is not None
    for name in ("w2v_encoder.proj.bias", "w2v_encoder.w2v_model.encoder.layers.0.adapter_layer.W_a"):
        for change in CHANGES.values():
            found = said(header, tensors | {name: change(tensors[name].clone()).contiguous()})
            assert found is not None
        assert said(header, {other: tensor for other, tensor in tensors.items() if other != name}) is not None
    assert said(header, tensors | {"more": torch.zeros(1)}) is not None


# ---- as users meet it


@pytest.mark.parametrize("command", ["evaluate", "transcribe", "identify", "convert", "train"])
def test_no_command_ends_in_a_traceback(tiny: Lab, folders: dict[str, Path], tmp_path: Path, command: str) -> None:
    folder = shutil.copytree(folders["lid" if command == "identify" else "dense"], tmp_path / "hf")
    content = json.loads((folder / "config.json").read_text())
    arguments: dict[str, list[object]] = {
        "evaluate": [f"checkpoint={folder}", f"data={tiny.data}", f"out={tmp_path / 'out'}"],
        "transcribe": [tiny.wav, "--checkpoint", folder, "--lang", "eng"],
        "identify": [tiny.wav, "--checkpoint", folder],
        "convert": [folder, tmp_path / "out", "--to", "fairseq"],
        "train": [*tiny.lsah(tmp_path / "runs", 2), f"model.base={folder}"],
    }
    for key, value in (("num_hidden_layers", 10**9), ("conv_dim", {"a": 1})):
        (folder / "config.json").write_text(json.dumps(content | {key: value}))
        ended = commands.run(command, *arguments[command])
        assert ended.is_refused(), ended.output
        assert key in ended.output and str(folder / "config.json") in ended.output
