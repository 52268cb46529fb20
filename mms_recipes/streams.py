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
    stdout, record = sys.stdout, logging.getLogRecordFactory()
    sys.stdout = _Printable(stdout)
    logging.setLogRecordFactory(_Record)
    try:
        yield
    except BaseException as error:
        ended = error
    finally:
        sys.stdout = stdout
    fault = drain()
    logging.setLogRecordFactory(record)
    if fault is not None and fault.errno == errno.EPIPE:
        raise SystemExit(BROKEN_PIPE)
    if fault is not None:
        raise OSError(f"standard output: not all of it could be written ({fault.strerror})")
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


class _Printable:
    """A stream that shows control characters, and bytes of names that are no text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        shown = printable(text, lines=True)
        with contextlib.suppress(UnicodeEncodeError):
            return self._stream.write(shown)
        encoding = self._stream.encoding or "ascii"
        return self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))

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
