"""`transcribe --out` wrote over the reference beside a recording, over notes, and over the recording itself."""

import os
import shutil
from pathlib import Path

import pytest

from tests.known_issues import commands
from tests.known_issues.lab import Lab


def transcribe(tiny: Lab, *arguments: object) -> commands.Ended:
    return commands.run("transcribe", *arguments, "--checkpoint", tiny.adapters, "--lang", "eng", "--quiet")


@pytest.fixture
def recordings(tiny: Lab, tmp_path: Path) -> Path:
    folder = tmp_path / "rec"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        shutil.copy(tiny.wav, folder / name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("kind", "out", "there"),
    [
        ("text", "rec", "rec/a.txt"),  # the reference beside the recording
        ("text", "rec/", "rec/sub/c.txt"),
        ("jsonl", "rec", "rec/b.json"),
        ("srt", "subtitles/", "subtitles/a.srt"),
        ("text", "notes.md", "notes.md"),
        ("vtt", "dir", "dir/sub/c.vtt"),
    ],
)
def test_what_is_there_stays(tiny: Lab, recordings: Path, tmp_path: Path, kind: str, out: str, there: str) -> None:
    file = tmp_path / there
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine\n")
    before = contents(tmp_path)
    found = transcribe(tiny, recordings, "--format", kind, "--out", f"{tmp_path}/{out}")
    assert found.is_refused() and contents(tmp_path) == before
    assert str(file) in found.output and "--overwrite" in found.output
    again = transcribe(tiny, recordings, "--format", kind, "--out", f"{tmp_path}/{out}", "--overwrite")
    assert again.code == 0 and file.read_bytes() != b"mine\n"


def test_a_recording_is_never_replaced(tiny: Lab, recordings: Path, tmp_path: Path) -> None:
    os.symlink(recordings / "a.wav", tmp_path / "link.txt")
    os.link(recordings / "a.wav", tmp_path / "second name.txt")
    model = tmp_path / "model.pt"
    shutil.copy(tiny.dense, model)
    before = contents(tmp_path)
    for out in (recordings / "a.wav", tmp_path / "link.txt", tmp_path / "second name.txt", model):
        for option in ([], ["--overwrite"]):
            found = commands.run(
                "transcribe", recordings / "a.wav", "--checkpoint", model, "--lang", "eng", "--out", out, *option
            )
            assert found.is_refused() and str(out) in found.output, found.output
            assert contents(tmp_path) == before
    shutil.copy(tiny.wav, recordings / "d.txt")  # audio whose name is that of its transcript
    found = transcribe(tiny, recordings / "d.txt", "--out", recordings, "--overwrite")
    assert found.is_refused() and "which this command reads" in found.output


def test_links_are_not_replaced_either(tiny: Lab, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine\n")
    os.symlink(tmp_path / "kept.txt", tmp_path / "link.txt")
    os.symlink(tmp_path / "nowhere.txt", tmp_path / "dangling.txt")
    for out in (tmp_path / "link.txt", tmp_path / "dangling.txt"):
        assert transcribe(tiny, recordings, "--out", out).is_refused()
        assert (tmp_path / "kept.txt").read_text() == "mine\n" and not (tmp_path / "nowhere.txt").exists()
    assert transcribe(tiny, recordings, "--out", tmp_path / "link.txt", "--overwrite").code == 0
    assert (tmp_path / "link.txt").is_symlink() and "a.wav\t" in (tmp_path / "kept.txt").read_text()


def test_the_list_that_is_read_is_not_replaced(tiny: Lab, recordings: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{recordings / 'a.wav'}\n")
    found = commands.call(_with_stdin, listed, tiny.adapters, "--out", listed, "--overwrite")
    assert found.is_refused() and listed.read_text() == f"{recordings / 'a.wav'}\n"
    assert commands.call(_with_stdin, listed, tiny.adapters, "--out", tmp_path / "new.txt").code == 0


def _with_stdin(stdin: Path, adapters: Path, *arguments: object) -> object:
    os.dup2(os.open(stdin, os.O_RDONLY), 0)
    options = ("-", *arguments, "--checkpoint", adapters, "--lang", "eng", "--quiet")
    return commands.as_typed("transcribe", tuple(map(str, options)))


def test_one_recording_that_is_named_twice_is_written_once(tiny: Lab, recordings: Path, tmp_path: Path) -> None:
    wav = recordings / "a.wav"
    assert transcribe(tiny, wav, wav, "--out", f"{tmp_path}/out/").code == 0
    assert set(contents(tmp_path / "out")) == {"a.txt"}
    other = transcribe(tiny, wav, recordings / "sub" / ".." / "a.wav", "--out", f"{tmp_path}/other/")
    assert other.is_refused() and "a.wav.txt" in other.output and not (tmp_path / "other").exists()


def test_pipes_and_devices_are_written_to_and_not_replaced(tiny: Lab, recordings: Path) -> None:
    found = transcribe(tiny, recordings / "a.wav", "--out", "/dev/stdout")
    assert found.code == 0 and "a.wav\t" in found.output
    assert transcribe(tiny, recordings / "a.wav", "--out", "/dev/null").code == 0
    assert not Path("/dev/null").is_file()


def test_a_broken_model_is_refused_before_anything_is_written(tiny: Lab, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"no model")
    out = tmp_path / "o.txt"
    found = commands.run(
        "transcribe", recordings, "--checkpoint", tmp_path / "broken.pt", "--lang", "eng", "--out", out
    )
    assert found.is_refused() and sorted(os.listdir(tmp_path)) == ["broken.pt", "rec"]
