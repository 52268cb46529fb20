"""A .pt file with flipped bits, weights that are no numbers, tensors that its configuration does not name, or values of
another kind is refused with file and place by all that reads it; a file that changes later changes no loaded model.
"""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mms_recipes import checkpoints
from tests.known_issues import commands
from tests.known_issues.lab import Lab

State = dict[str, Any]
ENCODER = "w2v_encoder.w2v_model."
BIAS = ENCODER + "encoder.layers.0.fc1.bias"


def change(tiny: Lab, path: Path, spoil: Callable[[State], Any]) -> Path:
    """A copy of the dense model with a change."""
    state = torch.load(tiny.dense, weights_only=False)
    spoil(state)
    torch.save(state, path)
    return path


def refusals(tiny: Lab, path: Path, folder: Path) -> dict[str, commands.Ended]:
    """How the commands end that start from a dense model."""
    given = ("train", "+experiment=smoke_lsah", f"task.data={tiny.data}", f"runs={folder / 'runs'}")
    return {
        "evaluate": commands.run("evaluate", f"checkpoint={path}", f"data={tiny.data}", f"out={folder / 'out'}"),
        "transcribe": commands.run("transcribe", tiny.wav, "--checkpoint", path, "--lang", "eng"),
        "convert": commands.run("convert", path, folder / "converted", "--to", "huggingface"),
        "train": commands.run(*given, f"model.base={path}"),
    }


def test_flipped_bits(tiny: Lab, tmp_path: Path) -> None:
    content = bytearray(tiny.dense.read_bytes())
    weight = torch.load(tiny.dense, weights_only=False)["model"][BIAS].numpy().tobytes()
    place = bytes(content).find(weight)
    assert place > 0
    content[place + 3] ^= 0x80
    (tmp_path / "flipped.pt").write_bytes(content)
    for name, ended in refusals(tiny, tmp_path / "flipped.pt", tmp_path).items():
        assert ended.is_refused() and "flipped.pt" in ended.last_line and "checksum" in ended.last_line, (name, ended)


def put(key: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], None]:
    """Replace a tensor by what is made of it."""

    def spoil(state: State) -> None:
        state["model"][key] = value(state["model"][key])

    return spoil


WEIGHTS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "nan": ("fc1.bias", put(BIAS, lambda tensor: tensor * float("nan"))),
    "infinite": ("fc1.bias", put(BIAS, lambda tensor: tensor + float("inf"))),
    "integers": ("fc1.bias", put(BIAS, lambda tensor: tensor.int())),
    "complex": ("fc1.bias", put(BIAS, lambda tensor: tensor.to(torch.complex64))),
    "sparse": ("fc1.bias", put(BIAS, lambda tensor: tensor.to_sparse())),
    "one value for all": ("", put(BIAS, lambda tensor: torch.zeros(1).expand(len(tensor)))),
    "head": ("proj.weight", put("w2v_encoder.proj.weight", lambda tensor: tensor * float("nan"))),
    "other shape": ("fc1.bias", put(BIAS, lambda tensor: tensor[1:].clone())),
    "a block more": (
        "encoder.layers.",
        lambda state: state["model"].update({ENCODER + "encoder.layers.9.fc1.bias": torch.zeros(96)}),
    ),
    "a tensor more": ("encoder.extra", lambda state: state["model"].update({ENCODER + "encoder.extra": torch.ones(1)})),
    "a tensor less": ("fc1.bias", lambda state: state["model"].pop(BIAS)),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_are_no_model(what: str, tiny: Lab, tmp_path: Path) -> None:
    said, spoil = WEIGHTS[what]
    path = change(tiny, tmp_path / "x.pt", spoil)
    tried = refusals(tiny, path, tmp_path) if what == "nan" else {"read": commands.call(read_each, [path])}
    for name, ended in tried.items():
        if name == "read":
            assert ended.code == 0, ended.output
            assert "x.pt" in ended.output and said in ended.output, ended.output
        else:
            assert ended.is_refused() and said in ended.last_line, (name, ended)


