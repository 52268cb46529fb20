"""Standard input, output and error as a command finds them: closed, full, or a pipe that nobody reads any more.

Terminals obey control characters, and names and texts come from files of others: what is printed and logged here shows
them instead.
"""

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

BROKEN_PIPE = 128 + 13  # status of a program that SIGPIPE ends, as `yes | head -1` leaves it
STDOUT = "standard output"
_MODES = {"stdin": "r", "stdout": "w", "stderr": "w"}
_closed: set[str] = set()  # those that this process was started without
# all that is no character to be seen, and what turns the direction of the text around it
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROLS_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str, lines: bool = False) -> str:
    """Return a text with its control characters as \\u001b, as JSON has them; with `lines` tabs and line ends stay."""
    return (_CONTROLS_IN_LINES if lines else _CONTROLS).sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def require_output() -> None:
    """Raise OSError when there is no standard output to write results to."""
    if "stdout" in _closed:
        raise OSError("standard output is closed: nobody would get the results; redirect it to a file")


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Run a command whose standard output may not take all that is written; what it prints and logs is `printable`.

    Raises OSError that says so when it is full, SystemExit(BROKEN_PIPE) when its reader is gone: that is no fault.
    """
    _open_closed()
    ended: BaseException | None = None
    stdout, stderr, record = sys.stdout, sys.stderr, logging.getLogRecordFactory()
    sys.stdout, sys.stderr = _Printable(stdout), _Dispensable(stderr)
    logging.setLogRecordFactory(_Record)
    try:
        yield
    except BaseException as error:
        ended = error
    finally:
        sys.stdout, sys.stderr = stdout, stderr
    fault = ended if isinstance(ended, OSError) and ended.filename == STDOUT else drain()
    logging.setLogRecordFactory(record)
    if fault is not None and fault.errno == errno.EPIPE:
        raise SystemExit(BROKEN_PIPE)
    if fault is not None:
        raise OSError(f"{STDOUT}: not all of it could be written ({fault.strerror})")
    if ended is not None:
        raise ended


def drain() -> OSError | None:
    """Write out what waits; return what is wrong with standard output. What cannot be written is dropped.

    Else Python would try again when it ends, fail, print that and end with status 120.
    """
    fault = _drained(sys.stdout)
    _drained(sys.stderr)
    return fault


def _drained(stream: TextIO) -> OSError | None:
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        with contextlib.suppress(OSError):
            stream.flush()
        return error
    return None


class _Bytes:
    """The bytes of standard output; an error of writing them says so."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        with _named():
            return int(self._stream.write(data))

    def flush(self) -> None:
        with _named():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Printable(_Bytes):
    """Standard output that shows control characters, and bytes of names that are no text."""

    @property
    def buffer(self) -> _Bytes:
        return _Bytes(self._stream.buffer)

    def write(self, text: str) -> int:  # type: ignore[override]
        encoding = self._stream.encoding or "ascii"
        shown = printable(text, lines=True).encode(encoding, "backslashreplace").decode(encoding)
        with _named():
            return int(self._stream.write(shown))


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, STDOUT) from None


class _Dispensable:
    """Standard error: no work ends because nobody can read of it, on a full disk or a terminal that was closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Record(logging.LogRecord):
    def getMessage(self) -> str:
        return printable(super().getMessage(), lines=True)


def _open_closed() -> None:
    """Put /dev/null in the place of what is closed, so that no file that is opened gets its number."""
    for name, mode in _MODES.items():
        if getattr(sys, name) is None:
            _closed.add(name)
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, so its own
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))
