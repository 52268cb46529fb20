"""Transcripts as lines, files and folders."""

import io
import json
import os
from pathlib import Path

import pytest

from mms_recipes.decoding.word_times import Word
from mms_recipes.sources import Source
from mms_recipes.transcription import outputs, transcripts
from mms_recipes.transcription.outputs import open_output
from mms_recipes.transcription.transcripts import Transcript

WORDS = [Word("hello", 0.12, 0.5, 0.97, 0.9, 0.91234567), Word("world", 0.6, 1.0, 0.9, 0.7, 0.8)]


def heard(name: str | Path) -> Transcript:
    return Transcript(Path(name), "eng", "hello world", 1.5, 0.8, 0.9, WORDS)


def written(out: Path | str | None, kind: str, *found: Source) -> bytes:
    stdout = io.BytesIO()
    with open_output(out, kind, found, stdout) as write:
        for source in found:
            write(source, heard(source.path))
    return stdout.getvalue()


def test_lines_of_json_have_what_is_known() -> None:
    line = json.loads(transcripts.to_text(heard("a b.wav"), "jsonl", alone=False))
    assert line == {
        "path": "a b.wav",
        "lang": "eng",
        "seconds": 1.5,
        "text": "hello world",
        "confidence": 0.9,
        "words": [
            {"word": "hello", "start": 0.12, "end": 0.5, "confidence": 0.9123},
            {"word": "world", "start": 0.6, "end": 1.0, "confidence": 0.8},
        ],
    }
    said = Transcript(Path("a"), "eng", "hello", 1.5, 0.8, None, [WORDS[0]._replace(confidence=None)])
    line = json.loads(said.as_json())  # without a calibration it is no probability, and is not called one
    assert line["score"] == 0.8 and line["words"] == [{"word": "hello", "start": 0.12, "end": 0.5, "score": 0.97}]
    failed = Transcript(Path("b.wav"), "eng", error="b.wav: holds no samples")
    assert json.loads(failed.as_json()) == {"path": "b.wav", "lang": "eng", "error": "b.wav: holds no samples"}
    assert transcripts.to_text(failed, "text", alone=False) == transcripts.to_text(failed, "srt", alone=True) == ""
    routed = Transcript(Path("c.wav"), "nob", "", 1.0, None, None, [], 0.25, "sounds like nno")
    assert json.loads(routed.as_json())["lang_probability"] == 0.25
    assert json.loads(routed.as_json())["remark"] == "sounds like nno"


def test_names_with_tabs_line_breaks_and_odd_bytes_survive() -> None:
    odd = os.fsdecode(b"\xff.wav")
    names = ["a b.wav", "日本.wav", "tab\tand\nline.wav", odd, "\x1b[31m.wav"]
    lines = written(None, "text", *(Source(Path(name)) for name in names)).split(b"\n")
    assert lines[0] == b"a b.wav\thello world" and lines[1] == "日本.wav\thello world".encode()
    assert lines[2] == b'"tab\\tand\\nline.wav"\thello world' and lines[3] == b"\xff.wav\thello world"
    assert lines[4].startswith(b'"\\u001b[31m.wav"\t')  # terminals would obey it
    found = [json.loads(heard(name).as_json())["path"] for name in names]
    assert found == names


def test_a_file_appears_when_all_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    source = Source(Path("a.wav"))
    with open_output(out, "text", [source], io.BytesIO()) as write:
        write(source, heard("a.wav"))
        assert not out.exists()
    assert out.read_text() == "a.wav\thello world\n" and os.listdir(tmp_path) == ["out.txt"]
    guard = outputs.guard([], overwrite=True)
    with pytest.raises(KeyboardInterrupt), open_output(out, "text", [source], io.BytesIO(), guard):
        raise KeyboardInterrupt
    assert out.read_text() == "a.wav\thello world\n" and os.listdir(tmp_path) == ["out.txt"]


def test_a_folder_gets_a_file_each_in_the_folders_of_the_sources(tmp_path: Path) -> None:
    sources = [Source(Path("x/a.wav"), None, Path("x/a.wav")), Source(Path("b.mp3")), Source(Path("b.wav"))]
    assert written(f"{tmp_path}/new/", "text", *sources) == b""
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"new/x/a.txt", "new/b.mp3.txt", "new/b.wav.txt"}
    assert (tmp_path / "new/x/a.txt").read_text() == "hello world\n"
    written(tmp_path / "subtitles", "vtt", *sources)
    assert (tmp_path / "subtitles/b.wav.vtt").read_text().startswith("WEBVTT\n\n00:00:00.120 --> ")


def test_subtitles_of_one_recording_may_go_anywhere(tmp_path: Path) -> None:
    source = Source(Path("a.wav"))
    assert written(None, "srt", source).startswith(b"1\n00:00:00,120 --> 00:00:01,500\nhello world\n")
    written(tmp_path / "film.srt", "srt", source)
    assert (tmp_path / "film.srt").is_file()
    with pytest.raises(ValueError, match="srt of 2 recordings: give a folder for them with --out"):
        written(None, "srt", source, source)


def test_output_that_cannot_be_is_told(tmp_path: Path) -> None:
    source = Source(Path("x/a.wav"))
    with pytest.raises(OSError, match=r"missing/out\.txt: cannot be written \(No such file or directory\)"):
        written(tmp_path / "missing/out.txt", "text", source)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/inside: cannot be written to \(Not a directory\)"):
        written(f"{tmp_path}/file/inside/", "text", source)
    with pytest.raises(ValueError, match=r"x/a\.wav and y/a\.wav would both be written to a\.wav\.txt; give"):
        written(tmp_path, "text", source, Source(Path("y/a.wav")))