def read_each(paths: list[Path]) -> None:
    """Give files to what commands read them with; each must be refused by a ValueError that names it."""
    import mms_recipes.plugins  # noqa: F401
    from mms_recipes import recognizer
    from mms_recipes.conversion import converter

    readers: dict[str, Callable[[Path], Any]] = {
        "evaluate": lambda path: recognizer.load_recognizer(path, torch.device("cpu"), ["eng"]),
        "convert": lambda path: list(converter.read(path).adapters.values()),
    }
    for path in paths:
        for name, read in readers.items():
            try:
                read(path)
            except (ValueError, OSError) as error:
                assert path.name in str(error), f"{path}: {error}"
                print(f"{path.name}: {error}")
            else:
                print(f"{path.name}: TAKEN by {name}")


MODEL = ("cfg", "model", "w2v_args", "model")
VALUES: list[tuple[tuple[str, ...], Any]] = [
    *[((*MODEL, key), value) for key in ("encoder_layers", "encoder_embed_dim") for value in (10**9, 0, -1, "2", None)],
    *[((*MODEL, "encoder_attention_heads"), value) for value in (0, 5, 2.0, True)],
    *[((*MODEL, "conv_pos_groups"), value) for value in (0, 7, 10**9)],
    *[
        ((*MODEL, "conv_feature_layers"), text)
        for text in (
            "[(1,2",
            "",
            "[]",
            "[(0, 1, 1)]",
            "[(8, 2, 1)] * 99999999",
            "[(8, 10000000, 1)]",
            ["a"],
            3,
            "(" * 5000,
        )
    ],
    ((*MODEL, "conv_bias"), "yes"),
    ((*MODEL, "activation_fn"), "swish"),
    ((*MODEL, "layer_type"), "conformer"),
    ((*MODEL, "latent_temp"), [1, 2]),
    ((*MODEL, "dropout"), float("nan")),
    (MODEL, [1]),
    (MODEL, None),
    (MODEL[:-1], "text"),
    (("cfg", "model", "w2v_args", "task"), 3),
    (("cfg", "model", "w2v_args", "task", "normalize"), "true"),
    (("cfg", "model", "blank_weight"), "1"),
    (("cfg", "model", "_name"), 4),
    (("cfg", "model"), None),
    (("cfg", "task"), [1]),
    (("cfg",), "text"),
    (("cfg",), None),
    (("task_state",), [1]),
    (("task_state", "target_dictionary"), ["a"]),
    (("model",), [1]),
    (("model",), None),
    (("model",), {"a": 1}),
    (("model", "w2v_encoder.proj.weight"), torch.zeros(3, 48)),
    (("model", "w2v_encoder.proj.bias"), torch.zeros(3)),
    (("optimizer_history",), 3),
    (("optimizer_history",), [{"num_updates": "x"}]),
    (("extra_state",), [1]),
    (("extra_state", "train_iterator"), {"epoch": "one"}),
    (("adapter",), {"eng": {}}),
    (("adapter",), [1]),
    (("licence",), 4),
    (("provenance",), ["a\nb: c"]),
]


def test_values_of_another_kind(tiny: Lab, tmp_path: Path) -> None:
    whole = torch.load(tiny.dense, weights_only=False)
    whole.pop("last_optimizer_state")
    paths = []
    for number, (place, value) in enumerate(VALUES):
        state = {key: inner if key == "model" else copy.deepcopy(inner) for key, inner in whole.items()}
        state["model"] = dict(state["model"])
        inside: Any = state
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = value
        paths.append(tmp_path / f"{number}.pt")
        torch.save(state, paths[-1])
    ended = commands.call(read_each, paths)
    assert ended.code == 0, ended.output
    taken = [line for line in ended.output.splitlines() if "TAKEN" in line]
    assert not taken, [(VALUES[int(line.split(".pt")[0])], line) for line in taken]


