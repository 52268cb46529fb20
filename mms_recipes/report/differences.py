"""How far two runs over the same utterances are apart, with an interval that pairs them utterance by utterance."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mms_recipes import metrics, report
from mms_recipes.report.runs import Run

METRICS = ("headline", "wer", "cer")


@dataclass(frozen=True)
class Difference:
    """A rate minus that of the first run (percent, negative is better) and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Return better or worse where the interval leaves 0 out, else unclear."""
        return "better" if self.high < 0 else "worse" if self.low > 0 else "unclear"


def between(first: Run, other: Run) -> dict[str, dict[str, Difference]]:
    """Return the differences of `other` from `first`, by language (and macro) and by metric.

    The values are those of scores.json; the intervals come of resampling the utterances' differences in errors.
    """
    found: dict[str, dict[str, Difference]] = {}
    resampled: dict[str, list[report.Rates]] = {metric: [] for metric in METRICS}
    for lang, row in first.languages.items():
        rates = _resampled(first, other, lang)
        found[lang] = {}
        for metric in METRICS:
            resampled[metric].append(rates[metric])
            low, high = metrics.percentile_interval(rates[metric])
            found[lang][metric] = Difference(other.languages[lang][metric] - row[metric], low, high)
    found[report.MACRO] = {}
    for metric, of_languages in resampled.items():
        low, high = metrics.percentile_interval(np.mean(of_languages, axis=0))
        found[report.MACRO][metric] = Difference(other.macro[metric] - first.macro[metric], low, high)
    return found


def _resampled(first: Run, other: Run, lang: str) -> Mapping[str, report.Rates]:
    """Return resampled differences of the rates by metric."""
    pairs = list(zip(first.hypotheses[lang], other.hypotheses[lang], strict=True))
    words = [len(one.reference.split()) for one, _ in pairs]
    characters = [len(first.space.join(one.reference.split())) for one, _ in pairs]
    rates = {
        "wer": _bootstrap(lang, [two.word_errors - one.word_errors for one, two in pairs], words),
        "cer": _bootstrap(lang, [two.character_errors - one.character_errors for one, two in pairs], characters),
    }
    return rates | {"headline": rates[first.languages[lang]["headline_metric"]]}


def _bootstrap(lang: str, errors: Sequence[int], lengths: Sequence[int]) -> report.Rates:
    seed = [report.BOOTSTRAP_SEED, zlib.crc32(lang.encode())]
    return metrics.bootstrap_rates(errors, lengths, seed, report.BOOTSTRAP_RESAMPLES)
