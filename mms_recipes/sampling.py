"""What is drawn at random: utterances of an epoch, p ~ (n / N) ** beta (MMS paper section 4.1), and masks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def sampling_weights(amounts: Sequence[float] | npt.NDArray[np.float64], beta: float) -> npt.NDArray[np.float64]:
    """Return p_l ~ (n_l / N) ** beta over amounts n_l (hours): beta 1 keeps the natural shares, 0 makes them equal.

    Raises ValueError for a beta outside [0, 1] or an amount that is not positive.
    """
    if not 0.0 <= beta <= 1.0:
        raise ValueError(f"sampling: beta is {beta}, expected 0 (every language alike) to 1 (natural shares)")
    shares = np.asarray(amounts, dtype=np.float64)
    if shares.size == 0 or (shares <= 0).any():
        raise ValueError(f"sampling: amounts must be positive, found {shares.tolist()[:10]}")
    weights = (shares / shares.sum()) ** beta
    return np.asarray(weights / weights.sum())


def mixture_weights(
    amounts: Sequence[Sequence[float]], beta_inner: float, beta_outer: float, factors: Sequence[float] | None = None
) -> list[npt.NDArray[np.float64]]:
    """Return the share of each member of each group: first members within a group, then groups.

    Pretraining (paper 4.1): groups are corpora, members their languages; `beta_inner` is beta_L, `beta_outer` beta_D.
    Language identification (6.1) has it the other way round: groups are languages, members their corpora.
    `amounts[g][m]`: hours of member m of group g. A group counts with the sum of its hours, times its factor where
    factors are given. Over all groups the shares sum to 1.
    """
    totals = np.array([sum(hours) for hours in amounts])
    groups = sampling_weights(totals, beta_outer) * (1.0 if factors is None else np.asarray(factors, np.float64))
    groups /= groups.sum()
    return [share * sampling_weights(hours, beta_inner) for share, hours in zip(groups, amounts, strict=True)]


def epoch_counts(
    num_utterances: npt.NDArray[np.int64], seconds: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return how many utterances an epoch draws per language so that languages' hours follow the weights.

    The epoch is as long as the data (`seconds` per language). Every language is drawn at least once; weights that are
    the languages' natural shares draw each utterance exactly once.
    """
    drawn = weights * seconds.sum() / (seconds / num_utterances)
    return np.asarray(np.maximum(1, np.rint(drawn)), dtype=np.int64)


def permutation(size: int, *key: int) -> npt.NDArray[np.int64]:
    """Return the permutation of range(size) that belongs to `key` (seed, language, cycle)."""
    return np.random.default_rng(key).permutation(size)


def stream(size: int, start: int, count: int, *key: int) -> npt.NDArray[np.int64]:
    """Return items start .. start+count of the endless stream of permutations of range(size) under `key`.

    Every item comes once per cycle, so nothing repeats before all were seen; any place is reached at once (resuming).
    """
    if size < 1 or start < 0 or count < 0:
        raise ValueError(f"sampling: cannot take {count} items from position {start} of a stream over {size}")
    first, offset = divmod(start, size)
    last = (start + max(count, 1) - 1) // size
    cycles = [permutation(size, *key, cycle) for cycle in range(first, last + 1)]
    return np.concatenate(cycles)[offset : offset + count]


def span_mask(
    size: int, prob: float, span: int, generator: np.random.Generator, min_spans: int = 0
) -> npt.NDArray[np.bool_]:
    """Mask of `size` with about prob * size / span spans, which may overlap (fairseq: compute_mask_indices, static).

    What is too short for two spans stays whole: a fully masked utterance teaches nothing.
    """
    mask = np.zeros(size, dtype=np.bool_)
    num_spans = max(min_spans, int(prob * size / span + generator.random()))
    if num_spans and size > 2 * span:
        starts = generator.choice(size - span, min(num_spans, size - span), replace=False)
        mask[(starts[:, None] + np.arange(span)).ravel()] = True
    return mask
