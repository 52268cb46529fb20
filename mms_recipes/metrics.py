"""Word and character error rates: counts, intervals, alignments.

Rates are in percent of the reference length. A character is a Unicode code point, as in fairseq and jiwer, so a
combining mark counts as one. CER leaves the spaces between words out unless `count_space` is set; jiwer counts them.
A hypothesis is counted in the Unicode form of its reference (unicode_forms.py); in the same form jiwer counts alike.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from mms_recipes.unicode_forms import in_form_of

Operation = Literal["equal", "substitute", "delete", "insert"]
_OPERATIONS: dict[str, Operation] = {
    "equal": "equal",
    "replace": "substitute",
    "delete": "delete",
    "insert": "insert",
}
MACRO = "macro"  # the mean over languages
KINDS = ("substitutions", "deletions", "insertions")  # of errors: the fields of ErrorCounts
_DRAWS_AT_ONCE = 4_000_000  # of the bootstrap: 32 MB


@dataclass(frozen=True)
class ErrorCounts:
    """The edits that turn references into hypotheses, and the length of the references. Counts add up with `+`."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_length: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors in percent of the reference length; for an empty reference 0 without errors, else infinity."""
        if self.reference_length == 0:
            return math.inf if self.errors else 0.0
        return 100 * self.errors / self.reference_length

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_length + other.reference_length,
        )


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Count the fewest edits from `reference` to `hypothesis`, lists of words or strings of characters.

    Their sum is unique; their split into kinds is that of one shortest path, the same one that jiwer takes.
    """
    if reference == hypothesis:
        return ErrorCounts(reference_length=len(reference))
    tags = [operation.tag for operation in Levenshtein.editops(reference, hypothesis)]
    return ErrorCounts(tags.count("replace"), tags.count("delete"), tags.count("insert"), len(reference))


def word_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Count errors over the words, which whitespace separates."""
    return count_errors(reference.split(), in_form_of(reference, hypothesis).split())


def character_errors(reference: str, hypothesis: str, count_space: bool = False) -> ErrorCounts:
    """Count errors over the characters; with `count_space` over single spaces between words too."""
    space = " " if count_space else ""
    return count_errors(space.join(reference.split()), space.join(in_form_of(reference, hypothesis).split()))


class Aligned(NamedTuple):
    """One step of an alignment; the missing side of a deletion or insertion is the empty string."""

    operation: Operation
    reference: str
    hypothesis: str


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Aligned]:
    """Align words (or characters) along the path whose edits `count_errors` counts."""
    steps: list[Aligned] = []
    for block in Levenshtein.opcodes(reference, hypothesis):
        references = reference[block.src_start : block.src_end]
        hypotheses = hypothesis[block.dest_start : block.dest_end]
        pairs = itertools.zip_longest(references, hypotheses, fillvalue="")
        steps += [Aligned(_OPERATIONS[block.tag], *pair) for pair in pairs]
    return steps


def bootstrap_rates(
    errors: Sequence[int], lengths: Sequence[int], seed: int | Sequence[int], num_resamples: int = 1000
) -> npt.NDArray[np.float64]:
    """Return the corpus rate (percent) of each of `num_resamples` draws of as many utterances, with replacement.

    `errors` and `lengths` (of the references) hold one entry per utterance. The same seed gives the same draws.
    """
    if len(errors) != len(lengths) or len(errors) == 0:
        raise ValueError(f"{len(errors)} error counts for {len(lengths)} lengths; expected equally many, at least one")
    if sum(lengths) == 0:
        raise ValueError("all references are empty: there is no error rate")
    rng = np.random.default_rng(seed)
    pairs = np.stack([np.asarray(errors, dtype=np.int64), np.asarray(lengths, dtype=np.int64)])
    count = len(errors)
    rates: list[npt.NDArray[np.float64]] = []
    left = num_resamples
    while left > 0:
        draws = rng.integers(0, count, (min(left, max(1, _DRAWS_AT_ONCE // count)), count))
        drawn_errors, drawn_lengths = pairs[:, draws].sum(axis=2)
        rates.append(100 * drawn_errors / np.maximum(drawn_lengths, 1))
        left -= len(draws)
    return np.concatenate(rates)


def percentile_interval(rates: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the bounds that hold the middle 95 % of resampled rates."""
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def macro(rates: Iterable[float]) -> float:
    """Return the unweighted mean over languages."""
    listed = list(rates)
    if not listed:
        raise ValueError("no language to average over")
    return sum(listed) / len(listed)


def ranking(sure_N: npt.NDArray[np.floating], bad_N: npt.NDArray[np.bool_]) -> float | None:
    """Return how often a bad utterance is less sure than a good one (area under the ROC curve); ties count half.

    None where all are good or all are bad.
    """
    bad, good = int(bad_N.sum()), int((~bad_N).sum())
    if not bad or not good:
        return None
    _, places_N, counts = np.unique(sure_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks_N = ((last - counts + 1 + last) / 2)[places_N]  # the mean rank of those that are equal
    return float((ranks_N[~bad_N].sum() - good * (good + 1) / 2) / (bad * good))
