"""Signals that ask a process to stop: which they are, whether one came, and Slurm asked to start the job again.

What comes of it depends on who asks:

    SIGTERM   Slurm preempts the job (and requeues it by itself), or somebody cancels it (and nobody shall requeue it)
    SIGUSR1   scancel --signal=USR1, or sbatch --signal: of a job of Slurm its first rank asks for it to be requeued
    SIGUSR2   the same; submitit has Slurm send it before the time limit

Imports nothing that takes time: `end_at_once` is called before torch is imported, which takes seconds.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import FrameType

from mms_recipes.cluster import slurm

EXIT_CODE = os.EX_TEMPFAIL  # 75: not done, and nothing is wrong; for RequeueExit of slurm.conf, or a loop of one's own
REQUEUING = (signal.SIGUSR1, signal.SIGUSR2)
SIGNALS = (signal.SIGTERM, *REQUEUING)

_asked = 0  # the signal that asked this process to stop, 0 for none
_listening = False  # whether this process is inside `watched`


class Stopped(SystemExit):
    """A run that was asked to stop has lost nothing. The same command goes on with it."""

    def __init__(self, message: str, signum: int = 0, code: int = EXIT_CODE) -> None:
        super().__init__(message)
        self.code = code
        self.signum = signum


def end_at_once() -> None:
    """Until `watched` listens there is nothing to save: at a signal have the job requeued and end with EXIT_CODE."""
    for one in SIGNALS:
        signal.signal(one, _end)


def _end(signum: int, frame: FrameType | None) -> None:
    # each rank asks: one that listens already may wait for this one, which is gone
    told = f"stopped: {told_before(signum)}\n{requeue(signum)}\n"
    os.write(2, told.encode())
    os._exit(EXIT_CODE)  # no exception: some library that is being imported might swallow it


@contextlib.contextmanager
def watched(forward: bool = False) -> Iterator[None]:
    """Take note of the signals while the block runs; `forward`: pass them on to the ranks that this process starts."""
    global _asked, _listening
    if _listening or threading.current_thread() is not threading.main_thread():  # only there Python tells of signals
        yield
        return

    def note(signum: int, frame: FrameType | None) -> None:
        global _asked
        _asked = _asked or signum
        if forward:
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signum)

    before = {one: signal.signal(one, note) or signal.SIG_DFL for one in SIGNALS}
    _listening = True
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        _asked, _listening = 0, False


def asked() -> int:
    """The signal that asked this process to stop, 0 for none."""
    return _asked


def stop_if_asked() -> None:
    """Raise Stopped if a signal came: where nothing was trained yet that would be lost."""
    if _asked:
        raise Stopped(told_before(_asked), _asked)


def told_before(signum: int) -> str:
    """What to say of a run that was stopped before it began to train."""
    return f"{signal.Signals(signum).name} before the first update: the same command goes on"


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
