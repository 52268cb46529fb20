"""Which audio a command works on."""

import io
from pathlib import Path

import pytest

from mms_recipes import sources
from mms_recipes.sources import Source


def found(paths: list, stdin: bytes = b"", null: bool = False) -> list[Source]:
    return sources.find(paths, io.BytesIO(stdin), null)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/two.FLAC", "b/one.wav", "a.mp3", "notes.txt", ".hidden.wav", "b/c/ünï cödé.ogg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def test_a_folder_is_looked_through_for_audio_in_order(folder: Path) -> None:
    names = [str(source.relative) for source in found([folder])]
    assert names == ["a.mp3", "b/one.wav", "b/two.FLAC", "b/c/ünï cödé.ogg"]


def test_a_file_is_taken_whatever_it_is_and_though_it_is_missing(folder: Path) -> None:
    files = [folder / "notes.txt", folder / "missing.wav", folder / "a.mp3"]
    assert [source.path for source in found(files)] == files
    assert found(files)[0].relative == Path("notes.txt")


def test_a_folder_without_audio_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").touch()
    with pytest.raises(ValueError, match=r"no audio in this folder; looked for \.aif "):
        found([tmp_path])


def test_a_list_has_paths_and_languages(folder: Path) -> None:
    listed = f"\ufeff{folder}/a.mp3\teng\r\n\n{folder}/b/one.wav\n{folder}/b\tauto\nmiss ing.wav\t azj-script_latin \n"
    names = [(source.path.name, source.lang) for source in found(["-"], listed.encode())]
    assert names == [
        ("a.mp3", "eng"),
        ("one.wav", None),
        ("one.wav", "auto"),
        ("two.FLAC", "auto"),
        ("ünï cödé.ogg", "auto"),
        ("miss ing.wav", "azj-script_latin"),
    ]


def test_a_null_list_may_hold_line_breaks_and_a_name_tabs_and_any_bytes(tmp_path: Path) -> None:
    odd = tmp_path / "line\nbreak\tand tab.wav"
    odd.touch()
    first, second, third = found(["-"], f"{odd}\0{odd}\tita\0".encode() + b"\xff.wav\0", null=True)
    assert (first.path, first.lang) == (odd, None) and (second.path, second.lang) == (odd, "ita")
    assert str(third.path) == "\udcff.wav"  # os.fsdecode; it opens under its own bytes


def test_an_unknown_language_in_a_list_is_told_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"^stdin:2: unknown language or set 'engl'; nearest: .*eng"):
        found(["-"], b"a.wav\teng\nb.wav\tengl\n")


def test_an_empty_list_is_told() -> None:
    with pytest.raises(ValueError, match="no audio files: the list on standard input is empty"):
        found(["-"], b"\n")
