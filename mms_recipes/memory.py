"""Work that may need more memory than there is: a batch that does not fit is done by halves."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
# what torch, oneDNN and the C++ library say on the CPU; CUDA has an exception of its own
MESSAGES = ("can't allocate memory", "not enough memory", "bad_alloc", "Cannot allocate", "could not create a ")


def by_halves(
    batch: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]], shrink: Callable[[Sequence[T]], object]
) -> Iterator[tuple[T, R | MemoryError]]:
    """Yield each item of a batch with its result; a MemoryError in its place where it alone does not fit.

    `shrink` is told a batch that did not fit before its halves are tried: later batches should be no larger.
    """
    found: Sequence[R] = ()
    said = None
    try:
        found = work(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error).strip().partition("\n")[0]
    if said is None:
        yield from zip(batch, found, strict=True)
        return
    if torch.cuda.is_available():  # outside of `except`, where what the attempt took is free again
        torch.cuda.empty_cache()
    if len(batch) == 1:
        yield batch[0], MemoryError(said)
        return
    shrink(batch)
    half = len(batch) // 2
    yield from by_halves(batch[:half], work, shrink)
    yield from by_halves(batch[half:], work, shrink)


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error means that memory ran out, on whatever device."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or any(message in str(error) for message in MESSAGES)
