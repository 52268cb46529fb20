"""Sampling: shares p ~ (n / N) ** beta, nothing twice before all once, and any place reached at once."""

import numpy as np
import pytest

from mms_recipes import sampling

HOURS = [1.0, 4.0, 95.0]


def test_beta_1_keeps_the_natural_shares() -> None:
    assert sampling.sampling_weights(HOURS, 1.0).tolist() == pytest.approx([0.01, 0.04, 0.95])


def test_beta_0_makes_all_alike() -> None:
    assert sampling.sampling_weights(HOURS, 0.0).tolist() == pytest.approx([1 / 3] * 3)


def test_beta_one_half_is_the_root() -> None:
    roots = np.sqrt([0.01, 0.04, 0.95])
    assert sampling.sampling_weights(HOURS, 0.5).tolist() == pytest.approx((roots / roots.sum()).tolist())


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_beta_out_of_range(beta: float) -> None:
    with pytest.raises(ValueError, match=r"beta is .*, expected 0 \(every language alike\) to 1"):
        sampling.sampling_weights(HOURS, beta)


@pytest.mark.parametrize("amounts", [[], [1.0, 0.0], [-1.0]])
def test_amounts_must_be_positive(amounts: list[float]) -> None:
    with pytest.raises(ValueError, match="amounts must be positive, found"):
        sampling.sampling_weights(amounts, 0.5)


def test_beta_1_draws_each_utterance_once() -> None:
    utterances, seconds = np.array([3, 1_000, 17]), np.array([30.0, 3_333.3, 1.7])
    natural = sampling.sampling_weights(seconds, 1.0)
    assert sampling.epoch_counts(utterances, seconds, natural).tolist() == [3, 1_000, 17]


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5])
def test_hours_of_an_epoch_follow_the_weights(beta: float) -> None:
    """Languages differ in how long their utterances are: hours are shared, not utterances."""
    utterances = np.array([2_000, 400_000, 50_000])
    seconds = utterances * np.array([2.0, 9.0, 20.0])
    weights = sampling.sampling_weights(seconds, beta)
    drawn = sampling.epoch_counts(utterances, seconds, weights)
    hours = drawn * seconds / utterances
    assert (hours / hours.sum()).tolist() == pytest.approx(weights.tolist(), rel=1e-3)
    assert hours.sum() == pytest.approx(seconds.sum(), rel=1e-3)  # an epoch is as long as the data


def test_a_tiny_language_is_drawn_at_least_once() -> None:
    utterances, seconds = np.array([1, 1_000_000]), np.array([500.0, 5e6])
    assert sampling.epoch_counts(utterances, seconds, np.array([0.5, 0.5])).min() >= 1
    utterances, seconds = np.array([1, 10**6]), np.array([0.1, 1e9])
    assert sampling.epoch_counts(utterances, seconds, sampling.sampling_weights(seconds, 1.0)).tolist() == [1, 10**6]


def test_two_levels_languages_then_corpora() -> None:
    """Worked by hand: betas 1/2 are roots of shares, first within each corpus, then over corpora."""
    first, second = sampling.mixture_weights([[9.0, 1.0], [90.0]], beta_inner=0.5, beta_outer=0.5)
    roots = np.sqrt([10 / 100, 90 / 100])
    corpora = roots / roots.sum()  # 1 : 3
    assert corpora.tolist() == pytest.approx([0.25, 0.75])
    assert first.tolist() == pytest.approx([0.25 * 3 / 4, 0.25 / 4]) and second.tolist() == pytest.approx([0.75])


def test_two_levels_at_the_ends() -> None:
    natural = np.concatenate(sampling.mixture_weights([[9.0, 1.0], [90.0]], 1.0, 1.0))
    assert natural.tolist() == pytest.approx([0.09, 0.01, 0.9])
    alike = np.concatenate(sampling.mixture_weights([[9.0, 1.0], [90.0]], 0.0, 0.0))
    assert alike.tolist() == pytest.approx([0.25, 0.25, 0.5])


def test_two_levels_corpora_then_languages() -> None:
    """Language identification (paper 6.1): eng has 9 h and 1 h in two corpora, fra 90 h in one; other betas by hand."""
    eng, fra = sampling.mixture_weights([[9.0, 1.0], [90.0]], beta_inner=0.0, beta_outer=0.5)
    assert eng.tolist() == pytest.approx([0.125, 0.125]) and fra.tolist() == pytest.approx([0.75])
    eng, fra = sampling.mixture_weights([[9.0, 1.0], [90.0]], beta_inner=1.0, beta_outer=0.0)
    assert eng.tolist() == pytest.approx([0.45, 0.05]) and fra.tolist() == pytest.approx([0.5])


def test_factors_multiply_the_share_of_a_corpus() -> None:
    first, second = sampling.mixture_weights([[10.0], [10.0]], 0.5, 0.5, factors=[3.0, 1.0])
    assert (first[0], second[0]) == (pytest.approx(0.75), pytest.approx(0.25))


def test_permutation_follows_its_key() -> None:
    first = sampling.permutation(50, 1, 2)
    assert sorted(first.tolist()) == list(range(50))
    assert first.tolist() == sampling.permutation(50, 1, 2).tolist()
    assert first.tolist() != sampling.permutation(50, 1, 3).tolist() != sampling.permutation(50, 2, 2).tolist()


def test_stream_sees_all_before_any_comes_again() -> None:
    drawn = sampling.stream(7, 0, 35, 1)
    cycles = drawn.reshape(5, 7)
    assert all(sorted(cycle.tolist()) == list(range(7)) for cycle in cycles)
    assert len({tuple(cycle.tolist()) for cycle in cycles}) > 1


@pytest.mark.parametrize(("start", "count"), [(0, 3), (5, 4), (6, 1), (7, 7), (13, 30), (3, 0)])
def test_any_place_of_the_stream_is_reached_at_once(start: int, count: int) -> None:
    whole = sampling.stream(7, 0, 60, 1, 9)
    assert sampling.stream(7, start, count, 1, 9).tolist() == whole[start : start + count].tolist()


@pytest.mark.parametrize(("size", "start", "count"), [(0, 0, 1), (5, -1, 1), (5, 0, -1)])
def test_stream_refuses_what_cannot_be(size: int, start: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot take {count} items from position {start} of a stream over {size}"):
        sampling.stream(size, start, count, 1)


# ---- masks


def test_span_mask_has_whole_spans_and_about_the_share() -> None:
    generator = np.random.default_rng(1)
    masks = [sampling.span_mask(400, 0.5, 10, generator) for _ in range(100)]
    assert 0.35 < np.mean(masks) < 0.45  # spans overlap: 1 - exp(-0.5) = 0.39
    for mask in masks:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
        assert (edges[1::2] - edges[::2]).min() >= 10


def test_span_mask_leaves_what_is_short_whole() -> None:
    generator = np.random.default_rng(1)
    assert not any(sampling.span_mask(20, 1.0, 10, generator).any() for _ in range(20))
    assert any(sampling.span_mask(21, 1.0, 10, generator).any() for _ in range(20))
    assert not any(sampling.span_mask(size, 1.0, 10, generator).all() for size in range(21, 60) for _ in range(5))


def test_span_mask_of_probability_0_is_empty() -> None:
    assert not any(sampling.span_mask(100, 0.0, 10, np.random.default_rng(seed)).any() for seed in range(50))
