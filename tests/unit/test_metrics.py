"""Error counts against jiwer, editdistance and brute force; intervals against what they must cover."""

import functools
import math
import random

import editdistance
import jiwer
import numpy as np
import pytest

from mms_recipes import metrics
from mms_recipes.metrics import ErrorCounts


def random_pairs(count: int, seed: int, longest: int) -> list[tuple[str, str]]:
    """Pairs of sentences over few words, so that they share many; some are empty, some equal."""
    rng = random.Random(seed)

    def sentence() -> str:
        return " ".join(rng.choice(["a", "b", "ab", "ba", "é", "日本", "ঘোড়া"]) for _ in range(rng.randint(0, longest)))

    pairs = [(sentence(), sentence()) for _ in range(count)]
    return [(left, left if rng.random() < 0.05 else right) for left, right in pairs]


def test_the_random_pairs_hold_every_kind_of_emptiness() -> None:
    empty = {(not reference, not hypothesis) for reference, hypothesis in random_pairs(10_000, seed=1, longest=8)}
    assert empty == {(False, False), (False, True), (True, False), (True, True)}


def brute_force_distance(reference: list[str], hypothesis: list[str]) -> int:
    @functools.cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        substituted = distance(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1])
        return min(substituted, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(reference), len(hypothesis))


def test_word_errors_equal_jiwer_on_10_000_pairs() -> None:
    for reference, hypothesis in random_pairs(10_000, seed=1, longest=8):
        ours, theirs = metrics.word_errors(reference, hypothesis), jiwer.process_words(reference, hypothesis)
        assert (ours.substitutions, ours.deletions, ours.insertions) == (
            theirs.substitutions,
            theirs.deletions,
            theirs.insertions,
        ), (reference, hypothesis)
        assert ours.reference_length == theirs.hits + theirs.substitutions + theirs.deletions


def test_character_errors_with_spaces_equal_jiwer_on_10_000_pairs() -> None:
    for reference, hypothesis in random_pairs(10_000, seed=2, longest=5):
        ours = metrics.character_errors(reference, hypothesis, count_space=True)
        theirs = jiwer.process_characters(reference, hypothesis)
        assert ours == ErrorCounts(theirs.substitutions, theirs.deletions, theirs.insertions, len(reference)), (
            reference,
            hypothesis,
        )


def test_totals_equal_editdistance_and_brute_force() -> None:
    for reference, hypothesis in random_pairs(1_000, seed=3, longest=7):
        words, others = reference.split(), hypothesis.split()
        errors = metrics.count_errors(words, others).errors
        assert errors == editdistance.eval(words, others) == brute_force_distance(words, others)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("", "", ErrorCounts(0, 0, 0, 0)),
        ("", "a b", ErrorCounts(0, 0, 2, 0)),
        ("a b", "", ErrorCounts(0, 2, 0, 2)),
        ("  ", "a", ErrorCounts(0, 0, 1, 0)),
        ("a b c", "a b c", ErrorCounts(0, 0, 0, 3)),
        ("a b c", "a x c", ErrorCounts(1, 0, 0, 3)),
        ("the cat sat", "cat sat down", ErrorCounts(0, 1, 1, 3)),
        ("a  b", " a b ", ErrorCounts(0, 0, 0, 2)),
        ("a b", "ab", ErrorCounts(1, 1, 0, 2)),
    ],
)
def test_word_errors(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    assert metrics.word_errors(reference, hypothesis) == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "count_space", "expected"),
    [
        ("a b", "ab", False, ErrorCounts(0, 0, 0, 2)),
        ("a b", "ab", True, ErrorCounts(0, 1, 0, 3)),
        (" a  b ", "a b", True, ErrorCounts(0, 0, 0, 3)),
        ("日本語", "日木語", False, ErrorCounts(1, 0, 0, 3)),
        ("é", "e", False, ErrorCounts(1, 0, 0, 1)),
        ("e\u0301", "e", False, ErrorCounts(0, 1, 0, 2)),
        ("", " ", True, ErrorCounts(0, 0, 0, 0)),
    ],
)
def test_character_errors(reference: str, hypothesis: str, count_space: bool, expected: ErrorCounts) -> None:
    assert metrics.character_errors(reference, hypothesis, count_space) == expected


def test_spaces_are_not_counted_by_default() -> None:
    assert metrics.character_errors("a b c", "abc") == ErrorCounts(reference_length=3)


def test_rate_is_in_percent_and_may_exceed_100() -> None:
    assert ErrorCounts(1, 2, 0, 4).rate == 75.0
    assert ErrorCounts(0, 0, 3, 2).rate == 150.0


