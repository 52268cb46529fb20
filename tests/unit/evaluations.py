"""Evaluations for tests, as mms_recipes.evaluate writes them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mms_recipes import metrics, report
from mms_recipes.report import UtteranceScore

# language, uid, reference, what two models made of it
UTTERANCES = [
    ("ara", "a1", "ذهب الولد إلى المدرسة", "ذهب ولد الى المدرسة", "ذهب الولد إلى المدرسة"),
    ("ara", "a2", "صباح الخير", "صباح الخير", "صباح خير"),
    ("eng", "e1", "the cat sat on the mat", "the cat sit on mat", "the cat sat on the the mat"),
    ("eng", "e2", "a dog", "a dog", "a dog"),
    ("eng", "e3", "five green apples fell", "fife gren apple fell of", "five green apple fell"),
    ("fra", "f1", "le chat dort", "le chat mort", "le chat dort"),
    ("jpn", "j1", "ねこがすき", "ねこすきだ", "ねこがすきだ"),
]


def utterance(
    lang: str, uid: str, reference: str, hypothesis: str, count_space: bool = False, seconds: float = 1.8
) -> UtteranceScore:
    return UtteranceScore(
        uid=uid,
        lang=lang,
        reference=reference,
        hypothesis=hypothesis,
        words=metrics.word_errors(reference, hypothesis),
        characters=metrics.character_errors(reference, hypothesis, count_space=count_space),
        seconds=seconds,
    )


def write_run(folder: Path, scores: Sequence[UtteranceScore], **settings: Any) -> Path:
    """Write an evaluation named like its folder; return the folder."""
    known = {"name": folder.name, "split": "test", "normalization": "mms-1", "count_space": False}
    report.write_report(folder, scores, Counter(score.lang for score in scores), known | settings)
    return folder


def write_runs(folder: Path, count_space: bool = False) -> list[Path]:
    """Write the evaluations of UTTERANCES: dense and LSAH."""
    return [
        write_run(
            folder / name,
            [utterance(lang, uid, reference, made[number], count_space) for lang, uid, reference, *made in UTTERANCES],
            count_space=count_space,
        )
        for number, name in enumerate(("dense", "LSAH"))
    ]
