"""Data workers: how their batches reach training, how long one is waited for, and how they end."""

import contextlib
import functools
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from mms_recipes import fairseq_compat

logger = logging.getLogger(__name__)

MEMORY = Path("/dev/shm")  # where Linux has what processes share
LOOKS = 10  # at a worker that stands still, before it is ended
RESERVED_BYTES = 4_000_000  # of it, for locks and others, which fail without


def settings(collater: Callable[[list[Any]], Any], num_workers: int) -> dict[str, Any]:
    """What a DataLoader over `collater` takes so that neither a full /dev/shm nor a worker that stands still hangs it.

    A batch that does not come within the time that a rank is waited for ends the run. Where not even the locks of
    workers fit into it, there are none.
    """
    if num_workers:
        try:
            multiprocessing.Lock()
        except OSError as error:
            _tell_once(f"a lock ({error.strerror}): dataset.num_workers=0 is taken")
            num_workers = 0
    patience = fairseq_compat.rank_timeout() if num_workers else 0
    return {"collate_fn": functools.partial(_collate, collater), "num_workers": num_workers, "timeout": patience}


def _collate(collater: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    batch = collater(items)
    return batch if torch.utils.data.get_worker_info() is None else _shared(batch)


def _shared(node: Any) -> Any:
    """Put the tensors of a batch into shared memory, here where an error is noticed, or else have them sent as bytes.

    torch does it in a thread of the worker: with a small /dev/shm (64 MB in containers) that thread loses the batch.
    """
    if isinstance(node, dict):
        return {key: _shared(value) for key, value in node.items()}
    if not isinstance(node, torch.Tensor):
        return node
    try:
        if MEMORY.exists() and shutil.disk_usage(MEMORY).free < node.nbytes + RESERVED_BYTES:
            raise RuntimeError
        return node.share_memory_()
    except RuntimeError:
        _tell_once("a batch: it goes through a pipe, which is slower")
        return _Bytes(node)


class _Bytes:
    """A tensor that arrives as such on the other side, through a pipe."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> Any:
        return torch.from_numpy, (self.tensor.numpy(),)


@functools.cache
def _tell_once(what: str) -> None:
    logger.warning("%s has no room for %s. Give it more (docker run --shm-size=8g)", MEMORY, what)


@contextlib.contextmanager
def ended() -> Iterator[None]:
    """End the data workers that the block has left when an error or a signal ends it, and those that stand still.

    Python waits for them for ever where one stands still, and else for five seconds.
    """
    before, over = set(multiprocessing.active_children()), threading.Event()
    threading.Thread(target=_end_stopped, args=(os.getpid(), over), daemon=True).start()
    try:
        yield
    except BaseException:
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises when a worker ends
        for worker in set(multiprocessing.active_children()) - before:
            worker.kill()
            worker.join()
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
        raise
    finally:
        over.set()


def _end_stopped(parent: int, over: threading.Event) -> None:
    """Kill a child that was stopped (SIGSTOP) for as long as a rank is waited for.

    Who reads from it waits without a limit. Looks are counted, not time: Ctrl-Z stops all of them and this process.
    """
    looks: dict[int, int] = {}
    while not over.wait(fairseq_compat.rank_timeout() / LOOKS):
        stopped = [child for child in _children(parent) if _state(child) == "T"]
        looks = {child: looks.get(child, 0) + 1 for child in stopped}
        for child, count in looks.items():
            if count == LOOKS:
                logger.error("data worker (process %d) stands still, stopped by a signal: it is ended", child)
                os.kill(child, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """The processes that the threads of a process have started; none where there is no /proc."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text(encoding="ascii").split())
    return found


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""
