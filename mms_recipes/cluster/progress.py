"""How far a run is: `status.json` in its folder, written by its first process and read by anybody at any time."""

import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pydantic

from mms_recipes import files, parsing
from mms_recipes.cluster import signals, slurm

logger = logging.getLogger(__name__)

FILE = "status.json"
WRITE_SECONDS = 5.0  # not more often than that, however short an update is

RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped", "failed"


@dataclass(frozen=True)
class Progress:
    """What a run told of itself last. One that says `running` may have been killed since."""

    state: str = RUNNING
    reason: str = ""  # why it failed or stopped, one line
    num_updates: int = 0
    max_update: int = 0
    audio_per_second: float | None = None  # seconds of audio per second, all devices, since it was last started
    minutes_left: float | None = None
    langs: tuple[str, ...] = ()
    dev_cer: dict[str, float] = field(default_factory=dict)  # percent, by language; for LSAH the best so far
    job: str = ""  # of Slurm
    host: str = ""
    started: str = ""
    written: str = ""


class _Written(parsing.Schema):
    """The file of a Progress."""

    state: str = RUNNING
    reason: str = ""
    num_updates: int = pydantic.Field(0, ge=0)
    max_update: int = pydantic.Field(0, ge=0)
    audio_per_second: float | None = None
    minutes_left: float | None = None
    langs: list[str] = pydantic.Field(default_factory=list)
    dev_cer: dict[str, float] = pydantic.Field(default_factory=dict)
    job: str = ""
    host: str = ""
    started: str = ""
    written: str = ""


def read(folder: Path) -> Progress | None:
    """What the run in `folder` told last; None when it was never started. Raises ValueError when it is not readable."""
    path = folder / FILE
    try:
        read = dict(parsing.read_json(_Written, path))
        return Progress(**read | {"langs": tuple(read["langs"])})
    except FileNotFoundError:
        return None
    except ValueError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not readable ({said}); delete it: the run writes it again") from None


class ProgressFile:
    """Writes a run's status; what is told more often than every WRITE_SECONDS is kept until then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._changes: dict[str, Any] = {}  # told, not yet written
        self._next = 0.0

    def tell(self, now: bool = False, **changes: Any) -> None:
        """Change fields of Progress; `now` writes them at once. A full disk does not stop the run that tells."""
        self._changes |= changes
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + WRITE_SECONDS
        # what is not changed here may have been by a process that this one started, or that started it
        written = replace(read_or_new(self.folder), **self._changes, written=timestamp())
        try:
            text = json.dumps(asdict(written), ensure_ascii=False) + "\n"
            files.write_text(self.folder / FILE, text, sync=False)  # training would wait for the disk
            self._changes = {}
        except OSError as error:
            logger.warning(
                "%s: the status could not be written (%s); that alone stops nothing", self.folder / FILE, error
            )


def read_or_new(folder: Path) -> Progress:
    """What the run told last, or nothing where it is new or the file is broken."""
    try:
        return read(folder) or Progress()
    except ValueError:
        return Progress()


_file: ProgressFile | None = None


def follow(folder: Path) -> None:
    """From now on, what this process tells goes into the status of the run in `folder`."""
    global _file
    _file = ProgressFile(folder)


def tell(now: bool = False, **changes: Any) -> None:
    """Tell how far the run of this process is, as ProgressFile.tell; nothing happens where follow was not called."""
    if _file is not None:
        _file.tell(now, **changes)


@contextlib.contextmanager
def recorded(folder: Path, max_update: int, resuming: bool) -> Iterator[None]:
    """Note that the run in `folder` starts or goes on, and how the block ends: done, or stopped or failed and why."""
    global _file
    follow(folder)
    here = {"job": slurm.this_job(), "host": socket.gethostname(), "started": timestamp(), "max_update": max_update}
    fresh = {"state": RUNNING, "reason": "", "audio_per_second": None, "minutes_left": None}
    tell(now=True, **fresh, **here, **({} if resuming else {"num_updates": 0, "dev_cer": {}}))
    try:
        yield
    except signals.Stopped as stopped:
        tell(now=True, state=STOPPED, reason=str(stopped))
        raise
    except BaseException as error:
        tell(now=True, state=FAILED, reason=one_line(error))
        raise
    else:
        tell(now=True, state=DONE, minutes_left=0.0)
    finally:
        _file = None


def one_line(error: BaseException) -> str:
    """An error in one line; of one that came from another process, and holds its traceback, what that ends with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.endswith("Traceback (most recent call last):") for line in lines):
        return lines[-1]
    told = " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else ""  # several found: the first
    return told if told and isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {told}".rstrip(": ")


def timestamp() -> str:
    """The time, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
