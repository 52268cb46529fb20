"""Letters typed as quotes or ASCII punctuation vanished, and nothing said so."""

import json
from pathlib import Path

import pytest
import soundfile

from tests.known_issues.tables import RATE, prepare, recordings, tone, words

__all__ = ["recordings"]


@pytest.mark.parametrize(
    ("lang", "texts", "made"),
    [
        ("naq", ["!Gâi tsēs, |khaob ||aes!", "=nû ‖gâu"], ["ǃgâi tsēs ǀkhaob ǁaes", "ǂnû ǁgâu"]),
        ("haw", ["‘O ka ‘ōlelo", "\u02bbO Hawai’i"], ["'o ka 'ōlelo", "'o hawai'i"]),
        ("hau", ["’yan majalisa", "\u02bcyan 'yan"], ["'yan majalisa", "'yan 'yan"]),
        ("nld", ["’s Avonds op ’t veld."], ["'s avonds op 't veld"]),
        ("che", ["кIант, 1ад"], ["кӏант ӏад"]),
    ],
)
def test_they_are_kept(recordings: Path, lang: str, texts: list[str], made: list[str]) -> None:
    rows = "".join(f"{name}.wav\t{text}\n" for name, text in zip("abc", texts, strict=False))
    ended = prepare(recordings, "t.tsv", f"path\ttext\n{rows}", "--lang", lang)
    assert ended.code == 0, ended.output
    assert words(recordings, lang) == made
    assert "warning" not in ended.output


def test_those_that_became_letters_are_counted(recordings: Path) -> None:
    ended = prepare(recordings, "t.tsv", "path\ttext\na.wav\t!nae |hom !garises\n", "--lang", "naq")
    assert "'ǃ' 2" in ended.output and "'ǀ' 1" in ended.output, ended.output


@pytest.mark.parametrize(
    ("lang", "text", "facts"),
    [
        ("eng", "!nae went to !garises and !gau", ["'!' (U+0021)", "begins 50 % of the words", "'!nae'", "a letter?"]),
        ("fin", "EU:n ja USA:n", ["':' (U+003A)", "within", "'eu:n'"]),
        ("eng", "’tama ’gari ’nera sat", ["U+2019", "begins", "’tama"]),
        ("ara", "كِتَاب", ["U+0650", "U+064E", "كِتَاب"]),
    ],
)
def test_those_that_are_dropped_are_named(recordings: Path, lang: str, text: str, facts: list[str]) -> None:
    ended = prepare(recordings, "t.tsv", f"path\ttext\na.wav\t{text}\n", "--lang", lang)
    assert ended.code == 0, ended.output
    for fact in facts:
        assert fact in ended.output, ended.output


def test_ordinary_punctuation_is_not(recordings: Path) -> None:
    text = '"Well," he said, "it (really) is: don\'t go!" - ¿Qué? A low-pressure area… ‘so’' + " and so on" * 9
    soundfile.write(recordings / "d.wav", tone(12), RATE)
    ended = prepare(recordings, "t.tsv", f"path\ttext\nd.wav\t{text}\n")
    assert ended.code == 0, ended.output
    assert "dropped" not in ended.output and "warning" not in ended.output, ended.output


def test_what_was_dropped_is_kept_in_prepared_json(recordings: Path) -> None:
    prepare(recordings, "t.tsv", "path\ttext\na.wav\tHello, world - it’s a|b!\n")
    split = json.loads((recordings / "out/eng/prepared.json").read_text())["splits"]["train"]
    assert split["settings"]["normalization"] == "mms-2"
    assert split["dropped"][","] == 1 and split["dropped"]["|"] == 1
    assert split["words_changed"] == 2  # it’s, a|b


def test_mms_1_stays_for_what_was_made_with_it(recordings: Path) -> None:
    table = "path\ttext\na.wav\t’yan\n"
    assert prepare(recordings, "t.tsv", table, "--lang", "hau", "--normalization", "mms-1").code == 0
    assert words(recordings, "hau") == ["yan"]
    dev = prepare(recordings, "t.tsv", table.replace("a.wav", "b.wav"), "--lang", "hau", "--split", "dev")
    assert dev.code == 0 and "normalised as mms-1" in dev.output and "--normalization mms-2" in dev.output
    assert words(recordings, "hau", "dev") == ["yan"]
    other = prepare(recordings, "t.tsv", table, "--lang", "hau", "--split", "test", "--normalization", "mms-2")
    assert other.is_refused() and "mms-1" in other.output and "mms-2" in other.output


def test_a_language_model_is_normalised_as_its_corpus(recordings: Path) -> None:
    from mms_recipes.corpora.preparation import normalization_for

    assert normalization_for(recordings / "out", "hau", None) == "mms-2"
    table = "path\ttext\na.wav\t’yan\n"
    assert prepare(recordings, "t.tsv", table, "--lang", "hau", "--normalization", "mms-1").code == 0
    assert normalization_for(recordings / "out", "hau", None) == "mms-1"
    assert normalization_for(recordings / "out", "eng", None) == "mms-1"
    assert normalization_for(recordings / "out", "eng", "none") == "none"
    (recordings / "out/hau/prepared.json").write_text('{"splits": {"train": 1}}')
    again = prepare(recordings, "t.tsv", table, "--lang", "hau")
    assert again.is_refused() and "prepared.json: splits.train" in again.output
