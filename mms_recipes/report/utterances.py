"""Utterances as HTML: the reference above what each run made of it, in columns, errors in colour."""

import itertools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from mms_recipes import alignment, languages, metrics
from mms_recipes.report.runs import Hypothesis, Key, Run, Word

VISIBLE = {" ": "␣", "": "∅"}
# Browsers choose the font of Chinese characters by these; for other languages the code of ISO 639-3 will do.
_HTML_LANGS = {"cmn": "zh-Hans", "jpn": "ja", "kor": "ko", "yue": "zh-Hant"}
_MARKS = {"equal": "", "substitute": "s", "delete": "d", "insert": "n"}
UNSURE = {"c1": 0.5, "c2": 0.8}  # words below these are underlined
_UNSURE = 2.0  # where an utterance without confidence stands in the order of it: last
_VIRAMA = 9  # the combining class of the signs that join the next letter to the one before

Cell = metrics.Aligned | None  # None: another run inserted something here


class Column(NamedTuple):
    """What stands above each other: a unit of the reference ("" where there is none) and one cell for each run."""

    reference: str
    cells: list[Cell]


def chosen(runs: Sequence[Run], lang: str, number: int | None) -> list[int]:
    """Return the places of the `number` (None: all) utterances with the most errors over all runs, worst first.

    Errors are those of the language's headline metric. Utterances without errors are left out unless all are wanted.
    """
    first = runs[0].hypotheses[lang]
    metric = runs[0].languages[lang]["headline_metric"]
    errors = [sum(_errors(run.hypotheses[lang][place], metric) for run in runs) for place in range(len(first))]
    order = sorted(range(len(first)), key=lambda place: (-errors[place], first[place].uid))
    return order if number is None else [place for place in order if errors[place]][:number]


def html(
    runs: Sequence[Run], lang: str, place: int, audio: Mapping[Key, str], timed: Sequence[Mapping[Key, Sequence[Word]]]
) -> str:
    """Return one utterance of a language: its id, errors of each run, player where there is audio, alignment.

    `timed` holds each run's words with their times, of the utterances of which they are known.
    """
    scores = [run.hypotheses[lang][place] for run in runs]
    by_characters = languages.is_character_scored(lang)
    space = runs[0].space
    reference, *hypotheses = (
        list(space.join(text.split())) if by_characters else text.split()
        for text in (scores[0].reference, *(score.hypothesis for score in scores))
    )
    uid = escape(scores[0].uid)
    source = audio.get((lang, scores[0].uid))
    play = f'<button type="button" class="play" data-src="{escape(source or "")}" aria-label="play {uid}">▶</button>'
    labels = "".join(f'<b class="r{number}">{escape(run.name)}</b>' for number, run in enumerate(runs))
    words = [of_run.get((lang, scores[0].uid), ()) for of_run in timed]
    sure = [iter(match_words(*pair, by_characters)) for pair in zip(hypotheses, words, strict=True)]
    columns = "".join(_column_html(column, sure) for column in align_all(reference, hypotheses))
    metric = runs[0].languages[lang]["headline_metric"]
    classes = "al ch" if by_characters else "al"
    code = _HTML_LANGS.get(lang.partition("-")[0], lang.partition("-")[0])
    header = f"{play if source else ''}<code>{uid}</code>{_counts(runs, scores, space)}"
    return (
        f"<article{_order(scores, metric) if any(timed) else ''}><header>{header}</header>"
        f'<div class="rows"><div class="who"><b>reference</b>{labels}</div>'
        f'<div class="{classes}" dir="auto" lang="{escape(code)}">{columns}</div></div></article>\n'
    )


def _order(scores: Sequence[Hypothesis], metric: str) -> str:
    """Return what page.js orders utterances by: errors of all runs, then the confidence of each."""
    sure = [_UNSURE if score.sure is None else score.sure for score in scores]
    return f' data-order="{sum(_errors(score, metric) for score in scores)} {" ".join(f"{one:g}" for one in sure)}"'


