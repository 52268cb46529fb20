"""A named pipe, a device, a socket or a folder where audio is expected: named at once, and the others are used."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from mms_recipes import audio_files, recordings
from mms_recipes.audio_files import AudioError
from tests.known_issues import commands
from tests.known_issues.lab import Lab

KINDS = {"pipe": "a named pipe", "device": "a device", "socket": "a socket", "folder": "a folder"}


def make(kind: str, path: Path) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as one:
            before = Path.cwd()
            os.chdir(path.parent)  # the name of a socket must be short
            one.bind(path.name)
            os.chdir(before)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_each_reader_names_it(kind: str, tmp_path: Path) -> None:
    path = make(kind, tmp_path / "b.wav")
    told = rf"b\.wav: ({KINDS[kind]}, expected a regular file|not readable)"  # a socket cannot be opened at all
    for read in (recordings.read, recordings.summarize, audio_files.require_regular, audio_files.read_bytes):
        with pytest.raises(AudioError, match=told):
            read(path)
    with pytest.raises(AudioError, match=told):
        audio_files.place(path, tmp_path / "x", in_place=True)
    assert recordings.expected_seconds(path) == 0
    found = audio_files.probe(path, 16_000)
    assert found and found[0] == "unreadable audio"


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_commands_go_on_with_the_others(tiny: Lab, kind: str, tmp_path: Path) -> None:
    shutil.copy(tiny.wav, tmp_path / "a.wav")
    path = make(kind, tmp_path / "b.wav")
    model = ("--checkpoint", tiny.dense, "--lang", "eng")
    heard = commands.run("transcribe", tmp_path / "a.wav", path, *model, timeout=60)
    assert heard.is_refused() and f"{tmp_path / 'a.wav'}\t" in heard.output and KINDS[kind] in heard.output
    said = commands.run("identify", tmp_path / "a.wav", path, "--checkpoint", tiny.lid, timeout=60)
    assert said.is_refused() and str(tmp_path / "a.wav") in said.output and KINDS[kind] in said.output
    (tmp_path / "t.tsv").write_text("path\ttext\na.wav\tabc\nb.wav\tabc\n")
    made = commands.run("tools/prepare_folder.py", tmp_path / "t.tsv", tmp_path / "out", "--lang", "eng", timeout=60)
    assert made.is_refused() and "1 utterances" in made.output and "eng_train_b" in made.output


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_evaluation_and_validation_end(tiny: Lab, split: str, tmp_path: Path) -> None:
    data = tiny.copy_data(tmp_path / "data", "eng")
    path = make("pipe", tmp_path / "b.wav")
    rows = (data / f"eng/{split}.tsv").read_text().splitlines()
    rows[1] = f"{path}\t{rows[1].split(chr(9))[1]}"
    (data / f"eng/{split}.tsv").write_text("\n".join(rows) + "\n")
    checked = commands.run("tools/validate_manifests.py", data, timeout=60)
    assert checked.is_refused() and "b.wav: a named pipe" in checked.output
    if split == "test":
        model = f"checkpoint={tiny.dense}"
        ended = commands.run("evaluate", model, f"data={data}", f"out={tmp_path / 'out'}", timeout=60)
    else:
        arguments = ("task.langs=[eng]", f"task.data={data}")
        ended = commands.run("train", *tiny.lsah(tmp_path / "runs", 2, *arguments), timeout=60)
    assert ended.is_refused() and "b.wav: a named pipe" in ended.output, ended.output
