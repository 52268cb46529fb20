"""m4a, webm and others in a folder were passed over without a word; so were audio without a suffix and hidden audio."""

import shutil
from pathlib import Path

import pytest

from tests.known_issues import commands
from tests.known_issues.lab import Lab

BEGINNINGS = {
    "b.m4a": b"\0\0\0\x1cftypM4A \0\0\0\0",
    "c.WEBM": b"\x1aE\xdf\xa3\0\0\0\0",
    "d.mp4": b"\0\0\0\x18ftypisom\0\0\0\0",
    "e.aac": b"\xff\xf1\x50\x80\0\0\0\0",
    "f.wma": b"0&\xb2u\x8ef\xcf\x11\xa6\xd9",
    "g.amr": b"#!AMR\n\0\0",
    "h.m4b": b"\0\0\0\x1cftypM4B \0\0\0\0",
    "i.mkv": b"\x1aE\xdf\xa3\0\0\0\0",
    "j": b"\0\0\0\x1cftypM4A \0\0\0\0",  # an m4a without its suffix
}


@pytest.fixture
def folder(tiny: Lab, tmp_path: Path) -> Path:
    for name in ("a.wav", "B.WAV", "sub/recording", ".hidden.wav", "old.snd"):
        (tmp_path / "rec" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny.wav, tmp_path / "rec" / name)
    for name, begin in BEGINNINGS.items():
        (tmp_path / "rec" / name).write_bytes(begin + bytes(100))
    (tmp_path / "rec" / "notes.txt").write_text("nothing to hear\n")
    (tmp_path / "rec" / "__MACOSX").mkdir()
    (tmp_path / "rec" / "__MACOSX" / "._a.wav").write_bytes(b"\0\5\x16\7\0\2\0\0")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "rec" / "link").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "rec"


@pytest.mark.parametrize("command", ["transcribe", "identify"])
def test_they_are_counted_and_named_with_what_to_do(tiny: Lab, folder: Path, command: str) -> None:
    model = tiny.lid if command == "identify" else tiny.adapters
    more = ["--lang", "eng", "--quiet"] if command == "transcribe" else []
    found = commands.run(command, folder, "--checkpoint", model, *more)
    assert found.code == 0
    for name in ("a.wav", "B.WAV", "old.snd"):
        assert f"{folder / name}\t" in found.output
    told = next(line for line in found.output.splitlines() if "passed over" in line)
    assert f"{len(BEGINNINGS)} that libsndfile does not read" in told and "ffmpeg -i b.m4a b.flac" in told
    assert all(name in told for name in BEGINNINGS)
    assert "recording" in told and ".hidden.wav" in told and "link" in told
    assert "notes.txt" not in told and "._a.wav" not in told


def test_a_folder_with_nothing_else_is_refused_with_the_same_words(tiny: Lab, tmp_path: Path) -> None:
    (tmp_path / "b.m4a").write_bytes(BEGINNINGS["b.m4a"])
    found = commands.run("transcribe", tmp_path, "--checkpoint", tiny.adapters, "--lang", "eng")
    assert found.is_refused() and "ffmpeg -i b.m4a b.flac" in found.last_line
