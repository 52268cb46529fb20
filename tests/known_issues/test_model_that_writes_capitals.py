"""A model with a vocabulary of capitals (as wav2vec2-base-960h) was scored on small letters: WER 100 %, no word."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mms_recipes import letters
from mms_recipes.formats.huggingface import reading
from tests.known_issues import commands
from tests.known_issues.lab import Lab

GREEK = "αβγδεζηθικλμνξοπρστυφχψωάέήίόύώϊϋΐΰ"


@pytest.fixture(scope="module")
def dense(tiny: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense") / "hf"
    assert commands.run("convert", tiny.dense, folder, "--to", "huggingface").code == 0
    return folder


def spelt(folder: Path, target: Path, change: Callable[[str, int], str]) -> Path:
    """A copy whose letters are others."""
    shutil.copytree(folder, target)
    vocabulary = json.loads((target / "vocab.json").read_text())
    new = {change(token, number) if number > 4 else token: number for token, number in vocabulary.items()}
    assert len(new) == len(vocabulary)
    (target / "vocab.json").write_text(json.dumps(new))
    return target


def capital(token: str, number: int) -> str:
    return token.upper()


def greek(token: str, number: int) -> str:
    return GREEK[number - 5]


def evaluate(lab: Lab, model: Path, out: Path, *more: str) -> tuple[commands.Ended, str]:
    asked = (f"checkpoint={model}", f"data={lab.data}", "langs=[eng,fra]", f"out={out}")
    ended = commands.run("evaluate", *asked, *more)
    assert ended.code == 0, ended.output
    return ended, (out / "hypotheses.tsv").read_text()


def test_its_capitals_are_written_as_small_letters(tiny: Lab, dense: Path, tmp_path: Path) -> None:
    capitals = spelt(dense, tmp_path / "capitals", capital)
    _, expected = evaluate(tiny, dense, tmp_path / "small")
    ended, found = evaluate(tiny, capitals, tmp_path / "scores")
    assert found == expected
    assert "capitals" in ended.output and "lower case" in ended.output and "none of" not in ended.output
    asked = ("--lang", "eng", "--quiet")
    texts = {commands.run("transcribe", tiny.wav, "--checkpoint", model, *asked).output for model in (dense, capitals)}
    assert len({text.partition("INFO")[0].splitlines()[-1] for text in texts}) == 1


def test_its_files_keep_their_letters(dense: Path, tmp_path: Path) -> None:
    capitals = spelt(dense, tmp_path / "capitals", capital)
    assert commands.run("convert", capitals, tmp_path / "capitals.pt", "--to", "fairseq").code == 0
    assert commands.run("convert", tmp_path / "capitals.pt", tmp_path / "again", "--to", "huggingface").code == 0
    assert reading.read(tmp_path / "again").symbols == reading.read(capitals).symbols
    assert any(symbol.isupper() for symbol in reading.read(capitals).symbols)


def test_references_in_capitals_are_compared_with_capitals(tiny: Lab, dense: Path, tmp_path: Path) -> None:
    data = tiny.copy_data(tmp_path / "data", "eng", "fra")
    for path in [*data.glob("*/test.wrd"), *data.glob("*/test.ltr")]:
        path.write_text(path.read_text().upper())
    capitals = spelt(dense, tmp_path / "capitals", capital)
    _, small = evaluate(tiny, dense, tmp_path / "small")
    _, found = evaluate(tiny, capitals, tmp_path / "scores", f"data={data}")
    assert hypotheses(found) == [text.upper() for text in hypotheses(small)]


def hypotheses(table: str) -> list[str]:
    header, *rows = (line.split("\t") for line in table.splitlines())
    return [row[header.index("hypothesis")] for row in rows]


def test_a_model_of_another_script_is_said(tiny: Lab, dense: Path, tmp_path: Path) -> None:
    ended, _ = evaluate(tiny, spelt(dense, tmp_path / "greek", greek), tmp_path / "scores")
    (line,) = [line for line in ended.output.splitlines() if "WARNING" in line and "eng" in line]
    assert "none of" in line and "letters of the references" in line and "α β γ" in line


def test_training_says_which_letters_the_base_has(tiny: Lab, dense: Path, tmp_path: Path) -> None:
    def said(model: Path) -> list[str]:
        ended = commands.run(
            "train", *tiny.lsah(tmp_path / f"runs_{model.name}", 2), f"model.base={model}", "model.head_init=dense"
        )
        assert ended.code == 0, ended.output
        return [line for line in ended.output.splitlines() if "letters of the dictionary" in line and "eng:" in line]

    (same,) = said(dense)
    (capitals,) = said(spelt(dense, tmp_path / "capitals", capital))
    (other,) = said(spelt(dense, tmp_path / "greek", greek))
    assert "random" not in same and "random" not in capitals and "capitals" in capitals
    assert "WARNING" in other and "random at first" in other and "1 of the" in other


@pytest.mark.parametrize(
    ("symbols", "text", "expected"),
    [
        (["<s>", "|", "A", "B"], None, ["<s>", "|", "a", "b"]),
        (["<s>", "|", "A", "B"], "ab", ["<s>", "|", "a", "b"]),
        (["<s>", "|", "A", "B"], "AB", ["<s>", "|", "A", "B"]),
        (["|", "A", "a"], "a", ["|", "A", "a"]),  # two letters would be one
        (["|", "I", "\u0130"], None, ["|", "\u0131", "i"]),  # Turkish
        (["|", "HE", "LLO|"], None, ["|", "HE", "LLO|"]),  # pieces
        (["|", "あ", "字"], None, ["|", "あ", "字"]),
    ],
)
def test_letters_are_mapped_where_that_is_one_to_one(symbols: list[str], text: Any, expected: list[str]) -> None:
    assert letters.written(symbols, Counter(text) if text else None) == expected


def test_forms_of_one_letter_are_not_another_script() -> None:
    assert letters.remark(["|", "e", "\u0301"], Counter("é")) is None
    assert letters.remark(["|", "é"], Counter("e\u0301")) is None
    assert letters.remark(["|", "a|", "ab"], Counter("ab")) is None
    said = letters.remark(["|", "а", "б"], Counter("abc"))  # Cyrillic
    assert said is not None and "none of the 3 letters" in said and "а б" in said
