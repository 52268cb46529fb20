"""Work on many items in forked processes: they share what was loaded before, models and emissions, without a copy.

The work must not use torch: its threads do not live on in a forked process. Results come back through pipes.
"""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
_starting = threading.Lock()  # else another thread's workers inherit a pipe, which then outlives its own worker


def can_fork() -> bool:
    """Say whether processes can share memory by forking; on macOS a fork may crash inside Apple's libraries."""
    return "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"


def num_workers(wanted: int) -> int:
    """Return how many processes to start: `wanted`, 0 for one per core that this process may use.

    Raises ValueError below 0. Where processes cannot be forked it is 1, which is logged.
    """
    if wanted < 0:
        raise ValueError(f"decoding.workers is {wanted}, expected 0 (one for each core) or more")
    if not can_fork():
        logger.warning("this platform (%s) cannot fork: beam search runs in one process", sys.platform)
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return wanted or cores


def work_through(
    work: Callable[[int], Result], count: int, workers: int, name: Callable[[int], str] = str
) -> Iterator[tuple[int, Result]]:
    """Yield each of `count` items with its result, as they come; each free worker takes the next item.

    `name` says what an item is, for messages. Raises ChildProcessError when a worker is killed or its work fails, after
    which no worker is left; the reason is in the message. With one worker all is done in this process.
    """
    if workers == 1 or count < 2:
        yield from ((item, work(item)) for item in range(count))
        return
    pool = _start(work, count, min(workers, count))
    try:
        yield from _results(pool, count, name)
    finally:
        for process, receiver in pool:
            process.terminate()
            process.join()
            receiver.close()


def trial(work: Callable[..., object], arguments: tuple[Any, ...], path: Path, seconds: float) -> None:
    """Do work with a file in a process of its own, so that it can crash there; all that it returns is dropped.

    Raises ValueError with what the work raised, or how its process was ended; it may take so many seconds.
    """
    context = multiprocessing.get_context("fork" if can_fork() else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process: BaseProcess = context.Process(target=_try, args=(sender, work, arguments), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # as in _start
        process.start()
    sender.close()
    ended, said = False, None
    try:
        if ended := receiver.poll(seconds):
            with contextlib.suppress(EOFError, OSError):
                said = receiver.recv()
    finally:
        process.join(1 if ended else 0)
        process.kill()
        process.join()
        receiver.close()
    if said == "":
        return
    if said is None:
        code = process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        end = f"ended the process that read it ({how})" if ended else f"was not read within {seconds:.0f} s"
        said = f"{path}: broken: it {end}; copy it again, or build it again with tools/build_lm.py"
    raise ValueError(said)


def _try(sender: Connection, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Do work, and send what it raised, or nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C++ writes there before it ends the process
    try:
        work(*arguments)
        said = ""
    except MemoryError:
        said = "not enough memory to load this model"
    except Exception as error:  # whatever it is, the parent tells it
        said = str(error) if isinstance(error, ValueError | OSError) else repr(error)
    sender.send(said)


def _start(work: Callable[[int], Any], count: int, workers: int) -> list[tuple[BaseProcess, Connection]]:
    context = multiprocessing.get_context("fork")
    following = context.Value("q", 0)
    pool: list[tuple[BaseProcess, Connection]] = []
    with _starting:
        for _ in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            inherited = [receiver, *(earlier for _, earlier in pool)]
            process = context.Process(target=_serve, args=(work, count, following, sender, inherited), daemon=True)
            with warnings.catch_warnings():
                # Python 3.12 warns of forking beside threads; these are torch's, and the work does not use torch
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            sender.close()  # so that the pipe ends when its worker does
            pool.append((process, receiver))
    return pool


def _serve(
    work: Callable[[int], Any], count: int, following: Any, sender: Connection, inherited: list[Connection]
) -> None:
    """Live the life of a worker. It works in a thread, whose memory glibc takes from a new arena.

    From the inherited heap it would take gaps between the nodes of the model, and each page with one would become the
    worker's own: 450 MB of 545 MB with a lexicon of 250,000 words, instead of 12 MB.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends the workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by this one, which it may catch itself
    for receiver in inherited:
        receiver.close()
    thread = threading.Thread(target=_do_items, args=(work, count, following, sender))
    thread.start()
    thread.join()


def _do_items(work: Callable[[int], Any], count: int, following: Any, sender: Connection) -> None:
    """Do items until none is left; send (item, state, value) when one begins, is done or fails."""
    while True:
        with following.get_lock():
            item = following.value
            following.value += 1
        if item >= count:
            return
        sender.send((item, "begun", None))
        try:
            sender.send((item, "done", work(item)))
        except Exception:  # whatever it is, the parent tells it
            sender.send((item, "failed", traceback.format_exc()))
            return


def _results(
    pool: list[tuple[BaseProcess, Connection]], count: int, name: Callable[[int], str]
) -> Iterator[tuple[int, Any]]:
    """Yield results until every worker has ended; all items must have come by then."""
    open_pipes = {receiver: process for process, receiver in pool}
    busy: dict[Connection, int] = {}
    received = 0
    while open_pipes:
        for receiver in multiprocessing.connection.wait(list(open_pipes)):
            assert isinstance(receiver, Connection)
            try:
                item, state, value = receiver.recv()
            except (EOFError, OSError):  # OSError: it ended within a message
                process = open_pipes.pop(receiver)
                process.join()
                if process.exitcode:
                    raise ChildProcessError(_end(process, busy.get(receiver), name)) from None
                continue
            if state == "begun":
                busy[receiver] = item
            elif state == "failed":
                raise ChildProcessError(f"beam search of {name(item)} failed:\n{value}")
            else:
                busy.pop(receiver)
                received += 1
                yield item, value
    if received != count:
        raise ChildProcessError(f"{received} of {count} utterances came back from the workers")


def _end(process: BaseProcess, item: int | None, name: Callable[[int], str]) -> str:
    """Say how a worker ended, and why that may be."""
    code = process.exitcode or 0
    reason = f"exit code {code}"
    if code < 0:
        reason = signal.Signals(-code).name
        if -code == signal.SIGKILL:
            reason += ", as the system does when memory runs out: fewer decoding.workers or a smaller model need less"
    doing = f" in the beam search of {name(item)}" if item is not None else ""
    return f"a worker (process {process.pid}) was ended{doing}: {reason}; no score is given for the rest alone"
