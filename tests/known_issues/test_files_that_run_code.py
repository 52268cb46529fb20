"""A checkpoint that somebody gave runs nothing and looks nothing up, whatever texts are inside.

Texts of every kind of file are replaced by a payload that leaves a file behind when it is evaluated, and by an
interpolation that asks for a variable of the environment: each text about the model alone, as the first one that is
refused ends the reading, and all others together.
"""

import contextlib
import copy
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq.data import Dictionary

from tests.known_issues import commands
from tests.known_issues.lab import Lab

Place = tuple[Any, ...]
Make = Callable[[str], Any]
VARIABLE, SECRET = "MMS_RECIPES_TEST_TOKEN", "hunter2-secret"
KINDS = ("pretrained", "dense", "lid", "one", "old")
ASKED = ("all others", "conv_feature_layers", "w2v_path", "data", "latent_temp", "activation_fn")
NAMES = ("_name", "arch")  # a file of another kind is not read any further


def texts(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where texts are in a checkpoint: in dicts, lists, Namespaces and dictionaries of fairseq."""
    if isinstance(value, str):
        yield place
    elif isinstance(value, Namespace | Dictionary):
        yield from texts(vars(value), (*place, "__dict__"))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from texts(inner, (*place, number))


def replace(state: Any, place: Place, make: Make) -> None:
    """Put what `make` makes of the text at `place` in its stead."""
    for key in place[:-1]:
        state = vars(state) if key == "__dict__" else state[key]
    state[place[-1]] = make(state[place[-1]])


def write_merged(base: Path, adapters: Path, path: Path) -> None:
    """Write base and adapters in one file."""
    from mms_recipes import adapter_files, checkpoints

    read = list(adapter_files.read_adapters(adapters).values())
    adapter_files.write_one_file(path, checkpoints.read_base(base), read)


def state_of(kind: str, tiny: Lab, folder: Path) -> dict[str, Any]:
    """A checkpoint of a kind."""
    if kind == "one":
        ended = commands.call(write_merged, tiny.dense, tiny.adapters, folder / "one.pt")
        assert ended.code == 0, ended.output
    path = {"dense": tiny.dense, "lid": tiny.lid, "one": folder / "one.pt"}.get(kind, tiny.pretrained)
    state: dict[str, Any] = torch.load(path, weights_only=False)
    if kind == "old":  # before 2021: a flat Namespace, whose temperature is a text
        cfg = state.pop("cfg")
        flat = {key: value for key, value in cfg["model"].items() if key != "_name"}
        flat |= {"arch": "wav2vec2", "task": "audio_pretraining", "normalize": cfg["task"]["normalize"]}
        state["args"] = Namespace(**flat | {"latent_temp": str(tuple(flat["latent_temp"]))})
    return state


def spoilt(state: dict[str, Any], make: Make) -> Iterator[tuple[str, dict[str, Any]]]:
    """Copies of a checkpoint: each text about the model replaced alone, and all others together; with what it is."""
    heavy = {key: state[key] for key in ("model", "adapter") if key in state}
    rest = {key: value for key, value in state.items() if key not in heavy and key != "last_optimizer_state"}
    found = list(texts(rest))
    alone = [place for place in found if "model" in place or "args" in place]
    for place in alone:
        changed = copy.deepcopy(rest)
        replace(changed, place, make)
        yield ".".join(map(str, place)), heavy | changed
    together = copy.deepcopy(rest)
    for place in found:
        if place not in alone and place[-1] not in NAMES:
            replace(together, place, make)
    yield "all others", heavy | together


def read_all(folder: Path, secret: str) -> None:
    """Give every file of a folder to all that reads such files; print what is refused and where the secret went."""
    from fairseq import checkpoint_utils

    import mms_recipes.plugins  # noqa: F401
    from mms_recipes import checkpoints, recognizer
    from mms_recipes.conversion import converter
    from mms_recipes.lid import checkpoints as lid_checkpoints
    from mms_recipes.models import encoder

    def build(path: Path) -> None:
        with checkpoints.as_pretrained(str(path)) as pretrained:
            cfg = checkpoint_utils.load_checkpoint_to_cpu(pretrained)["cfg"]
        assert secret not in str(cfg)

    def run(path: Path) -> None:
        start = lid_checkpoints.read_start(path)
        base = start if isinstance(start, checkpoints.Base) else start.base
        encoder.FrozenEncoder(base.cfg).load(base.encoder_state)

    readers: list[Callable[[Path], Any]] = [
        lambda path: recognizer.load_recognizer(path, torch.device("cpu"), ["eng"]),
        lambda path: converter.convert(path, path.with_suffix(".hf"), "huggingface"),
        build,
        run,
    ]
    for path in sorted(folder.glob("*.pt")):
        said = []
        for read in readers:
            try:
                read(path)
            except (ValueError, OSError) as error:
                said.append(str(error))
        exported = path.with_suffix(".hf")
        written = [file for file in exported.rglob("*") if file.is_file()] if exported.exists() else []
        leaks = [file.name for file in written if secret.encode() in file.read_bytes()]
        shutil.rmtree(exported, ignore_errors=True)
        print(f"{path.name}: {said[0] if said else 'read'}")
        assert not leaks and secret not in str(said), (path, leaks)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_of_a_checkpoint_is_run_or_looked_up(kind: str, tiny: Lab, tmp_path: Path) -> None:
    state = state_of(kind, tiny, tmp_path)
    ran, files = tmp_path / "ran", tmp_path / "files"
    ran.mkdir()
    files.mkdir()
    asking = f"${{oc.env:{VARIABLE}}}"
    what: dict[str, str] = {}
    for number, (name, changed) in enumerate(spoilt(state, lambda text: payload(ran, text))):
        torch.save(changed, files / f"{number}.code.pt")
        what[f"{number}.code"] = name
    for number, (name, changed) in enumerate(spoilt(state, lambda text: asking)):
        if name.endswith(ASKED):
            torch.save(changed, files / f"{number}.environment.pt")
            what[f"{number}.environment"] = name
    ended = commands.call(read_all, files, SECRET, environment={VARIABLE: SECRET})
    assert ended.code == 0, ended.output
    assert not list(ran.iterdir()), [path.name for path in ran.iterdir()]
    assert SECRET not in ended.output
    lines = dict(line.split(": ", 1) for line in ended.output.splitlines() if ".pt: " in line)
    for name, place in what.items():  # a value that asks for something is refused, and named
        if name.endswith("environment") and not place.endswith(NAMES) and place != "all others":
            assert place.rpartition(".")[2] in lines[f"{name}.pt"], (place, lines[f"{name}.pt"])


def payload(folder: Path, text: str) -> str:
    """A text that leaves a file behind when Python evaluates it, and is then what it was."""
    return f"__import__('pathlib').Path({str(folder / 'ran')!r}).touch() or {text}"


def spoil(source: Path, target: Path, ran: Path, *place: str) -> Path:
    """A copy of a checkpoint whose text at `place` is a payload."""
    state = torch.load(source, weights_only=False)
    replace(state, place, lambda text: payload(ran, text))
    torch.save(state, target)
    return target


def test_no_command_runs_the_text_of_a_checkpoint(tiny: Lab, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    key = "conv_feature_layers"
    dense = spoil(tiny.dense, tmp_path / "dense.pt", ran, "cfg", "model", "w2v_args", "model", key)
    base = spoil(tiny.pretrained, tmp_path / "base.pt", ran, "cfg", "model", key)
    lid = spoil(tiny.lid, tmp_path / "lid.pt", ran, "cfg", "model", "w2v_args", "model", key)
    run = tmp_path / "runs" / "smoke_ctc" / "checkpoints"
    run.mkdir(parents=True)
    shutil.copy(dense, run / "checkpoint_last.pt")
    data, short = f"task.data={tiny.data}", "optimization.max_update=14"
    tried: dict[str, tuple[object, ...]] = {
        "evaluate": ("evaluate", f"checkpoint={dense}", f"data={tiny.data}", f"out={tmp_path / 'out'}"),
        "transcribe": ("transcribe", tiny.wav, "--checkpoint", dense, "--lang", "eng"),
        "identify": ("identify", tiny.wav, "--checkpoint", lid),
        "convert": ("convert", base, tmp_path / "converted.pt", "--to", "fairseq"),
        "trusted": ("convert", base, tmp_path / "trusted.pt", "--to", "fairseq", "--trust-checkpoint"),
        "LSAH": ("train", "+experiment=smoke_lsah", data, short, f"model.base={base}", f"runs={tmp_path / 'a'}"),
        "dense": ("train", "+experiment=smoke_ctc", data, short, f"model.base={base}", f"runs={tmp_path / 'b'}"),
        "LID": ("train", "+experiment=smoke_lid", data, short, f"model.base={lid}", f"runs={tmp_path / 'c'}"),
        "pretraining": (
            *("train", "+experiment=smoke_pretrain", data, short, f"runs={tmp_path / 'd'}"),
            f"checkpoint.finetune_from_model={base}",
        ),
        "resume": (
            *("train", "+experiment=smoke_ctc", data, short, f"model.base={tiny.pretrained}"),
            f"runs={tmp_path / 'runs'}",
        ),
    }
    for name, command in tried.items():
        ended = commands.run(*command)  # type: ignore[arg-type]
        assert ended.is_refused(), (name, ended.output)
        assert key in ended.last_line and ".pt" in ended.last_line, (name, ended.last_line)
        with contextlib.suppress(StopIteration):
            raise AssertionError(f"{name} ran {next(ran.iterdir())}")


def test_what_is_trained_from_a_file_holds_texts_that_were_written_here(tiny: Lab, tmp_path: Path) -> None:
    state = torch.load(tiny.dense, weights_only=False)
    inside = state["cfg"]["model"]["w2v_args"]
    inside["model"]["conv_feature_layers"] = inside["model"]["conv_feature_layers"].replace("+", "  +  ")
    inside["generation"] = {"note": "a text of the file"}
    torch.save(state, tmp_path / "base.pt")
    settings = (f"model.base={tmp_path / 'base.pt'}", f"task.data={tiny.data}", f"runs={tmp_path}")
    ended = commands.run("train", "+experiment=smoke_ctc", *settings, "optimization.max_update=10")
    assert ended.code == 0, ended.output
    made = torch.load(tmp_path / "smoke_ctc/checkpoints/checkpoint_last.pt", weights_only=False)
    held = made["cfg"]["model"]["w2v_args"]
    assert "a text of the file" not in str(held) and "  +" not in held["model"]["conv_feature_layers"]