def emissions_stay(source: Path, wav: Path) -> None:
    """Load a model, write over its file of weights and cut it; the model stays what it was."""
    import soundfile

    import mms_recipes.plugins  # noqa: F401
    from mms_recipes.recognizer import load_recognizer

    samples, _ = soundfile.read(wav, dtype="float32")
    given = (torch.from_numpy(samples)[None], torch.tensor([len(samples)]), ["eng"])
    loaded = load_recognizer(source, torch.device("cpu"), ["eng"])
    before, _ = loaded.emissions(*given)
    weights = source / "model.safetensors" if source.is_dir() else source
    with weights.open("r+b") as file:
        file.write(bytes(weights.stat().st_size))
    assert torch.equal(before, loaded.emissions(*given)[0])
    os.truncate(weights, 100)
    assert torch.equal(before, loaded.emissions(*given)[0])


@pytest.mark.parametrize("layout", ["fairseq", "huggingface"])
def test_a_loaded_model_is_not_its_file(layout: str, tiny: Lab, tmp_path: Path) -> None:
    converted = commands.run("convert", tiny.dense, tmp_path / "model", "--to", layout)
    assert converted.code == 0, converted.output
    ended = commands.call(emissions_stay, tmp_path / "model", tiny.wav)
    assert ended.code == 0, ended.output


def languages_after(base: Path, adapters: Path, folder: Path, cut: bool) -> None:
    """Open a one-file checkpoint, write over it or cut it, and ask for a language."""
    import mms_recipes.plugins  # noqa: F401
    from mms_recipes import adapter_files, checkpoints, recognizer

    path = folder / "one.pt"
    read = list(adapter_files.read_adapters(adapters).values())
    adapter_files.write_one_file(path, checkpoints.read_base(base), read)
    opened = recognizer.open_recognizer(path, torch.device("cpu"))
    opened.add_languages(["eng"])
    with path.open("r+b") as file:
        file.truncate(100) if cut else file.write(bytes(path.stat().st_size))
    try:
        opened.add_languages(["fra"])
    except ValueError as error:
        print(error)


@pytest.mark.parametrize("cut", [True, False])
def test_adapters_of_a_file_that_changed_meanwhile(cut: bool, tiny: Lab, tmp_path: Path) -> None:
    ended = commands.call(languages_after, tiny.dense, tiny.adapters, tmp_path, cut)
    assert ended.code == 0, ended.output
    assert "one.pt" in ended.output and "changed or cut" in ended.output, ended.output


@pytest.mark.parametrize(
    ("key", "value"), [("sum", None), ("sum", "text"), ("count", [1]), ("round", "3"), ("n", None)]
)
def test_meters_of_a_run(tiny: Lab, tmp_path: Path, key: str, value: Any) -> None:
    """A run that went on ended in a KeyError of fairseq."""

    def spoil(state: State) -> None:
        meters = [meter[3] for of in state["extra_state"]["metrics"].values() for meter in of]
        found = next(meter for meter in meters if key in meter)
        if value is None:
            del found[key]
        else:
            found[key] = value

    checkpoints.load_checkpoint(tiny.dense)
    with pytest.raises(ValueError, match=rf"meters\.pt: extra_state\.metrics: .*'{key}' of the meter '.*'"):
        checkpoints.load_checkpoint(change(tiny, tmp_path / "meters.pt", spoil))


def deep(state: State) -> None:
    inner: list[Any] = []
    for _ in range(300):
        inner = [inner]
    state["more"] = {"inside": inner}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (deep, "deep"),
        (lambda state: state["last_optimizer_state"].update(param_groups=7), "param_groups"),
        (lambda state: state["last_optimizer_state"]["param_groups"][0].pop("params"), "params"),
        (lambda state: state["last_optimizer_state"].update(state=[1]), "last_optimizer_state.state"),
        (lambda state: state.update(last_optimizer_state="none"), "last_optimizer_state"),
    ],
    ids=["deep", "groups", "params", "state", "text"],
)
def test_what_a_run_goes_on_with(tiny: Lab, tmp_path: Path, spoil: Callable[[State], Any], told: str) -> None:
    """A run that went on ended in a TypeError of the optimizer, or a RecursionError."""
    with pytest.raises(ValueError, match=rf"x\.pt: .*{told}"):
        checkpoints.load_checkpoint(change(tiny, tmp_path / "x.pt", spoil), optimizer=True)
