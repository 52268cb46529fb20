"""Cedilla and comma, Arabic and Persian kaf, a Latin letter in a Cyrillic word: two letters of one dictionary."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mms_recipes import manifest
from mms_recipes.corpora import lookalikes
from mms_recipes.text import to_letters
from tests.known_issues import commands


def corpus(folder: Path, lang: str, lines: list[str]) -> Path:
    """A corpus of these lines, whose audio is long enough for them."""
    audio = folder / lang / "a.wav"
    audio.parent.mkdir(parents=True)
    rows = []
    for number, words in enumerate(lines):
        audio = folder / lang / f"{number}.wav"
        num_samples = 1000 + 700 * len(words)
        soundfile.write(audio, np.zeros(num_samples), 16_000)
        rows.append(manifest.Utterance(audio.name, num_samples, to_letters(words), words, f"{lang}_train_{number}"))
    manifest.write_split(folder / lang, "train", folder / lang, rows)
    counts = manifest.count_letters([folder / lang / "train.ltr"])
    manifest.write_dictionary(folder / lang / "dict.ltr.txt", counts)
    return folder


@pytest.mark.parametrize(
    ("lang", "lines", "facts"),
    [
        ("ron", ["și așa", "aşa", "țară"], ["U+0219", "2 times", "U+015F", "1 times", "train.ltr:2"]),
        ("ron", ["fără", "fǎrǎ"], ["U+0103", "U+01CE", "train.ltr:2"]),
        ("fas", ["کتاب", "كتاب"], ["U+06A9", "U+0643", "train.ltr:2"]),
        ("fas", ["یک", "ي"], ["U+06CC", "U+064A", "train.ltr:2"]),
        ("urd-script_arabic", ["ہے", "هم"], ["U+06C1", "U+0647"]),
        ("rus", ["привет мир", "привeт"], ["'привeт'", "U+0065", "train.wrd:2"]),
        ("ell", ["καλημέρα", "καλημερa"], ["U+0061", "train.wrd:2"]),
        ("eng", ["hello", "hеllo"], ["U+0435", "train.wrd:2"]),
        ("haw", ["\u02bbokina", "'okina"], ["U+02BB", "U+0027"]),
        ("aze", ["gəl", "gǝl"], ["U+0259", "U+01DD"]),
    ],
)
def test_they_are_named_with_counts_and_places(tmp_path: Path, lang: str, lines: list[str], facts: list[str]) -> None:
    ended = commands.run("tools/validate_manifests.py", corpus(tmp_path, lang, lines))
    assert ended.code == 0
    for fact in facts:
        assert fact in ended.output, ended.output


@pytest.mark.parametrize("letters", ["abcăâîșț", "абвгдеёжіїєґ", "אבגדהכךמם", "گکیهءآ", "ىيكهةءأ", "ɛeəɔoŋnɖd", "iı"])
def test_alphabets_are_not(letters: str) -> None:
    assert lookalikes.find(letters) == []


def test_latin_words_in_cyrillic_text_are_not(tmp_path: Path) -> None:
    ended = commands.run("tools/validate_manifests.py", corpus(tmp_path, "rus", ["слушай youtube", "web-сайт"]))
    assert "mixed" not in ended.output and "U+0065" not in ended.output.replace("look", ""), ended.output


def test_letters_that_hardly_occur(tmp_path: Path) -> None:
    lines = [*["the quick brown fox jumps over the lazy dog"] * 150, "fa\u00e7ade"]
    ended = commands.run("tools/validate_manifests.py", corpus(tmp_path, "eng", lines))
    assert "U+00E7" in ended.output and "train.ltr:151" in ended.output, ended.output
