"""Scores of language identification: accuracy per language and over all, by length, confusions, calibration.

Every utterance counts. One whose language is not among the classes cannot be right, and counts as wrong.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mms_recipes import metrics
from mms_recipes.lid import calibration
from mms_recipes.metrics import MACRO

MICRO = "micro"  # the mean over utterances
DEPTHS = (1, 3, 5)  # right among the first so many
BOOTSTRAP_SEED = 1


@dataclass(frozen=True)
class Answer:
    """What a model answered for an utterance.

    `rank` is the place of the right class, from 1, None where the model does not have it. `best` are the first classes
    with their (calibrated) probabilities, `raw` is the first one's without calibration.
    """

    uid: str
    lang: str
    wanted: str
    seconds: float
    rank: int | None
    best: Sequence[tuple[str, float]]
    raw: float
    corpus: str = ""  # its name where several were scored

    @property
    def right(self) -> bool:
        return self.rank == 1


@dataclass(frozen=True)
class Crops:
    """Answers for the middle `seconds` of every utterance that is as long, and for the same utterances whole."""

    seconds: float
    cropped: Sequence[Answer]
    whole: Sequence[Answer]


def check_counts(answers: Sequence[Answer], expected: Mapping[str, int]) -> None:
    """Raise ValueError with every manifest of which not exactly the utterances were scored.

    `expected` is by language, `<corpus>/<lang>` where there are several corpora.
    """
    scored = Counter("/".join(filter(None, (answer.corpus, answer.lang))) for answer in answers)
    problems = [
        f"{name}: scored {scored[name]:,} utterances, expected {expected.get(name, 0):,} as in its manifest"
        for name in sorted(expected.keys() | scored.keys())
        if scored[name] != expected.get(name, 0)
    ]
    if problems or not answers:
        raise ValueError("no report is written:\n  " + "\n  ".join(problems or ["no utterances"]))


def language_rows(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return a row for each language, sorted, then macro and micro; accuracies in percent with 95 % intervals."""
    by_lang: dict[str, list[Answer]] = {}
    for answer in answers:
        by_lang.setdefault(answer.lang, []).append(answer)
    rows, resampled = [], []
    for lang in sorted(by_lang):
        listed = by_lang[lang]
        row = {"lang": lang, "class": listed[0].wanted, **_size(listed), "known": listed[0].rank is not None}
        draws = _draws(listed, zlib.crc32(lang.encode()))
        resampled.append(draws)
        rows.append(row | _accuracies(listed) | _interval(draws))
    means = {f"top{depth}": metrics.macro(row[f"top{depth}"] for row in rows) for depth in DEPTHS}
    macro = {"lang": MACRO, **_size(answers), **means, **_interval(np.mean(resampled, axis=0))}
    micro = {"lang": MICRO, **_size(answers), **_accuracies(answers), **_interval(_draws(answers, 0))}
    return [*rows, macro, micro]


def corpus_scores(answers: Sequence[Answer]) -> dict[str, dict[str, Any]]:
    """Return the scores of each corpus by its name, as those of all are; none where one corpus was scored."""
    by_corpus: dict[str, list[Answer]] = {}
    for answer in answers:
        by_corpus.setdefault(answer.corpus, []).append(answer)
    by_corpus.pop("", None)
    found = {}
    for corpus, listed in by_corpus.items():
        *rows, macro, micro = language_rows(listed)
        sure = calibration_scores(listed)
        found[corpus] = {
            "languages": {row["lang"]: row for row in rows},
            MACRO: macro,
            MICRO: micro,
            "calibration": {key: sure[key] for key in ("raw_error", "calibrated_error")},
        }
    return found


def _size(answers: Sequence[Answer]) -> dict[str, Any]:
    return {"utterances": len(answers), "hours": sum(answer.seconds for answer in answers) / 3600}


def _accuracies(answers: Sequence[Answer]) -> dict[str, float]:
    return {
        f"top{depth}": 100 * sum(a.rank is not None and a.rank <= depth for a in answers) / len(answers)
        for depth in DEPTHS
    }


def _draws(answers: Sequence[Answer], number: int) -> npt.NDArray[np.float64]:
    hits = [int(answer.right) for answer in answers]
    return metrics.bootstrap_rates(hits, [1] * len(hits), seed=[BOOTSTRAP_SEED, number])


def _interval(draws: npt.NDArray[np.float64]) -> dict[str, float]:
    low, high = metrics.percentile_interval(draws)
    return {"top1_low": low, "top1_high": high}


def length_row(crops: Crops) -> dict[str, Any]:
    """Return the accuracies on crops of one length and on the same utterances whole; None where none is as long."""
    row: dict[str, Any] = {"seconds": crops.seconds, "utterances": len(crops.cropped)}
    row["languages"] = len({answer.lang for answer in crops.cropped})
    for name, answers in (("crop", crops.cropped), ("whole", crops.whole)):
        *_, macro, micro = language_rows(answers) if answers else (dict[str, Any](), dict[str, Any]())
        row |= {f"{name}_macro": macro.get("top1"), f"{name}_micro": micro.get("top1")}
    return row


def answer_counts(answers: Sequence[Answer]) -> dict[str, dict[str, int]]:
    """Return how often each class was the answer for each language, most frequent first."""
    found: dict[str, Counter[str]] = {lang: Counter() for lang in sorted({answer.lang for answer in answers})}
    for answer in answers:
        found[answer.lang][answer.best[0][0]] += 1
    return {lang: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))) for lang, counts in found.items()}


def confusion_pairs(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return the wrong answers by language and class, most frequent first."""
    counts = Counter((a.lang, a.wanted, a.best[0][0]) for a in answers if not a.right)
    of_lang = Counter(answer.lang for answer in answers)
    return [
        {"lang": lang, "class": wanted, "answer": given, "utterances": count, "percent": 100 * count / of_lang[lang]}
        for (lang, wanted, given), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def calibration_scores(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the expected calibration error in percent before and after the temperature, with the bins behind it."""
    right_N = np.array([answer.right for answer in answers])
    found: dict[str, Any] = {}
    for name, confidences in (("raw", [a.raw for a in answers]), ("calibrated", [a.best[0][1] for a in answers])):
        listed = calibration.bins(np.array(confidences), right_N)
        found[f"{name}_error"] = 100 * calibration.calibration_error(listed)
        found[f"{name}_bins"] = [asdict(one) for one in listed]
    return found