def align_all(reference: Sequence[str], hypotheses: Sequence[Sequence[str]]) -> Iterator[Column]:
    """Align several hypotheses with one reference: a column for each unit of it, and for what was inserted between."""
    gaps: list[list[list[Cell]]] = []  # [run][place in the reference][insertions before it]
    matches: list[list[Cell]] = []  # [run][place in the reference]
    for hypothesis in hypotheses:
        gaps.append([[]])
        matches.append([])
        for step in metrics.align(reference, hypothesis):
            if step.operation == "insert":
                gaps[-1][-1].append(step)
            else:
                matches[-1].append(step)
                gaps[-1].append([])
    for place in range(len(reference) + 1):
        for cells in itertools.zip_longest(*(of_run[place] for of_run in gaps)):
            yield Column("", list(cells))
        if place < len(reference):
            yield Column(reference[place], [of_run[place] for of_run in matches])


def match_words(units: Sequence[str], words: Sequence[Word], by_characters: bool) -> list[Word | None]:
    """Return the word of each unit of a hypothesis, in order; None for spaces.

    All None where they do not fit together: a benchmark's text rules changed the hypothesis, or words have no times.
    """
    spread = (
        [(letter, word) for word in words for letter in word.text] if by_characters else [(w.text, w) for w in words]
    )
    if [unit for unit in units if unit != " "] != [text for text, _ in spread]:
        return [None] * len(units)
    found = iter(spread)
    return [None if unit == " " else next(found)[1] for unit in units]


def _column_html(column: Column, sure: Sequence[Iterator[Word | None]]) -> str:
    """Return a column; `sure` gives the word of each run's next unit."""
    cells = "".join(
        "<i></i>" if cell is None else _cell_html(cell, next(words) if cell.hypothesis else None)
        for cell, words in zip(column.cells, sure, strict=True)
    )
    return f"<span><b>{escape(visible(column.reference) if column.reference else '')}</b>{cells}</span>"


def _cell_html(step: metrics.Aligned, word: Word | None) -> str:
    """Return what a run made of a unit, in its colour, underlined where the model was not sure of it."""
    classes, title = [_MARKS[step.operation]], ""
    if word is not None:
        classes.append(next((css for css, below in UNSURE.items() if word.sure < below), ""))
        title = f' title="{word.sure:.2f}, {word.start:.2f} to {word.end:.2f} s"'
    css = " ".join(filter(None, classes))
    marked = f' class="{css}"' if css else ""
    return f"<i{marked}{title}>{_inner(step)}</i>"


def _inner(step: metrics.Aligned) -> str:
    """Return the hypothesis of a step; in a word that stands for another one, the letters that differ are marked."""
    if step.operation != "substitute" or len(step.hypothesis) == 1:
        return escape(visible(step.hypothesis))
    marked = []
    for edit in metrics.align(clusters(step.reference), clusters(step.hypothesis)):
        if edit.hypothesis:
            text = escape(visible(edit.hypothesis))
            marked.append(text if edit.operation == "equal" else f"<u>{text}</u>")
    return "".join(marked).replace("</u><u>", "")


def visible(text: str) -> str:
    """Return text that can be seen: a sign for a space and for nothing, a combining mark alone on a dotted circle."""
    return VISIBLE.get(text) or alignment.seated(text)


def clusters(word: str) -> list[str]:
    """Split a word where colours may change: not before a combining mark, nor behind a sign that joins letters."""
    parts: list[str] = []
    for letter in word:
        joined = parts and (
            unicodedata.category(letter) in ("Mn", "Me", "Mc", "Cf")
            or unicodedata.category(parts[-1][-1]) == "Cf"
            or unicodedata.combining(parts[-1][-1]) == _VIRAMA
        )
        if joined:
            parts[-1] += letter
        else:
            parts.append(letter)
    return parts


def _errors(score: Hypothesis, metric: str) -> int:
    return score.word_errors if metric == "wer" else score.character_errors


def _counts(runs: Sequence[Run], scores: Sequence[Hypothesis], space: str) -> str:
    """Return the errors of each run, in words and in letters."""
    words = len(scores[0].reference.split())
    letters = len(space.join(scores[0].reference.split()))
    return "".join(
        f'<span><b class="r{number}">{escape(run.name)}</b> {score.word_errors}/{words} words, '
        f"{score.character_errors}/{letters} letters"
        f"{'' if score.sure is None else f', {run.sure} {score.sure:.2f}'}</span>"
        for number, (run, score) in enumerate(zip(runs, scores, strict=True))
    )
