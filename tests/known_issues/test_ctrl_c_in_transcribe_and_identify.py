"""Ctrl-C threw away what was done, with a traceback; standard streams that are closed or full ended in one too."""

import contextlib
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.known_issues import commands
from tests.known_issues.lab import Lab


@pytest.fixture
def recordings(tiny: Lab, tmp_path: Path) -> Path:
    folder = tmp_path / "rec"
    folder.mkdir()
    for number in range(6):
        shutil.copy(tiny.wav, folder / f"{number}.wav")
    return folder


def _stopped(command: str, arguments: tuple[str, ...], signum: int, after: int) -> Any:
    """Run a command that gets a signal when its model has worked on so many batches."""
    from mms_recipes.models.encoder import FrozenEncoder

    real, calls = FrozenEncoder.context, 0

    def context(self: Any, *args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            os.kill(os.getpid(), signum)
        return real(self, *args, **more)

    FrozenEncoder.context = context  # type: ignore[method-assign]
    return commands.as_typed(command, arguments)


def stopped(tiny: Lab, command: str, *arguments: object, signum: int = signal.SIGINT, after: int = 2) -> commands.Ended:
    more = ["--lang", "eng", "--quiet", "--batch-seconds", 1] if command == "transcribe" else []
    more = more or ["--window-seconds", 1, "--batch-seconds", 1]
    model = tiny.lid if command == "identify" else tiny.adapters
    line = (*arguments, "--checkpoint", model, *more)
    return commands.call(_stopped, command, tuple(map(str, line)), signum, after)


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_what_is_done_is_in_the_file(tiny: Lab, recordings: Path, tmp_path: Path, signum: int, code: int) -> None:
    out = tmp_path / "o.txt"
    found = stopped(tiny, "transcribe", recordings, "--out", out, signum=signum)
    assert found.code == code and "Traceback" not in found.output
    assert [line.partition("\t")[0] for line in out.read_text().splitlines()] == [
        str(recordings / f"{number}.wav") for number in range(2)
    ]
    assert "2 of 6 files are done" in found.last_line and str(out) in found.last_line
    assert sorted(os.listdir(tmp_path)) == ["o.txt", "rec"]
    again = commands.run("transcribe", recordings, "--checkpoint", tiny.adapters, "--lang", "eng", "--out", out)
    assert again.is_refused() and "--overwrite" in again.output


def test_what_is_done_is_in_the_folder_and_on_standard_output(tiny: Lab, recordings: Path, tmp_path: Path) -> None:
    found = stopped(tiny, "transcribe", recordings, "--out", f"{tmp_path}/out/", "--format", "jsonl")
    assert found.code == 130 and sorted(os.listdir(tmp_path / "out")) == ["0.json", "1.json"]
    found = stopped(tiny, "transcribe", recordings, after=3)
    assert found.code == 130 and found.output.count(".wav\t") == 3 and "3 of 6 files are done" in found.last_line


def test_nothing_is_left_where_nothing_was_done(tiny: Lab, recordings: Path, tmp_path: Path) -> None:
    found = stopped(tiny, "transcribe", recordings, "--out", tmp_path / "o.txt", after=0)
    assert found.code == 130 and "0 of 6 files are done" in found.last_line
    assert os.listdir(tmp_path) == ["rec"]


def test_identify_prints_what_is_done(tiny: Lab, recordings: Path) -> None:
    found = stopped(tiny, "identify", recordings)
    assert found.code == 130 and "Traceback" not in found.output
    done = found.output.count(".wav\t")
    assert 0 < done < 6 and f"{done} of 6 files are done" in found.last_line


# ---- standard streams


def _without(number: int, mode: str, command: str, arguments: tuple[str, ...]) -> Any:
    """Run a command as Python starts it without one of its standard streams, or with a full one or a broken pipe."""
    name, said = ("stdin", "stdout", "stderr")[number], os.dup(2)
    if mode == "closed":
        os.close(number)
        setattr(sys, name, None)
    elif mode == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)
    else:
        receiver, sender = os.pipe()
        os.close(receiver)
        os.dup2(sender, number)
    code: Any = 0
    try:
        code = commands.as_typed(command, arguments)
    except SystemExit as ended:
        code = ended.code
    for stream in (sys.stdout, sys.stderr):  # as Python does when it ends; a failure is status 120
        try:
            stream.flush()
        except OSError:
            code = 120
    with contextlib.suppress(OSError):
        os.dup2(said, 2)
    sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
    print(f"ended with {code}")
    raise SystemExit(code)


@pytest.mark.parametrize("command", ["transcribe", "identify"])
@pytest.mark.parametrize(
    ("number", "mode", "code"),
    [
        (0, "closed", 0),
        (2, "closed", 0),
        (2, "full", 0),
        (1, "closed", 1),
        (1, "full", 1),
        (1, "broken", 128 + signal.SIGPIPE),
        (2, "broken", 0),
    ],
)
def test_standard_streams(tiny: Lab, command: str, number: int, mode: str, code: int) -> None:
    line = [tiny.wav, "--checkpoint", tiny.lid if command == "identify" else tiny.adapters]
    line += ["--lang", "eng"] if command == "transcribe" else []
    found = commands.call(_without, number, mode, command, tuple(map(str, line)))
    assert found.code == code and "Traceback" not in found.output, found.output
    if (number, mode) == (1, "full"):
        assert os.strerror(errno.ENOSPC) in found.output and "standard output" in found.output
    if (number, mode) == (1, "closed"):
        assert "standard output is closed" in found.output


def test_output_goes_to_a_file_without_standard_output(tiny: Lab, tmp_path: Path) -> None:
    line = [tiny.wav, "--checkpoint", tiny.adapters, "--lang", "eng", "--out", tmp_path / "o.txt"]
    found = commands.call(_without, 1, "closed", "transcribe", tuple(map(str, line)))
    assert found.code == 0 and "test_0.wav\t" in (tmp_path / "o.txt").read_text()
    assert found.output.count("test_0.wav") == 0  # no file got the number of standard output


@pytest.mark.slow
def test_real_processes(tiny: Lab, tmp_path: Path) -> None:
    command = f"{sys.executable} -m mms_recipes.transcribe {tiny.wav} --checkpoint {tiny.adapters} --lang eng --quiet"
    cases = ((" <&- >&-", 1), (" > /dev/full", 1), (f" --out {tmp_path}/o.txt <&- 2> /dev/full", 0))
    for redirected, code in cases:
        ended = subprocess.run(
            ["bash", "-c", command + redirected], capture_output=True, text=True, cwd=commands.REPOSITORY, check=False
        )
        assert ended.returncode == code and "Traceback" not in ended.stderr, (redirected, ended)
