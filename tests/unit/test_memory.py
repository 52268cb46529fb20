"""A batch that memory does not hold is done by halves, in order, and what never fits is told."""

from collections.abc import Sequence

import pytest
import torch

from mms_recipes import memory

TOO_MUCH = 1 << 55  # more bytes than any machine has


def double(batch: Sequence[int]) -> list[int]:
    """Need more memory than there is for more than two items, or for the item 7."""
    torch.empty(TOO_MUCH if len(batch) > 2 or 7 in batch else 1, dtype=torch.uint8)
    return [2 * item for item in batch]


def test_by_halves() -> None:
    told: list[list[int]] = []
    found = memory.by_halves([1, 2, 3, 4, 7, 6], double, lambda batch: told.append(list(batch)))
    results = {item: str(result) if isinstance(result, MemoryError) else result for item, result in found}
    assert list(results) == [1, 2, 3, 4, 7, 6]
    assert {item: result for item, result in results.items() if item != 7} == {1: 2, 2: 4, 3: 6, 4: 8, 6: 12}
    assert "can't allocate memory" in str(results[7])
    assert told == [[1, 2, 3, 4, 7, 6], [1, 2, 3], [4, 7, 6], [7, 6]]


def test_other_errors_are_not_taken_for_it() -> None:
    def work(batch: Sequence[int]) -> list[int]:
        return [int(torch.zeros(2, 3) @ torch.zeros(2))]

    with pytest.raises(RuntimeError, match="size mismatch"):
        list(memory.by_halves([1, 2], work, lambda batch: None))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("could not create a primitive")]
)
def test_what_means_out_of_memory(error: Exception) -> None:
    assert memory.is_out_of_memory(error) and not memory.is_out_of_memory(ValueError("x"))