def test_rate_of_an_empty_reference() -> None:
    assert ErrorCounts().rate == 0.0
    assert ErrorCounts(insertions=2).rate == math.inf


def test_counts_add_up() -> None:
    assert ErrorCounts(1, 2, 3, 10) + ErrorCounts(10, 20, 30, 100) == ErrorCounts(11, 22, 33, 110)
    assert sum([ErrorCounts(1, 0, 0, 2)] * 3, ErrorCounts()) == ErrorCounts(3, 0, 0, 6)


def test_alignment_names_each_step() -> None:
    assert metrics.align(["the", "cat", "sat", "here"], ["cat", "sit", "here", "now"]) == [
        ("delete", "the", ""),
        ("equal", "cat", "cat"),
        ("substitute", "sat", "sit"),
        ("equal", "here", "here"),
        ("insert", "", "now"),
    ]


def test_alignment_holds_both_sides_and_the_errors_counted() -> None:
    for reference, hypothesis in random_pairs(500, seed=4, longest=8):
        words, others = reference.split(), hypothesis.split()
        steps = metrics.align(words, others)
        assert [step.reference for step in steps if step.operation != "insert"] == words
        assert [step.hypothesis for step in steps if step.operation != "delete"] == others
        names = [step.operation for step in steps]
        counts = ErrorCounts(names.count("substitute"), names.count("delete"), names.count("insert"), len(words))
        assert counts == metrics.count_errors(words, others)


def test_interval_is_deterministic_and_holds_the_rate() -> None:
    errors, lengths = [0, 1, 2, 0, 3, 1, 0, 0, 5, 1], [10] * 10
    rates = metrics.bootstrap_rates(errors, lengths, seed=7)
    assert np.array_equal(rates, metrics.bootstrap_rates(errors, lengths, seed=7))
    low, high = metrics.percentile_interval(rates)
    assert low < 13.0 < high


def test_another_seed_draws_others() -> None:
    first, second = (metrics.bootstrap_rates([0, 1, 2, 3], [9] * 4, seed) for seed in (7, 8))
    assert not np.array_equal(first, second)


def test_interval_of_equal_utterances_has_no_width() -> None:
    assert metrics.percentile_interval(metrics.bootstrap_rates([1, 1, 1], [4, 4, 4], seed=0)) == (25.0, 25.0)


def test_interval_narrows_with_the_square_root_of_the_utterances() -> None:
    def width(count: int) -> float:
        errors = np.random.default_rng(0).binomial(10, 0.2, count)
        low, high = metrics.percentile_interval(metrics.bootstrap_rates(errors.tolist(), [10] * count, seed=0))
        return high - low

    assert width(100) / width(1600) == pytest.approx(4, rel=0.25)


def test_interval_covers_the_truth_19_times_in_20() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(400):
        errors = rng.binomial(10, 0.2, 100)
        rates = metrics.bootstrap_rates(errors.tolist(), [10] * 100, seed=trial, num_resamples=300)
        low, high = metrics.percentile_interval(rates)
        covered += low <= 20.0 <= high
    assert 0.90 <= covered / 400 <= 0.98


def test_long_utterances_weigh_more() -> None:
    rates = metrics.bootstrap_rates([9, 0], [90, 10], seed=0)
    assert set(np.round(rates, 6)) == {0.0, 9.0, 10.0}


def test_resamples_drawn_in_blocks_equal_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    errors, lengths = list(range(50)), [60] * 50
    at_once = metrics.bootstrap_rates(errors, lengths, seed=3, num_resamples=100)
    monkeypatch.setattr(metrics, "_DRAWS_AT_ONCE", 7 * 50)
    in_blocks = metrics.bootstrap_rates(errors, lengths, seed=3, num_resamples=100)
    assert np.array_equal(at_once, in_blocks)


@pytest.mark.parametrize(("errors", "lengths"), [([], []), ([1], [2, 3])])
def test_interval_refuses_what_does_not_fit(errors: list[int], lengths: list[int]) -> None:
    with pytest.raises(ValueError, match=f"{len(errors)} error counts for {len(lengths)} lengths"):
        metrics.bootstrap_rates(errors, lengths, seed=0)


def test_interval_refuses_empty_references() -> None:
    with pytest.raises(ValueError, match="all references are empty"):
        metrics.bootstrap_rates([1, 2], [0, 0], seed=0)


def test_macro_is_the_unweighted_mean() -> None:
    assert metrics.macro([10.0, 20.0, 60.0]) == 30.0
    with pytest.raises(ValueError, match="no language"):
        metrics.macro([])
