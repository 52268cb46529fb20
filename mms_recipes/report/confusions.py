"""What was mistaken for what: counts of the edits between references and hypotheses, of letters and of words."""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

from rapidfuzz.distance import Levenshtein

Confusion = tuple[str, str]  # reference, hypothesis; the empty string where one is missing


def count_confusions(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Counter[Confusion]:
    """Count the edits of (reference, hypothesis) pairs, along the path whose errors `metrics.count_errors` counts.

    The sequences are lists of words or strings of characters. Equal parts are not touched, which makes it faster than
    `metrics.align`.
    """
    counts: Counter[Confusion] = Counter()
    for reference, hypothesis in pairs:
        if reference == hypothesis:
            continue
        for edit in Levenshtein.editops(reference, hypothesis):
            counts[
                "" if edit.tag == "insert" else reference[edit.src_pos],
                "" if edit.tag == "delete" else hypothesis[edit.dest_pos],
            ] += 1
    return counts


def kind(confusion: Confusion) -> str:
    """Return what kind of error this is, in the words of ErrorCounts."""
    reference, hypothesis = confusion
    return "substitutions" if reference and hypothesis else "deletions" if reference else "insertions"


def most_frequent(
    counters: Sequence[Counter[Confusion]], wanted_kind: str, number: int
) -> list[tuple[Confusion, list[int]]]:
    """Return the `number` most frequent confusions of a kind over all runs, each with its count in every run."""
    total: Counter[Confusion] = Counter()
    for counter in counters:
        total.update({confusion: count for confusion, count in counter.items() if kind(confusion) == wanted_kind})
    ordered = heapq.nsmallest(number, total, key=lambda confusion: (-total[confusion], confusion))
    return [(confusion, [counter[confusion] for counter in counters]) for confusion in ordered]
