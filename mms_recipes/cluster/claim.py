"""Claim a run's folder, so that no two processes of a cluster train or submit the same run at once.

A claim is a file that is created only if it is not there, which also network file systems do in one step; fcntl's
locks do not hold on all of them. It tells who made it, and one whose maker is certainly gone (killed, requeued, its
machine started again) is taken over at once. Where that cannot be seen, for example from another machine without Slurm,
or of a node that Slurm has lost, it is taken over after two minutes in which its maker gave no sign of life: that is,
touched the file. No clocks are compared: they differ between machines, and jump.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mms_recipes.cluster import signals, slurm

logger = logging.getLogger(__name__)

HALF_WRITTEN_SECONDS = 2.0
BEAT_SECONDS = 10.0  # between signs of life
SILENT_SECONDS = 120.0  # network file systems may tell of a touched file a minute later


@dataclass(frozen=True)
class Holder:
    """The process that made a claim."""

    host: str
    boot: str  # which start of that machine
    space: str  # which of its spaces of process numbers: containers have their own
    pid: int
    started: str  # ticks from the machine's start to the process's: pids are used again
    job: str  # of Slurm, or ''
    restarts: int  # how often that job was requeued
    since: str  # for people
    node: str = ""  # as Slurm calls the machine

    def __str__(self) -> str:
        job = f" (Slurm job {self.job})" if self.job else ""
        return f"process {self.pid} on {self.host}{job} since {self.since}"


def this_process() -> Holder:
    """Who makes a claim here."""
    return Holder(
        host=socket.gethostname(),
        boot=_boot(),
        space=_space(),
        pid=os.getpid(),
        started=_started(os.getpid()) or "",
        job=slurm.this_job(),
        restarts=slurm.restarts(),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        node=os.environ.get("SLURMD_NODENAME", ""),
    )


@contextlib.contextmanager
def claimed(path: Path, doing: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the claim `path` while the block runs. `doing` is for the message: "trained", "submitted".

    A job that Slurm started again waits for as long as what it was before lives on, on a node that Slurm has lost.
    Raises ValueError when another process holds it and has not let go of it after `wait_seconds`, signals.Stopped when
    a signal comes meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    me = this_process()
    mine = json.dumps(asdict(me))
    _take(path, me, mine, doing, wait_seconds)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, mine, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        if _read(path) == mine:
            path.unlink(missing_ok=True)


def _take(path: Path, me: Holder, mine: str, doing: str, wait_seconds: float) -> None:
    """Create the claim, as soon as nobody has it any more."""
    deadline, told = time.monotonic() + wait_seconds, ""
    while not _create(path, mine):
        if (text := _read(path)) is None:
            continue
        other = _holder(text, path)
        earlier = other.job != "" and other.job == me.job and other.restarts < me.restarts
        gone = is_gone(other, me)
        if told != text and (gone is None or (earlier and not gone)):
            told = text
            then = "until it ends: the node may be cut off" if earlier else f"for up to {SILENT_SECONDS:g} s"
            logger.warning("%s: held by %s; looking whether it lives, %s", path, other, then)
        if gone is None:
            gone = _is_silent(path)
        if gone:
            _take_away(path, text)
        elif not earlier and time.monotonic() > deadline:
            raise ValueError(
                f"{path.parent}: is being {doing} by {other}. Wait until it is done, or stop it"
                f"{f' (scancel {other.job})' if other.job else ''} and start this again"
            )
        else:
            _pause(0.2)


def _beat(path: Path, mine: str, ended: threading.Event) -> None:
    """Give signs of life; end this process if, stopped for long, it was taken for dead and another has the claim."""
    while not ended.wait(BEAT_SECONDS):
        try:
            if (text := _read(path)) is None:  # somebody deleted it
                _create(path, mine)
            elif text != mine:
                logger.error("%s: the claim was taken over while this process stood still; it ends", path)
                os._exit(1)
            else:
                os.utime(path)
        except OSError as error:  # a disk that is away for a while
            logger.warning("%s: %s", path, error)


def _is_silent(path: Path) -> bool:
    """Whether the maker of a claim gives no sign of life for SILENT_SECONDS."""
    deadline = time.monotonic() + SILENT_SECONDS
    try:
        seen = path.stat().st_mtime_ns
        while time.monotonic() < deadline:
            _pause(0.5)
            if path.stat().st_mtime_ns != seen:
                return False
    except FileNotFoundError:
        return False
    return True


def _pause(seconds: float) -> None:
    time.sleep(seconds)
    signals.stop_if_asked()


def holder(path: Path) -> Holder | None:
    """Who holds the claim `path`, or None."""
    text = _read(path)
    return None if text is None else _holder(text, path)


def is_gone(other: Holder, me: Holder) -> bool | None:
    """Whether the process of a claim has certainly ended (True), certainly lives (False), or None."""
    if (other.host, other.boot, other.space) == (me.host, me.boot, me.space):  # hosts and containers may share a name
        return _started(other.pid) != other.started
    if not other.job or (other.job == me.job and other.restarts >= me.restarts):
        return None
    try:
        if other.job != me.job and other.job in slurm.queued([other.job]):
            return False
    except OSError:
        return None
    # Slurm says that it has ended, and starts a job again only then: of a node that it has lost it cannot know
    return True if slurm.answers(other.node) else None


def _create(path: Path, text: str) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # a full disk; an empty claim would stop whoever comes next
        path.unlink(missing_ok=True)
        raise OSError(f"{path}: could not be written ({error}); free some space and start this again") from error
    return True


def _read(path: Path) -> str | None:
    """What a claim says; None when it is not there any more. One that is being written is waited for."""
    deadline = time.monotonic() + HALF_WRITTEN_SECONDS
    while True:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        if text.endswith("}") or time.monotonic() > deadline:
            return text
        time.sleep(0.05)


def _holder(text: str, path: Path) -> Holder:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        raise ValueError(f"{path}: not readable ({text[:60]!r}); if nothing trains this run, delete the file") from None


def _take_away(path: Path, text: str) -> None:
    """Remove the claim that says `text`, but not one that another process has put there in the meantime."""
    aside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if aside.read_text(encoding="utf-8") != text:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process was started, None when there is none (or only its parent has not yet noticed that it ended)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return _alive_without_proc(pid)
    return None if fields[0] in "ZX" else fields[19]


def _alive_without_proc(pid: int) -> str | None:
    """As _started where there is no /proc (macOS): only whether the process lives."""
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
