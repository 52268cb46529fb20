"""How far two runs over the same utterances are apart, with an interval that pairs them utterance by utterance."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mms_recipes import metrics
from mms_recipes.lid.scores import MICRO, Answer
from mms_recipes.metrics import MACRO
from mms_recipes.report.runs import Run
from mms_recipes.report.scores import BOOTSTRAP_RESAMPLES, BOOTSTRAP_SEED, Rates

METRICS = ("headline", "wer", "cer")


@dataclass(frozen=True)
class Difference:
    """A rate minus that of the first run (percent) and its 95 % interval; less is better of errors, not of accuracy."""

    value: float
    low: float
    high: float
    accuracy: bool = False

    @property
    def verdict(self) -> str:
        """Return better or worse where the interval leaves 0 out, else unclear."""
        if self.low <= 0 <= self.high:
            return "unclear"
        return "better" if (self.low > 0) == self.accuracy else "worse"


def between(first: Run, other: Run) -> dict[str, dict[str, Difference]]:
    """Return the differences of `other` from `first`, by language (and macro) and by metric.

    The values are those of scores.json; the intervals come of resampling the utterances' differences in errors.
    """
    found: dict[str, dict[str, Difference]] = {}
    resampled: dict[str, list[Rates]] = {metric: [] for metric in METRICS}
    for lang, row in first.languages.items():
        rates = _resampled(first, other, lang)
        found[lang] = {}
        for metric in METRICS:
            resampled[metric].append(rates[metric])
            low, high = metrics.percentile_interval(rates[metric])
            found[lang][metric] = Difference(other.languages[lang][metric] - row[metric], low, high)
    found[MACRO] = {}
    for metric, of_languages in resampled.items():
        low, high = metrics.percentile_interval(np.mean(of_languages, axis=0))
        found[MACRO][metric] = Difference(other.macro[metric] - first.macro[metric], low, high)
    return found


def between_accuracies(first: Sequence[Answer], other: Sequence[Answer]) -> dict[str, Difference]:
    """Return how far the accuracy of `other` is from that of `first`, by language, macro and micro.

    Both answer the same utterances in the same order.
    """
    gains: dict[str, list[int]] = {}  # 1 where only the other is right, -1 where only the first
    for one, two in zip(first, other, strict=True):
        gains.setdefault(one.lang, []).append(int(two.right) - int(one.right))
    draws = {lang: _bootstrap(lang, listed, [1] * len(listed)) for lang, listed in gains.items()}
    values = {lang: 100 * float(np.mean(listed)) for lang, listed in gains.items()}
    every = [gain for listed in gains.values() for gain in listed]
    rates = draws | {MACRO: np.mean([*draws.values()], axis=0), MICRO: _bootstrap(MICRO, every, [1] * len(every))}
    values |= {MACRO: float(np.mean([*values.values()])), MICRO: 100 * float(np.mean(every))}
    return {key: Difference(values[key], *metrics.percentile_interval(rates[key]), accuracy=True) for key in values}


def _resampled(first: Run, other: Run, lang: str) -> Mapping[str, Rates]:
    """Return resampled differences of the rates by metric."""
    pairs = list(zip(first.hypotheses[lang], other.hypotheses[lang], strict=True))
    words = [len(one.reference.split()) for one, _ in pairs]
    characters = [len(first.space.join(one.reference.split())) for one, _ in pairs]
    rates = {
        "wer": _bootstrap(lang, [two.word_errors - one.word_errors for one, two in pairs], words),
        "cer": _bootstrap(lang, [two.character_errors - one.character_errors for one, two in pairs], characters),
    }
    return rates | {"headline": rates[first.languages[lang]["headline_metric"]]}


def _bootstrap(lang: str, errors: Sequence[int], lengths: Sequence[int]) -> Rates:
    seed = [BOOTSTRAP_SEED, zlib.crc32(lang.encode())]
    return metrics.bootstrap_rates(errors, lengths, seed, BOOTSTRAP_RESAMPLES)
