"""Signals that ask a process to stop: which they are, whether one came, and Slurm asked to start the job again.

What comes of it depends on who asks:

    SIGTERM   Slurm preempts the job (and requeues it by itself), or somebody cancels it (and nobody shall requeue it)
    SIGUSR1   scancel --signal=USR1, or sbatch --signal: of a job of Slurm its first rank asks for it to be requeued
    SIGUSR2   the same; submitit has Slurm send it before the time limit
    SIGINT    Ctrl-C, which reaches every process that the terminal has started here; a second one ends at once
    SIGHUP    the terminal was closed, or its connection is gone

What was started to ignore a signal goes on ignoring it: nohup does that for SIGHUP, a script's `&` for SIGINT.
Imports nothing that takes time: `end_at_once` is called before torch is imported, which takes seconds.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from mms_recipes.cluster import slurm

EXIT_CODE = os.EX_TEMPFAIL  # 75: not done, and nothing is wrong; for RequeueExit of slurm.conf, or a loop of one's own
REQUEUING = (signal.SIGUSR1, signal.SIGUSR2)
BY_HAND = (signal.SIGINT, signal.SIGHUP)  # they end with 128 + the signal, as shells expect it: 130, 129
SIGNALS = (signal.SIGTERM, *REQUEUING, *BY_HAND)
PATIENCE_SECONDS = 2.0  # after which it is told what a run that was asked to stop is waiting for

_asked = 0  # the signal that asked this process to stop, 0 for none
_listening = False  # whether this process is inside `watched`


class Stopped(SystemExit):
    """A run that was asked to stop has lost nothing. The same command goes on with it."""

    def __init__(self, message: str, signum: int = 0, code: int | None = None) -> None:
        super().__init__(message)
        self.code = exit_code(signum) if code is None else code
        self.signum = signum


def exit_code(signum: int) -> int:
    """The exit status of a command that the signal has stopped."""
    return 128 + signum if signum in BY_HAND else EXIT_CODE


def end_at_once() -> None:
    """Until `watched` listens there is nothing to save: at a signal have the job requeued and end."""
    for one in SIGNALS:
        _handle(one, _end)


def end_quietly() -> None:
    """As end_at_once for the other commands, which only Ctrl-C ends so, until `interruptible` is called."""
    _handle(signal.SIGINT, _end_quietly)


def interruptible() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, so that what is done can be kept."""
    if _is_main_thread() and signal.getsignal(signal.SIGINT) in (_end, _end_quietly):
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Interrupted(KeyboardInterrupt):
    """A signal that ends a command as Ctrl-C does."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def interrupted_by(*signums: int) -> None:
    """From now on these signals raise Interrupted, so that what is done can be kept."""
    if _is_main_thread():
        for one in signums:
            _handle(one, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def told_interrupted(kept: object = "", signum: int = signal.SIGINT) -> str:
    """What to say of a command that Ctrl-C or another signal ended; `kept`: what it has done."""
    return f"stopped: {named(signum)}{f': {kept}' if str(kept) else ''}"


def _end(signum: int, frame: FrameType | None) -> None:
    # each rank asks: one that listens already may wait for this one, which is gone
    told = "\n".join(line for line in (f"stopped: {told_before(signum)}", requeue(signum)) if line)
    os.write(2, f"{told}\n".encode())
    os._exit(exit_code(signum))  # no exception: some library that is being imported might swallow it


def _end_quietly(signum: int, frame: FrameType | None) -> None:
    os.write(2, f"{told_interrupted()}\n".encode())
    os._exit(exit_code(signum))


def _handle(signum: int, handler: Any) -> Any:
    """Set a handler and return the one before; a signal that is ignored stays ignored (nohup)."""
    before = signal.getsignal(signum)
    if before is not signal.SIG_IGN:
        signal.signal(signum, handler)
    return before or signal.SIG_DFL


def _is_main_thread() -> bool:
    """Only there Python tells of signals."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def watched(forward: bool = False) -> Iterator[None]:
    """Take note of the signals while the block runs; `forward`: pass them on to the ranks that this process starts.

    A second SIGINT or SIGHUP ends this process and its ranks at once. Data workers, which are forked here, take no
    notice of any: their rank asks for batches until it has stopped.
    """
    global _asked, _listening
    if _listening or not _is_main_thread():
        yield
        return
    owner, pressed = os.getpid(), False
    starter = None if forward else multiprocessing.parent_process()

    def note(signum: int, frame: FrameType | None) -> None:
        global _asked
        nonlocal pressed
        if os.getpid() != owner:
            return
        if starter is not None and not starter.is_alive():  # torch has a rank signalled then
            os._exit(exit_code(signum))
        _asked = _asked or signum
        if not forward:
            return
        ranks = [child for child in multiprocessing.active_children() if isinstance(child, SpawnProcess)]
        if signum in BY_HAND and pressed:
            for rank in ranks:
                rank.kill()
            os.write(2, f"stopped: {named(signum)} again; it goes on from its last checkpoint\n".encode())
            os._exit(exit_code(signum))
        for rank in ranks:
            if rank.pid is not None:
                os.kill(rank.pid, signum)
        if signum in BY_HAND:
            pressed = True
            patience.start()

    patience = threading.Timer(PATIENCE_SECONDS, _tell_to_wait)
    patience.daemon = True
    before = {one: _handle(one, note) for one in SIGNALS}
    _listening = True
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # `held` while this rank was started
        yield
    finally:
        patience.cancel()
        for one, handler in before.items():
            signal.signal(one, handler)
        _asked, _listening = 0, False


def _tell_to_wait() -> None:
    os.write(2, b"waiting for this update (or validation) to end, then for its checkpoint; Ctrl-C again ends at once\n")


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold signals back while the block starts ranks: they keep what comes until they listen, instead of being killed.

    A process inherits what is held back.
    """
    resource_tracker.ensure_running()  # else it is started in the block, and lets SIGINT and SIGTERM through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def asked() -> int:
    """The signal that asked this process to stop, 0 for none."""
    return _asked


def stop_if_asked() -> None:
    """Raise Stopped if a signal came: where nothing was trained yet that would be lost."""
    if _asked:
        raise Stopped(told_before(_asked), _asked)


def named(signum: int) -> str:
    """A signal's name, for people: `SIGINT (Ctrl-C)`."""
    what = {signal.SIGINT: " (Ctrl-C)", signal.SIGHUP: " (the terminal was closed)"}
    return signal.Signals(signum).name + what.get(signal.Signals(signum), "")


def told_before(signum: int) -> str:
    """What to say of a run that was stopped before it began to train."""
    return f"{named(signum)} before the first update: the same command goes on"


def requeue(signum: int) -> str:
    """Ask Slurm to start this job again, if that is what the signal means; return what came of it, '' for nothing."""
    job = slurm.this_job()
    if not job or signum not in REQUEUING:
        return ""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False, timeout=60)
        failed = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = str(error)
    if failed:
        return f"job {job} could not be requeued ({failed}); submit it again: it goes on"
    return f"job {job} is requeued"
