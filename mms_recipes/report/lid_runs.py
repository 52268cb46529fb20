"""Evaluations of language identification as they lie on disk: scores.json for numbers, predictions.tsv for answers."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pydantic

from mms_recipes import parsing
from mms_recipes.lid.scores import MICRO, Answer
from mms_recipes.report.reading import AGAIN, Rate, Share, Some, read_scores, read_table
from mms_recipes.report.runs import Run, named
from mms_recipes.report.scores import check_comparable

PREDICTIONS = "predictions.tsv"
COLUMNS = ("lang", "uid", "class", "seconds", "rank", "predictions")
CORPUS = "corpus"  # a first column, where several corpora were scored
Document = Mapping[str, Any]
Best = Annotated[list[Annotated[tuple[str, Share], pydantic.Strict(False)]], pydantic.Field(min_length=1)]


@dataclass(frozen=True)
class LidRun:
    """One evaluation. `document` is what scores.json says; `answers` are sorted by corpus, language and uid.

    Read from disk, answers do not have `raw`, which predictions.tsv does not hold.
    """

    name: str
    folder: Path
    scored: datetime
    document: Document
    answers: Sequence[Answer]

    @property
    def settings(self) -> Document:
        settings: Document = self.document["settings"]
        return settings

    @property
    def corpora(self) -> Document:
        """The scores of each corpus, none where there is only one."""
        corpora: Document = self.document.get("corpora", {})
        return corpora

    def wrong_answers(self) -> Run:
        """Return the shares of wrong answers as the error rates of a run, for the pictures and tables of those."""
        rates = {
            lang: {
                "headline": 100 - row["top1"],
                "headline_low": 100 - row["top1_high"],
                "headline_high": 100 - row["top1_low"],
                "headline_metric": "wrong",
            }
            for lang, row in self.document["languages"].items()
        }
        return Run(self.name, self.folder, self.scored, self.settings, rates, {}, {})


def order(answer: Answer) -> tuple[str, str, str]:
    """Return what tells an utterance from all others, and what they are sorted by."""
    return (answer.corpus, answer.lang, answer.uid)


def are_identifications(folders: Sequence[Path]) -> bool:
    """Return whether these are evaluations of language identification, and not of speech recognition.

    Raises ValueError where they are of both kinds, FileNotFoundError for one without scores.
    """
    kinds = {folder: MICRO in read_scores(folder / "scores.json") for folder in folders}
    if len(set(kinds.values())) > 1:
        lid, asr = (
            ", ".join(str(folder) for folder, is_lid in kinds.items() if is_lid is kind) for kind in (True, False)
        )
        raise ValueError(
            f"{lid}: language identification; {asr}: speech recognition: their scores do not stand side by side; make "
            "a page of each kind"
        )
    return kinds[folders[0]]


def read_runs(folders: Sequence[Path]) -> list[LidRun]:
    """Read the folders that mms_recipes.evaluate wrote, the first being what the others are compared with.

    Raises FileNotFoundError when one is no evaluation, ValueError when its files do not fit together or when the runs
    did not score the same utterances under the same rules.
    """
    runs = [_read_run(name, folder) for name, folder in named(folders).items()]
    first, *others = runs
    for other in others:
        check_comparable(first.name, first.document, other.name, other.document)
        for one, two in zip(first.answers, other.answers, strict=True):
            if order(one) != order(two):
                raise ValueError(
                    f"{first.name} scored {'/'.join(filter(None, order(one)))} where {other.name} scored "
                    f"{'/'.join(filter(None, order(two)))}; compare evaluations of the same manifests"
                )
    return runs


def _read_run(name: str, folder: Path) -> LidRun:
    path = folder / "scores.json"
    document = read_scores(path)
    answers = sorted(_read_answers(folder / PREDICTIONS), key=order)
    found = {
        "utterances": Counter(a.lang for a in answers),
        "right answers": Counter(a.lang for a in answers if a.right),
    }
    for lang in sorted(document["languages"].keys() | found["utterances"].keys()):
        row = document["languages"].get(lang, {"utterances": 0, "top1": 0})
        counts = {"utterances": row["utterances"], "right answers": round(row["top1"] * row["utterances"] / 100)}
        for what, count in counts.items():
            if found[what][lang] != count:
                raise ValueError(
                    f"{folder}: {lang}: {PREDICTIONS} has {found[what][lang]:,} {what}, scores.json {count:,}: they "
                    f"are of two evaluations; {AGAIN}"
                )
    if (corpora := {answer.corpus for answer in answers} - {""}) != document.get("corpora", {}).keys():
        listed = ", ".join(sorted(corpora)) or "none"
        raise ValueError(f"{folder}: {PREDICTIONS} has the corpora {listed}, scores.json others; {AGAIN}")
    return LidRun(name, folder, datetime.fromtimestamp(path.stat().st_mtime), document, answers)


def _read_answers(path: Path) -> list[Answer]:
    found = []
    for number, row in read_table(path, COLUMNS):
        try:
            best = parsing.parse(Best, json.loads(row["predictions"]), "predictions")
            rank = parsing.parse(Some, int(row["rank"]), "rank") if row["rank"] else None
            seconds = parsing.parse(Rate, float(row["seconds"]), "seconds")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}:{number}: not a line as evaluate writes it ({error}); {AGAIN}") from None
        wanted, corpus, (_, raw) = row["class"], row.get(CORPUS, ""), best[0]
        found.append(Answer(row["uid"], row["lang"], wanted, seconds, rank, best, raw, corpus))
    return found
