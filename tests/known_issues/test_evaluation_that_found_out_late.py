"""evaluate scored everything first and only then found a uid that is there twice: hours were lost.

What can be found out before the first batch is found out before it, of recognition, identification and tuning.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mms_recipes.lid.identifier import Identifier
from mms_recipes.recognizer import Recognizer
from tests.known_issues import commands
from tests.known_issues.commands import Ended
from tests.known_issues.lab import Lab
from tests.unit.test_beam import LEXICON, WORDS

PROCESSED = "a batch was processed"


def spied(command: str, arguments: tuple[str, ...]) -> Any:
    """Run a command that says when it processes a batch."""

    def said(real: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*given: Any, **named: Any) -> Any:
            print(PROCESSED, flush=True)
            return real(*given, **named)

        return spy

    Recognizer.emissions = said(Recognizer.emissions)  # type: ignore[method-assign]
    Identifier.logits = said(Identifier.logits)  # type: ignore[method-assign]
    return commands.as_typed(command, arguments)


def run(command: str, *arguments: object) -> Ended:
    return commands.call(spied, command, tuple(map(str, arguments)))


def rows(folder: Path) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "test.tsv").read_text().splitlines()[1:]]


def shortest(folder: Path) -> Path:
    return folder / "audio" / min(rows(folder), key=lambda row: int(row[1]))[0]


def replace(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def twice(folder: Path) -> None:
    lines = (folder / "test.uid").read_text().splitlines()
    (folder / "test.uid").write_text("\n".join([lines[0], lines[0], *lines[2:]]) + "\n")


def pipe(folder: Path) -> None:
    path = shortest(folder)
    path.unlink()
    os.mkfifo(path)


def cut(folder: Path) -> None:
    path = shortest(folder)
    path.write_bytes(path.read_bytes()[:-200])


LABELS = {
    "a uid twice": (twice, ("test.uid:2", "test.uid:1")),
    "a uid that is not UTF-8": (replace("test.uid", b"\xff\n" * 3), ("test.uid:1", "not UTF-8")),
    "a uid with a tab": (replace("test.uid", b"a\nb\tc\nd\n"), ("test.uid:2", "tabs")),
    "a reference that is not UTF-8": (replace("test.wrd", b"a\nb\n\xff\n"), ("test.wrd:3", "not UTF-8")),
    "prepared.json cut": (replace("../prepared.json", b"{"), ("prepared.json:1", "no JSON")),
    "prepared.json a list": (replace("../prepared.json", b"[]"), ("prepared.json", "found []")),
    "prepared.json of numbers": (
        replace("../prepared.json", b'{"normalization": 3}'),
        ("prepared.json", "normalization"),
    ),
}
AUDIO = {
    "no audio of the shortest": (lambda folder: shortest(folder).unlink(), ("no such file",)),
    "a pipe as audio": (pipe, ("regular file",)),
    "audio that was cut": (cut, ("test.tsv:",)),
    "audio that is none": (lambda folder: shortest(folder).write_text("hello"), ("test.tsv:",)),
}


@pytest.mark.parametrize("case", [*LABELS, *AUDIO])
def test_evaluate(tiny: Lab, tmp_path: Path, case: str) -> None:
    spoil, parts = (LABELS | AUDIO)[case]
    data = tiny.copy_data(tmp_path / "data", "eng")
    spoil(data / "eng")
    given = (f"checkpoint={tiny.adapters}", f"data={data}", f"out={tmp_path / 'out'}")
    ended = run("evaluate", *given, "batch_seconds=0.1")
    assert ended.is_refused() and PROCESSED not in ended.output, ended
    assert all(part in ended.output for part in parts), ended


@pytest.mark.parametrize("case", AUDIO)
def test_evaluate_identification(tiny: Lab, tmp_path: Path, case: str) -> None:
    spoil, parts = AUDIO[case]
    data = tiny.copy_data(tmp_path / "data", "eng", "fra")
    spoil(data / "fra")
    ended = run("evaluate", "+benchmark=lid", f"checkpoint={tiny.lid}", f"data={data}", f"out={tmp_path / 'out'}")
    assert ended.is_refused() and PROCESSED not in ended.output, ended
    assert all(part in ended.output for part in parts), ended


def test_a_shard_looks_at_its_own_languages(tiny: Lab, tmp_path: Path) -> None:
    data = tiny.copy_data(tmp_path / "data")
    twice(data / "fra")
    common = (f"checkpoint={tiny.adapters}", f"data={data}", f"out={tmp_path / 'out'}", "num_shards=3")
    ended = [run("evaluate", *common, f"shard={shard}") for shard in range(3)]
    assert sorted(one.code for one in ended) == [0, 0, 1], ended


def test_tune(tiny: Lab, tmp_path: Path) -> None:
    data, folder = tiny.copy_data(tmp_path / "data", "eng"), tmp_path / "lm/eng"
    folder.mkdir(parents=True)
    (folder / "lm.bin").write_text(WORDS)
    (folder / "lexicon.txt").write_text(LEXICON)
    shortest(data / "eng").unlink()
    common = (f"checkpoint={tiny.adapters}", f"data={data}", f"decoding.lm={folder.parent}", "split=test")
    ended = run("tune", *common, "decoding.drop_oov=true", f"out={tmp_path / 'out'}")
    assert ended.is_refused() and PROCESSED not in ended.output and "no such file" in ended.output, ended
    ended = run("tune", *common, "decoding.beam_threshold=inf", f"out={tmp_path / 'out'}")  # no file holds that
    assert ended.is_refused() and "decoding.beam_threshold is inf" in ended.output, ended


@pytest.mark.parametrize(
    ("given", "part"), [("batch_seconds=inf", "batch_seconds is inf"), ("out=/dev/null/x", "/dev/null")]
)
def test_what_cannot_be_written(tiny: Lab, tmp_path: Path, given: str, part: str) -> None:
    out = f"out={tmp_path / 'out'}"
    ended = run("evaluate", f"checkpoint={tiny.adapters}", f"data={tiny.data}", "langs=[eng]", out, given)
    assert ended.is_refused() and PROCESSED not in ended.output and part in ended.output, ended
