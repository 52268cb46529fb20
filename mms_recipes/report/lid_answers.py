"""The languages of a page of identification one by one: what was answered, and which utterances wrongly."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from mms_recipes.lid.scores import Answer
from mms_recipes.report import lid_tables
from mms_recipes.report.lid_runs import LidRun

WRONG, WRONG_OF_ALL = 20, 3000  # utterances shown of each language, and of all together
MANY_LANGUAGES = 100

Given = Sequence[Answer]  # what each run answered for an utterance


def wrong(runs: Sequence[LidRun]) -> dict[str, list[Given]]:
    """Return the utterances of each language that any run was wrong about, the surest wrong answer first."""
    found: dict[str, list[Given]] = {}
    for given in zip(*(run.answers for run in runs), strict=True):
        if not all(answer.right for answer in given):
            found.setdefault(given[0].lang, []).append(given)

    def surest(given: Given) -> tuple[float, str]:
        return (-max(answer.best[0][1] for answer in given if not answer.right), given[0].uid)

    return {lang: sorted(listed, key=surest) for lang, listed in found.items()}


def section(runs: Sequence[LidRun], lang: str, names: Mapping[str, str], listed: Sequence[Given]) -> str:
    """Return the section of a language; `listed` are the utterances of wrong answers."""
    code, num_langs = escape(lang), len(runs[0].document["languages"])
    most = max(1, min(WRONG, WRONG_OF_ALL // num_langs))
    which = f"the surest {most} of {len(listed):,}" if len(listed) > most else f"{len(listed):,}"
    which += " utterances, of any run" if len(runs) > 1 else ""
    rates = ", ".join(f"{run.document['languages'][lang]['top1']:.2f} %" for run in runs)
    utterances = "".join(_utterance(runs, given) for given in listed[:most])
    inside = f'<div class="scroll">{_counts(runs, lang)}</div><h4>Wrong answers: {which}</h4>{utterances}'
    if num_langs > MANY_LANGUAGES:
        inside = f"<template>{inside}</template>"  # page.js unpacks it
    return (
        f'<details class="lang" id="lang-{code}" data-find="{lid_tables.find_text(runs, lang, names)}"><summary>'
        f"<b>{escape(names[lang])}</b> <code>{code}</code> <span>{rates}</span></summary>{inside}</details>"
    )


def _counts(runs: Sequence[LidRun], lang: str) -> str:
    """Return how often each class was answered by each run, the right one marked."""
    counts = [run.document["answers"][lang] for run in runs]
    total: Counter[str] = Counter()
    for of_run in counts:
        total.update(of_run)
    body = ""
    for name, _ in total.most_common(WRONG):
        css = ' class="better"' if name == runs[0].document["languages"][lang]["class"] else ""
        cells = "".join(f"<td>{of_run.get(name, 0):,}</td>" for of_run in counts)
        body += f'<tr{css}><th scope="row">{lid_tables.named(name)}</th>{cells}</tr>'
    heads = "".join(
        f'<th scope="col" class="r{number}">{escape(run.name)}</th>' if len(runs) > 1 else '<th scope="col">times</th>'
        for number, run in enumerate(runs)
    )
    return (
        f'<table class="runs"><thead><tr><th scope="col">answered</th>{heads}</tr></thead><tbody>{body}</tbody></table>'
    )


def _utterance(runs: Sequence[LidRun], given: Given) -> str:
    """Return an utterance: its name, its corpus where there are several, what each run answered."""
    lines = ""
    for number, (run, answer) in enumerate(zip(runs, given, strict=True)):
        who = f'<b class="r{number}">{escape(run.name)}</b> ' if len(runs) > 1 else ""
        best = ", ".join(
            f"{escape(name)}{' ✓' if place == answer.rank else ''} {100 * share:.1f} %"
            for place, (name, share) in enumerate(answer.best, start=1)
        )
        rank = f", the right one is number {answer.rank}" if (answer.rank or 0) > len(answer.best) else ""
        lines += f'<div class="answer">{who}{best}{rank}</div>'
    first = given[0]
    corpus = f"<span>{escape(first.corpus)}</span>" if first.corpus else ""
    return (
        f"<article><header><code>{escape(first.uid)}</code>{corpus}<span>{first.seconds:.1f} s</span></header>"
        f"{lines}</article>"
    )
