"""Evaluations as they lie on disk: scores.json for every number, hypotheses.tsv for what was recognised."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from mms_recipes import metrics, parsing
from mms_recipes.metrics import MACRO
from mms_recipes.report import beside
from mms_recipes.report.beside import Benchmark
from mms_recipes.report.reading import AGAIN, read_scores, read_table
from mms_recipes.report.scores import CONFIDENCE, SCORE, WORDS, check_comparable

COLUMNS = ("uid", "lang", "reference", "hypothesis", "word_errors", "character_errors")
SURE = (CONFIDENCE, SCORE)  # columns where words were timed; a probability says more than a score
WORD_COLUMNS = ("uid", "lang", "word", "start", "end")
Key = tuple[str, str]  # language and uid of an utterance


@dataclass(frozen=True)
class Hypothesis:
    """One line of hypotheses.tsv."""

    uid: str
    reference: str
    hypothesis: str
    word_errors: int
    character_errors: int
    sure: float | None = None  # 0 to 1: a confidence where a calibration was fitted, else a score


class Word(NamedTuple):
    """One line of words.tsv: a word, or a letter in scripts without spaces; seconds, and how sure, 0 to 1."""

    text: str
    start: float
    end: float
    sure: float


@dataclass(frozen=True)
class Run:
    """One evaluation. `languages` and `macro` are the rows of scores.json; `hypotheses` are sorted by uid."""

    name: str
    folder: Path
    scored: datetime  # when scores.json was written
    settings: Mapping[str, Any]
    languages: Mapping[str, Mapping[str, Any]]
    macro: Mapping[str, Any]
    hypotheses: Mapping[str, Sequence[Hypothesis]]
    benchmark: Benchmark | None = None
    confidence: Mapping[str, Any] | None = None  # how good confidences are, where a calibration was fitted

    @property
    def sure(self) -> str:
        """What the numbers are that say how sure the model is."""
        return SCORE if self.confidence is None else CONFIDENCE

    @property
    def space(self) -> str:
        """What stands between words where characters are counted."""
        return " " if self.settings.get("count_space") else ""


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the folders that mms_recipes.evaluate wrote, the first being what the others are compared with.

    Raises FileNotFoundError when one is no evaluation, ValueError when its files do not fit together or when the runs
    did not score the same utterances and references under the same rules.
    """
    runs = [_read_run(name, folder) for name, folder in named(folders).items()]
    first, *others = runs
    for other in others:
        pair = [{"settings": run.settings, "languages": run.languages} for run in (first, other)]
        check_comparable(first.name, pair[0], other.name, pair[1])
        for lang, one in first.hypotheses.items():
            for left, right in zip(one, other.hypotheses[lang], strict=True):
                if (left.uid, left.reference) != (right.uid, right.reference):
                    raise ValueError(
                        f"{lang}: {first.name} scored {left.uid} ({left.reference!r}) where {other.name} scored "
                        f"{right.uid} ({right.reference!r}); compare evaluations of the same manifests"
                    )
    benchmark = beside.common([run.benchmark for run in runs])
    return [dataclasses.replace(run, benchmark=benchmark) for run in runs]


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Name each run as its evaluation was (name=...), with the folder behind it where two are named alike."""
    names = [str(read_scores(folder / "scores.json")["settings"].get("name") or folder.name) for folder in folders]
    named = {
        name if names.count(name) == 1 else f"{name} ({folder})": folder
        for name, folder in zip(names, folders, strict=True)
    }
    if len(named) < len(folders):
        raise ValueError(f"the same run was given twice: {', '.join(map(str, folders))}")
    return named


def _read_run(name: str, folder: Path) -> Run:
    path = folder / "scores.json"
    document = read_scores(path)
    hypotheses = _read_hypotheses(folder / "hypotheses.tsv")
    run = Run(
        name=name,
        folder=folder,
        scored=datetime.fromtimestamp(path.stat().st_mtime),
        settings=document["settings"],
        languages=document["languages"],
        macro=document[MACRO],
        hypotheses=hypotheses,
        benchmark=document.get("benchmark"),
        confidence=document.get(CONFIDENCE),
    )
    for lang in sorted(run.languages.keys() | hypotheses.keys()):
        _check_language(run, lang)
    return run


def _read_hypotheses(path: Path) -> dict[str, list[Hypothesis]]:
    by_lang: dict[str, list[Hypothesis]] = {}
    for number, row in read_table(path, COLUMNS):
        words, characters = row["word_errors"], row["character_errors"]
        if not (_is_count(words) and _is_count(characters)):
            raise ValueError(f"{path}:{number}: errors are {words!r} and {characters!r}, not counts; {AGAIN}")
        try:
            sure = _sure(row)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: the confidence is {error}; {AGAIN}") from None
        score = Hypothesis(row["uid"], row["reference"], row["hypothesis"], int(words), int(characters), sure)
        by_lang.setdefault(row["lang"], []).append(score)
    return {lang: sorted(listed, key=lambda score: score.uid) for lang, listed in by_lang.items()}


def _is_count(cell: str) -> bool:
    return cell.isdecimal() and len(cell) < 12


def _sure(row: Mapping[str, str]) -> float | None:
    """Return how sure the model is, by the first of the columns that says so."""
    return next((unit_interval(row[name]) for name in SURE if row.get(name)), None)


def unit_interval(cell: str) -> float:
    """Return a number from 0 to 1. Raises ValueError with what was found otherwise."""
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"{parsing.shown(cell)}, not a number from 0 to 1")
    return number


def read_words(run: Run, wanted: Mapping[str, Iterable[str]]) -> dict[Key, list[Word]]:
    """Return the words of the uids that are wanted of each language; none where words were not timed.

    Raises ValueError (file:line) for a line that cannot be.
    """
    path = run.folder / WORDS
    if not path.is_file():
        return {}
    words: dict[Key, list[Word]] = {(lang, uid): [] for lang, uids in wanted.items() for uid in uids}
    for number, row in read_table(path, WORD_COLUMNS):
        if (row["lang"], row["uid"]) not in words:
            continue
        try:
            start, end, sure = float(row["start"]), float(row["end"]), _sure(row)
            possible = 0 <= start <= end < math.inf
        except ValueError:
            possible = False
        if not possible or sure is None:
            found, expected = parsing.shown([*row.values()]), ", ".join((*WORD_COLUMNS, SCORE))
            raise ValueError(f"{path}:{number}: found {found}, expected {expected}; {AGAIN}")
        words[row["lang"], row["uid"]].append(Word(row["word"], start, end, sure))
    return words


def _check_language(run: Run, lang: str) -> None:
    """Raise ValueError unless hypotheses.tsv holds the utterances and errors that scores.json counts."""
    row, listed = run.languages.get(lang, {}), run.hypotheses.get(lang, [])
    found = {
        "utterances": len(listed),
        "word errors": sum(score.word_errors for score in listed),
        "character errors": sum(score.character_errors for score in listed),
    }
    expected = {
        "utterances": row.get("utterances", 0),
        "word errors": sum(row.get(f"word_{kind}", 0) for kind in metrics.KINDS),
        "character errors": sum(row.get(f"character_{kind}", 0) for kind in metrics.KINDS),
    }
    for what, count in expected.items():
        if found[what] != count:
            raise ValueError(
                f"{run.folder}: {lang}: hypotheses.tsv has {found[what]:,} {what}, scores.json {count:,}: they are of "
                f"two evaluations; {AGAIN}"
            )
