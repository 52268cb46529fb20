"""Evaluations for tests, as mms_recipes.evaluate writes them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mms_recipes import manifest, metrics
from mms_recipes.evaluation import benchmarks
from mms_recipes.report.scores import UtteranceScore, write_report

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
    lang: str,
    uid: str,
    reference: str,
    hypothesis: str,
    count_space: bool = False,
    seconds: float = 1.8,
    sure: Sequence[float] | None = None,
) -> UtteranceScore:
    """Score an utterance; `sure` are the scores of its words, each of which takes half a second."""
    times = sure and [
        (word, number / 2, number / 2 + 0.5, score, None)
        for number, (word, score) in enumerate(zip(hypothesis.split(), sure, strict=True))
    ]
    return UtteranceScore(
        uid=uid,
        lang=lang,
        reference=reference,
        hypothesis=hypothesis,
        words=metrics.word_errors(reference, hypothesis),
        characters=metrics.character_errors(reference, hypothesis, count_space=count_space),
        seconds=seconds,
        score=sum(sure) / len(sure) if sure else None,
        word_times=times,
    )


def write_run(folder: Path, scores: Sequence[UtteranceScore], **settings: Any) -> Path:
    """Write an evaluation named like its folder; return the folder."""
    known = {"name": folder.name, "split": "test", "normalization": "mms-1", "count_space": False}
    write_report(folder, scores, Counter(score.lang for score in scores), known | settings)
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


def write_benchmark(folder: Path) -> Path:
    """Write an evaluation of three languages by the rules of FLEURS-102, as evaluate does; return the folder."""
    protocol = benchmarks.PROTOCOLS["fleurs102"]
    scores = [
        utterance("eng", "e1", "the cat sat", "the cat sit", sure=[0.95, 0.7, 0.2]),
        utterance("fra", "f1", "le chat", "le chat", sure=[0.9, 0.99]),
        utterance("jpn", "j1", "ねこがすき", "ねこすきだ"),
    ]
    expected = Counter(score.lang for score in scores)
    prepared = {"settings": {"normalization": "none"}, "left_out": {}}
    folder.mkdir(parents=True)
    languages = {lang: {"splits": {"test": prepared}} for lang in expected}
    (folder / manifest.PREPARED).write_text(json.dumps({"languages": languages}))
    settings = {"name": folder.name, "split": "test", "protocol": protocol.name, "count_space": False}
    beside = benchmarks.document(protocol, folder, "test", list(expected), count_space=False)
    write_report(folder, scores, expected, settings, protocol.metric, beside)
    return folder
