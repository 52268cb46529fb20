"""One pipe, one strange name, one file that changes: transcribe and identify lost the others, or waited for ever."""

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.known_issues import commands
from tests.known_issues.lab import Lab

STRANGE = (
    b"caf\xe9.wav",
    b"line\nbreak.wav",
    b"\x1b[31mred\x1b[0m.wav",
    "c1\x9b31m.wav".encode(),
    "turn\u202egpj.wav".encode(),
)


def run(command: str, tiny: Lab, *arguments: object) -> commands.Ended:
    if command == "transcribe":
        arguments = (*arguments, "--lang", "eng", "--quiet")
    return commands.run(command, *arguments, "--checkpoint", tiny.lid if command == "identify" else tiny.adapters)


@pytest.mark.parametrize("command", ["transcribe", "identify"])
def test_names_of_any_bytes(tiny: Lab, tmp_path: Path, command: str) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()
    shutil.copy(tiny.wav, folder / "a.wav")
    for name in STRANGE:
        shutil.copy(os.fsencode(tiny.wav), os.fsencode(folder) + b"/" + name)
    found = run(command, tiny, folder)
    assert found.code == 0 and len([line for line in found.output.splitlines() if "\t" in line]) == 1 + len(STRANGE)
    assert not any(control in found.output for control in "\x1b\x9b\u202e")
    assert "\\xe9.wav" in found.output  # the byte itself, as this test reads it
    as_json = run(command, tiny, folder, *(["--json"] if command == "identify" else ["--format", "jsonl"]))
    paths = {os.fsencode(json.loads(line)["path"]) for line in as_json.output.splitlines() if line.startswith("{")}
    assert paths == {os.fsencode(folder) + b"/" + name for name in (b"a.wav", *STRANGE)}
    if command == "transcribe":
        assert run(command, tiny, folder, "--out", f"{tmp_path}/out/").code == 0
        assert len(os.listdir(tmp_path / "out")) == 1 + len(STRANGE)


@pytest.mark.parametrize("command", ["transcribe", "identify"])
def test_pipes_sockets_devices_and_what_is_no_audio(tiny: Lab, tmp_path: Path, command: str) -> None:
    shutil.copy(tiny.wav, tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "esc\x1b[31m.wav").write_text("no audio")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s.wav"))
        found = run(command, tiny, tmp_path, "/dev/zero", "/dev/null")
    assert found.code == 1 and "Traceback" not in found.output and f"{tmp_path}/a.wav\t" in found.output
    for name in ("pipe.wav: a named pipe", "s.wav: ", "/dev/zero: a device", "/dev/null: a device"):
        assert name in found.output
    assert "5 of 6 files could not be used" in found.output and "\x1b" not in found.output


def _cut_after_its_first_reading(command: str, arguments: tuple[str, ...], share: float) -> object:
    from mms_recipes import recordings

    real = recordings.summarize

    def then_cut(path: Path) -> recordings.Summary:
        found = real(path)
        os.truncate(path, int(os.path.getsize(path) * share))
        return found

    recordings.summarize = then_cut
    return commands.as_typed(command, arguments)


@pytest.mark.parametrize("share", [0.3, 0.0, 1.5])
def test_a_recording_that_changes_between_two_readings(tiny: Lab, tmp_path: Path, share: float) -> None:
    samples, rate = soundfile.read(tiny.wav, dtype="float32")
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 30), rate)
    shutil.copy(tiny.wav, tmp_path / "short.wav")
    out = tmp_path / "o.txt"
    arguments = [tmp_path / "long.wav", tmp_path / "short.wav", "--checkpoint", tiny.adapters, "--lang", "eng"]
    arguments += ["--out", out, "--whole-seconds", 2, "--window-seconds", 16]
    found = commands.call(_cut_after_its_first_reading, "transcribe", tuple(map(str, arguments)), share)
    assert "Traceback" not in found.output and f"{tmp_path}/short.wav\t" in out.read_text()
    assert found.code == (0 if share > 1 else 1) and ("long.wav: " in found.output) == (share < 1)


def test_a_list_that_is_none_is_told(tiny: Lab, tmp_path: Path) -> None:
    (tmp_path / "nul").write_bytes(bytes(tiny.wav) + b"\0" + bytes(tiny.wav) + b"\0")
    for stdin, told in (
        (tiny.wav, "audio, expected a list"),
        (tmp_path / "nul", "--null"),
        (Path(os.devnull), "empty"),
    ):
        found = commands.call(_with_stdin, str(stdin), str(tiny.adapters))
        assert found.is_refused() and told in found.last_line


def _with_stdin(stdin: str, adapters: str) -> object:
    os.dup2(os.open(stdin, os.O_RDONLY), 0)
    return commands.as_typed("transcribe", ("-", "--checkpoint", adapters, "--lang", "eng"))
