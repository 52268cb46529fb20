"""Files that are there under a name in NFD, with slashes or other capitals were 'audio missing', without their path."""

import os
import unicodedata
from pathlib import Path

import pytest

from mms_recipes.manifest import Utterance, write_split
from tests.known_issues.tables import prepare, recordings, words

__all__ = ["recordings"]


@pytest.fixture
def clips(recordings: Path) -> Path:
    folder = recordings / "My Clips"
    folder.mkdir()
    os.rename(recordings / "a.wav", folder / unicodedata.normalize("NFD", "perché.wav"))
    os.rename(recordings / "b.wav", folder / unicodedata.normalize("NFC", "così.wav"))
    os.rename(recordings / "c.wav", folder / "C 3.WAV")
    return recordings


@pytest.mark.parametrize(
    ("written", "remark"),
    [
        (unicodedata.normalize("NFC", "My Clips/perché.wav"), "Unicode form"),
        (unicodedata.normalize("NFD", "My Clips/così.wav"), "Unicode form"),
        ("My Clips\\C 3.WAV", "backslashes"),
        ("my clips/c 3.wav", "capitals"),
        (".\\my clips\\PERCHÉ.wav", "capitals"),
        ("My Clips/C 3.WAV ", ""),
        ("My Clips /C\u00a03.WAV", "blanks"),
        ("C:\\Users\\me\\My Clips\\C 3.WAV", "another computer"),
        ("\\\\server\\share\\My Clips\\C 3.WAV", "another computer"),
    ],
)
def test_files_are_found_and_it_is_said(clips: Path, written: str, remark: str) -> None:
    ended = prepare(clips, "t.tsv", f"path\ttext\n{written}\tone\n")
    assert ended.code == 0, ended.output
    assert words(clips) == ["one"]
    if remark:
        assert remark in ended.output and "t.tsv:2" in ended.output


def test_what_is_not_there_is_shown_with_what_is(clips: Path) -> None:
    rows = ["My Clips/C 3.mp3", "My Clips/così2.wav", "Clips/a.wav", "D:\\x\\y.wav", "x\\y.wav"]
    ended = prepare(clips, "t.tsv", "path\ttext\n" + "".join(f"{row}\tone\n" for row in rows))
    assert ended.is_refused()
    for row in rows:
        assert str(clips / row) in ended.output, ended.output
    for fact in ("near to it: C 3.WAV", "near to it: così.wav", f"no folder {clips / 'Clips'}", "backslashes"):
        assert fact in ended.output, ended.output


def test_several_files_may_be_meant(clips: Path) -> None:
    (clips / "My Clips/c 3.wav").write_bytes(b"")
    ended = prepare(clips, "t.tsv", "path\ttext\nMy Clips/C 3.wav\tone\n")
    assert ended.is_refused()
    assert "several files" in ended.output and "C 3.WAV" in ended.output and "c 3.wav" in ended.output


def test_two_spellings_of_one_file_are_one_file(clips: Path) -> None:
    ended = prepare(clips, "t.tsv", "path\ttext\nMy Clips/C 3.WAV\tone\nmy clips\\c 3.wav\ttwo\n")
    assert ended.is_refused() and "t.tsv:3" in ended.output and "t.tsv:2" in ended.output


def test_a_name_that_is_not_utf8(clips: Path) -> None:
    os.rename(os.fsencode(clips / "My Clips/C 3.WAV"), os.fsencode(clips) + b"/My Clips/k\xe4se.wav")
    ended = prepare(clips, "t.tsv", "path\ttext\nMy Clips/käse.wav\tone\nMy Clips/così.wav\ttwo\n")
    assert ended.is_refused()
    assert "t.tsv:2" in ended.output and "not UTF-8" in ended.output and "rename" in ended.output
    assert words(clips) == ["two"]


def test_a_folder_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"k\xe4se.wav")
    with pytest.raises(ValueError, match=r"not UTF-8; rename it"):
        write_split(tmp_path, "train", tmp_path, [Utterance(name, 1, "a |", "a", "u")])
    with pytest.raises(ValueError, match=r"not UTF-8; rename it"):
        write_split(tmp_path, "train", tmp_path / name, [Utterance("a.wav", 1, "a |", "a", "u")])
