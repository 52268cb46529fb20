"""The files of a language identification's report, and its table for the terminal."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from mms_recipes import alignment, files
from mms_recipes.lid import scores
from mms_recipes.lid.calibration import Temperature
from mms_recipes.lid.scores import MICRO, Answer, Crops
from mms_recipes.metrics import MACRO
from mms_recipes.report import beside, lid_figures, lid_page, lid_runs
from mms_recipes.report.lid_runs import PREDICTIONS, LidRun
from mms_recipes.report.scores import cell

logger = logging.getLogger(__name__)

Document = Mapping[str, Any]


def write(
    folder: Path,
    answers: Sequence[Answer],
    crops: Sequence[Crops],
    settings: Mapping[str, Any],
    fitted: Temperature | None,
    benchmark: Document | None,
) -> None:
    """Write predictions.tsv, scores.tsv, confusion.png (needs matplotlib), report.html and last scores.json.

    Where several corpora were scored, both tables have a first column more, the corpus; in scores.tsv it is empty for
    all together.
    """
    *rows, macro, micro = scores.language_rows(answers)
    corpora = scores.corpus_scores(answers)
    document = {
        "settings": dict(settings),
        "languages": {row["lang"]: row for row in rows},
        MACRO: macro,
        MICRO: micro,
        "lengths": [scores.length_row(one) for one in crops],
        "calibration": scores.calibration_scores(answers) | {"temperature": asdict(fitted) if fitted else None},
        "confusions": scores.confusion_pairs(answers),
        "answers": scores.answer_counts(answers),
    }
    if corpora:
        document["corpora"] = corpora
    if benchmark:
        document["benchmark"] = dict(benchmark)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / PREDICTIONS, "".join(f"{line}\n" for line in _prediction_lines(answers)))
    files.write_text(folder / "scores.tsv", "".join(f"{line}\n" for line in _score_lines(document)))
    _draw(folder / lid_page.PICTURE, document)
    run = LidRun(settings["name"], folder, datetime.now(), document, sorted(answers, key=lid_runs.order))
    files.write_text(folder / "report.html", lid_page.page([run]))
    files.write_text(folder / "scores.json", json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _prediction_lines(answers: Sequence[Answer]) -> list[str]:
    """A line for each utterance; the last column is what fairseq's lid/infer.py writes, a JSON list of class and
    probability."""
    several = any(answer.corpus for answer in answers)
    lines = ["\t".join([lid_runs.CORPUS, *lid_runs.COLUMNS] if several else lid_runs.COLUMNS)]
    for answer in answers:
        best = json.dumps([[name, round(probability, 6)] for name, probability in answer.best], ensure_ascii=False)
        rank = "" if answer.rank is None else str(answer.rank)
        cells = [answer.lang, answer.uid, answer.wanted, f"{answer.seconds:.3f}", rank, best]
        lines.append("\t".join([answer.corpus, *cells] if several else cells))
    return lines


def _score_lines(document: Document) -> list[str]:
    """A line for each language, macro and micro: of all together, then of each corpus."""
    corpora = document.get("corpora", {})
    header = list(next(iter(document["languages"].values())))
    lines = ["\t".join([lid_runs.CORPUS, *header] if corpora else header)]
    for corpus, scored in {"": document, **corpora}.items():
        for row in (*scored["languages"].values(), scored[MACRO], scored[MICRO]):
            cells = [cell(row.get(key)) for key in header]
            lines.append("\t".join([corpus, *cells] if corpora else cells))
    return lines


def _draw(path: Path, document: Document) -> None:
    try:
        lid_figures.draw(path, document)
    except ModuleNotFoundError as error:
        logger.warning("no picture of the confusions: %s; pip install '.[plots]'", error)
        path.unlink(missing_ok=True)  # of an earlier evaluation


def table(document: Document) -> str:
    """Return the accuracies as a text table, and below it what else is worth knowing at once."""
    corpora = document.get("corpora", {})
    lines = [
        [
            "language",
            "utterances",
            "hours",
            "top-1",
            "95 %",
            "top-3",
            "top-5",
            *(f"top-1 {name}" for name in corpora),
            "taken for",
        ]
    ]
    for row in (*document["languages"].values(), document[MACRO], document[MICRO]):
        interval = f"{row['top1_low']:.1f}-{row['top1_high']:.1f}"
        rates = [f"{row['top1']:.2f}", interval, f"{row['top3']:.2f}", f"{row['top5']:.2f}"]
        rates += [
            f"{one['top1']:.2f}" if (one := of_corpus(scored, row["lang"])) else "" for scored in corpora.values()
        ]
        lines.append([row["lang"], f"{row['utterances']:,}", f"{row['hours']:.2f}", *rates, taken_for(document, row)])
    shown = alignment.text_table(lines, left=(0, len(lines[0]) - 1), feet=2)
    sure = document["calibration"]
    said = [f"calibration error {sure['raw_error']:.2f} %"]
    if sure["temperature"]:
        said = [f"{said[0]}, {sure['calibrated_error']:.2f} % at temperature {sure['temperature']['temperature']:.3f}"]
    for name, scored in corpora.items():
        of = scored["calibration"]
        said.append(
            f"{name}: {scored[MICRO]['utterances']:,} utterances of {len(scored['languages'])} languages; calibration "
            f"error {of['raw_error']:.2f} %" + (f", {of['calibrated_error']:.2f} %" if sure["temperature"] else "")
        )
    for row in document["lengths"]:
        if row["utterances"]:
            said.append(
                f"{row['seconds']:g} s: macro {row['crop_macro']:.2f}, micro {row['crop_micro']:.2f} on crops of "
                f"{row['utterances']:,} utterances of {row['languages']} languages; whole they have "
                f"{row['whole_macro']:.2f} and {row['whole_micro']:.2f}"
            )
        else:
            said.append(f"{row['seconds']:g} s: no utterance is as long")
    return "\n".join([shown, *said, *beside_the_paper(document)])


def of_corpus(scored: Document, key: str) -> Mapping[str, Any] | None:
    """Return the row of a language, macro or micro in the scores of a corpus, None where it does not have it."""
    row: Mapping[str, Any] | None = scored["languages"].get(key, scored.get(key))
    return row


def taken_for(document: Document, row: Mapping[str, Any], most: int = 3) -> str:
    """Say what a language is most often taken for."""
    if row["lang"] in (MACRO, MICRO):
        return ""
    wrong = [(name, count) for name, count in document["answers"][row["lang"]].items() if name != row["class"]]
    listed = " ".join(f"{name} {count}" for name, count in wrong[:most])
    return listed if row["known"] else f"{listed} (not a class of this model)"


def beside_the_paper(document: Document) -> list[str]:
    """Return the paper's numbers in words, and what keeps ours from being compared with them."""
    if "benchmark" not in document:
        return []
    benchmark = document["benchmark"]
    listed = ", ".join(f"{row['system']} {row['accuracy']:.1f}" for row in benchmark["paper"])
    return [
        f"in the paper ({benchmark['source']}), accuracy on {benchmark['languages']} languages: {listed}",
        beside.verdict(benchmark),
        beside.unknown(benchmark),
    ]
