"""Language identification as a person looks at it: one HTML file with the style and script of the other reports."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from mms_recipes import __version__, languages
from mms_recipes.lid.scores import MACRO, MICRO, Answer
from mms_recipes.report import charts, document
from mms_recipes.report.runs import Run

PAIRS, WRONG = 30, 20  # confusions of all languages, and wrong answers of each language, that are shown
_SIDE, _EDGE = 300, 40  # of the picture of calibration
_COLUMNS = ("language", "utterances", "hours", "top-1", "top-3", "top-5", "taken for")
Document = Mapping[str, Any]
Row = Mapping[str, Any]


def page(scored: Document, answers: Sequence[Answer], picture: Path | None) -> str:
    """Return the page of what scores.json says (`scored`)."""
    rows = sorted(scored["languages"].values(), key=lambda row: (row["top1"], row["lang"]))
    names = {row["lang"]: row_.name if (row_ := languages.table().get(row["lang"])) else row["lang"] for row in rows}
    title = f"{scored['settings']['name']}: language identification"
    wrong: dict[str, list[Answer]] = {row["lang"]: [] for row in rows}
    for answer in answers:
        if not answer.right:
            wrong[answer.lang].append(answer)
    parts = [
        _head(scored, title),
        _benchmark(scored),
        _summary(scored),
        _overview(scored, rows, names),
        _by_language(scored, rows, names),
        _lengths(scored),
        _calibration(scored),
        _confusions(scored, names, picture),
        "<h2>Languages and what was answered wrongly</h2>",
        *(_language(scored, row, names, wrong[row["lang"]]) for row in rows),
    ]
    return document.document(title, parts, "img-src data:")


def _head(scored: Document, title: str) -> str:
    """Return the title, what was scored, all settings, and the filter box."""
    settings, macro = scored["settings"], scored[MACRO]
    facts = {
        "split": settings["split"],
        "utterances": f"{macro['utterances']:,} ({macro['hours']:.2f} h) of {len(scored['languages']):,} languages",
        "classes to choose from": f"{settings['classes']:,} of {settings['classes_of_the_model']:,}",
        "model": settings["checkpoint"],
        "page": f"{datetime.now():%Y-%m-%d %H:%M} by mms_recipes {__version__}",
    }
    wrap = 'style="overflow-wrap: anywhere"'
    listed = "".join(
        f"<div><dt>{escape(key)}</dt><dd {wrap}>{escape(str(value))}</dd></div>" for key, value in facts.items()
    )
    told = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(str(value))}</td></tr>' for key, value in settings.items()
    )
    return (
        f'<h1>{escape(title)}</h1><dl class="facts">{listed}</dl><details><summary>All settings</summary>'
        f'<div class="scroll"><table class="settings"><tbody>{told}</tbody></table></div></details>'
        '<p class="tools"><label for="filter">Languages</label> <input id="filter" type="search" autocomplete="off" '
        'placeholder="id or name, several with commas"> <span id="found" role="status"></span>'
        '<button type="button" id="open">open all</button><button type="button" id="close">close all</button></p>'
    )


def _benchmark(scored: Document) -> str:
    """Put the paper's numbers beside ours, and say what keeps them from being compared."""
    if "benchmark" not in scored:
        return ""
    benchmark = scored["benchmark"]
    css = "differ" if benchmark["differs"] else "alike"
    verdict = "Not like for like with the paper's" if benchmark["differs"] else "Scored as far as known by its rules"
    said = [f"{verdict}: {'; '.join(benchmark['differs'])}." if benchmark["differs"] else f"{verdict}."]
    said += [f"Not known here: {'; '.join(benchmark['unknown'])}.", f"MMS paper, {benchmark['source']}"]
    listed = "".join(
        f"<tr><td>{_bold(str(row['accuracy']), row['alike'])} %</td>"
        f'<th scope="row">{_bold(escape(row["system"]), row["alike"])}</th></tr>'
        for row in benchmark["paper"]
    )
    lines = "".join(f"<p>{escape(text)}</p>" for text in said)
    return (
        f'<section class="benchmark {css}"><h2>{escape(benchmark["title"])}: accuracy in the paper</h2>'
        f"<table>{listed}</table>{lines}</section>"
    )


def _bold(text: str, marked: bool) -> str:
    return f"<b>{text}</b>" if marked else text


def _summary(scored: Document) -> str:
    """Return what counts most in a box."""
    sure = scored["calibration"]
    shown = {f"{title} accuracy": _rate(scored[key]) for key, title in ((MACRO, "Macro"), (MICRO, "Micro"))}
    shown |= {f"Macro top-{depth}": f"{scored[MACRO][f'top{depth}']:.2f} %" for depth in (3, 5)}
    fitted = sure["temperature"]
    shown["Calibration error"] = f"{sure['calibrated_error' if fitted else 'raw_error']:.2f} %" + (
        f"<small>{sure['raw_error']:.2f} % without temperature {fitted['temperature']:.3f}</small>" if fitted else ""
    )
    rates = "".join(f"<div><dt>{title}</dt><dd>{value}</dd></div>" for title, value in shown.items())
    name = escape(scored["settings"]["name"])
    return f'<div class="boxes"><section class="box r0"><h2>{name}</h2><dl>{rates}</dl></section></div>'


def _rate(row: Row) -> str:
    return f"{row['top1']:.2f} %<small>[{row['top1_low']:.2f}, {row['top1_high']:.2f}]</small>"


def _overview(scored: Document, rows: Sequence[Row], names: Mapping[str, str]) -> str:
    """Draw the share of wrong answers of each language."""
    wrong = {
        row["lang"]: {
            "headline": 100 - row["top1"],
            "headline_low": 100 - row["top1_high"],
            "headline_high": 100 - row["top1_low"],
            "headline_metric": "wrong",
        }
        for row in rows
    }
    run = Run(scored["settings"]["name"], Path(), datetime.now(), scored["settings"], wrong, {}, {})
    drawn = charts.overview([run], [row["lang"] for row in rows], names)
    return f"<h2 id='overview'>Wrong answers of each language with 95 % interval, worst first</h2>{drawn}"


def _by_language(scored: Document, rows: Sequence[Row], names: Mapping[str, str]) -> str:
    """Return the table that page.js sorts and filters."""
    heads = "".join(
        f'<th scope="col" data-column="{place}" aria-sort="{"ascending" if title == "top-1" else "none"}">'
        f'<button type="button">{title}</button></th>'
        for place, title in enumerate(_COLUMNS)
    )
    body = []
    for row in rows:
        code, find = escape(row["lang"]), escape(f"{row['lang']} {row['class']} {names[row['lang']]}".lower())
        wrong = [(name, count) for name, count in scored["answers"][row["lang"]].items() if name != row["class"]]
        listed = ", ".join(f"{escape(name)} {count}" for name, count in wrong[:3])
        listed += "" if row["known"] else " (not a class of this model)"
        body.append(
            f'<tr data-lang="{code}" data-find="{find}"><th scope="row" data-value="{code}"><a href="#lang-{code}">'
            f"{code}</a><small>{escape(names[row['lang']])}</small></th>{_cells(row)}"
            f'<td data-value="{sum(count for _, count in wrong)}">{listed}</td></tr>\n'
        )
    feet = "".join(
        f'<tr data-lang="{key}"><th scope="row">{key}<small>{said}</small></th>{_cells(scored[key])}<td></td></tr>'
        for key, said in ((MACRO, "mean over languages"), (MICRO, "over all utterances"))
    )
    return (
        "<h2 id='by-language'>By language</h2><p>Accuracy in percent: the right language is the first answer, among "
        "the first three, among the first five. Intervals are 95 % bootstrap intervals over the utterances.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="by-language"><table id="scores"><thead><tr>'
        f"{heads}</tr></thead><tbody>\n{''.join(body)}</tbody><tfoot>{feet}</tfoot></table></div>"
        '<p><button type="button" id="more" hidden></button></p>'
    )


def _cells(row: Row) -> str:
    picture = charts.interval(row["top1"], row["top1_low"], row["top1_high"], 100)
    return (
        f'<td data-value="{row["utterances"]}">{row["utterances"]:,}</td>'
        f'<td data-value="{row["hours"]:.6f}">{row["hours"]:.2f}</td>'
        f'<td data-value="{row["top1"]:.6f}">{row["top1"]:.2f}<small>[{row["top1_low"]:.2f}, {row["top1_high"]:.2f}]'
        f"</small>{picture}</td>"
        + "".join(f'<td data-value="{row[key]:.6f}">{row[key]:.2f}</td>' for key in ("top3", "top5"))
    )


def _lengths(scored: Document) -> str:
    """Return the accuracies on crops beside those on the same utterances whole."""
    if not scored["lengths"]:
        return ""
    body = ""
    for row in scored["lengths"]:
        keys = ("crop_macro", "crop_micro", "whole_macro", "whole_micro")
        cells = "".join(f"<td>{'' if row[key] is None else f'{row[key]:.2f}'}</td>" for key in keys)
        body += (
            f'<tr><th scope="row">{row["seconds"]:g} s</th><td>{row["utterances"]:,}</td>'
            f"<td>{row['languages']:,}</td>{cells}</tr>"
        )
    titles = ("length", "utterances", "languages", "crops, macro", "crops, micro", "whole, macro", "whole, micro")
    heads = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return (
        "<h2>By length</h2><p>The middle of every utterance that is as long, and beside it the same utterances whole: "
        "the lines are of different utterances, which only the last two columns allow for.</p>"
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _calibration(scored: Document) -> str:
    """Draw how often answers of some confidence are right, before and after the temperature."""
    sure = scored["calibration"]
    fitted = sure["temperature"]
    curves = [("without temperature", "raw")] + ([("with it", "calibrated")] if fitted else [])
    key = "".join(f'<span class="r{place}">{title}</span>' for place, (title, _) in enumerate(curves))
    said = f"Expected calibration error (15 bins) {sure['raw_error']:.2f} %"
    if fitted:
        said += (
            f", {sure['calibrated_error']:.2f} % with temperature {fitted['temperature']:.3f}, fitted on "
            f"{fitted['utterances']:,} utterances of {fitted['split']}"
        )
    shapes = (
        f'<path class="g" d="M{_EDGE} {_SIDE}H{_EDGE + _SIDE}M{_EDGE} {_SIDE}V0M{_EDGE} {_SIDE}L{_EDGE + _SIDE} 0"/>'
    )
    for tick in (0, 50, 100):
        place = tick * _SIDE / 100
        shapes += f'<text x="{_EDGE + place:g}" y="{_SIDE + 18}" text-anchor="middle">{tick} %</text>'
        shapes += f'<text x="{_EDGE - 5}" y="{_SIDE - place + 4:g}" text-anchor="end">{tick} %</text>'
    for number, (title, name) in enumerate(curves):
        dots = ""
        for one in sure[f"{name}_bins"]:
            x, y = _EDGE + one["confidence"] * _SIDE, _SIDE - one["accuracy"] * _SIDE
            told = f"{title}: {one['utterances']:,} answers {100 * one['confidence']:.1f} % sure, "
            told += f"{100 * one['accuracy']:.1f} % right"
            size = 2.5 + 5 * (one["utterances"] / scored[MICRO]["utterances"]) ** 0.5
            dots += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"><title>{told}</title></circle>'
        shapes += f'<g class="r{number}">{dots}</g>'
    return (
        f"<h2 id='calibration'>Calibration</h2><p>{said}. Across: how sure the model is; upward: the share that is "
        f'right; the line: as sure as right; a larger dot stands for more answers.</p><p class="key">{key}</p>'
        f'<div style="max-width: 24rem"><svg class="overview" viewBox="0 -8 {_EDGE + _SIDE + 20} {_SIDE + 32}" '
        f'role="img" aria-labelledby="calibration">{shapes}</svg></div>'
    )


def _confusions(scored: Document, names: Mapping[str, str], picture: Path | None) -> str:
    """Return the most frequent wrong answers, and the matrix as a picture."""
    pairs = scored["confusions"]
    body = "".join(
        f'<tr><th scope="row">{escape(names[row["lang"]])} <code>{escape(row["lang"])}</code></th>'
        f"<td>{_named(row['answer'])}</td><td>{row['utterances']:,}</td><td>{row['percent']:.1f}</td></tr>"
        for row in pairs[:PAIRS]
    )
    heads = "".join(
        f'<th scope="col">{title}</th>' for title in ("spoken", "answered", "utterances", "% of the language")
    )
    shown = f", the first {PAIRS} of {len(pairs):,}" if len(pairs) > PAIRS else ""
    listed = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    image = "<p>No picture of the matrix: matplotlib is not installed (extra [plots]).</p>"
    if picture:
        data = base64.b64encode(picture.read_bytes()).decode("ascii")
        told = "Confusion matrix: lines are the languages spoken, columns what was answered"
        image = f'<p><img style="max-width: 100%" alt="{told}" src="data:image/png;base64,{data}"></p>'
    return f"<h2>Confusions{shown}</h2>{listed if pairs else '<p>None.</p>'}{image}"


def _named(name: str) -> str:
    row = languages.table().get(name)
    return f"{escape(row.name)} <code>{escape(name)}</code>" if row else f"<code>{escape(name)}</code>"


def _language(scored: Document, row: Row, names: Mapping[str, str], wrong: Sequence[Answer]) -> str:
    """Return the section of a language: what was answered, and its wrong answers, the surest first."""
    code, find = escape(row["lang"]), escape(f"{row['lang']} {row['class']} {names[row['lang']]}".lower())
    counts = "".join(
        f'<tr><th scope="row">{_named(name)}</th><td>{count:,}</td></tr>'
        for name, count in list(scored["answers"][row["lang"]].items())[:WRONG]
    )
    listed = ""
    for answer in sorted(wrong, key=lambda one: (-one.best[0][1], one.uid))[:WRONG]:
        best = ", ".join(f"{escape(name)} {100 * share:.1f} %" for name, share in answer.best)
        rank = f", the right one is number {answer.rank}" if answer.rank else ""
        listed += (
            f"<article><header><code>{escape(answer.uid)}</code> {answer.seconds:.1f} s</header>{best}{rank}</article>"
        )
    which = f"the surest {WRONG} of {len(wrong):,}" if len(wrong) > WRONG else f"{len(wrong):,}"
    return (
        f'<details class="lang" id="lang-{code}" data-find="{find}"><summary><b>{escape(names[row["lang"]])}</b> '
        f"<code>{code}</code> <span>{row['top1']:.2f} %</span></summary>"
        f"<table><tbody>{counts}</tbody></table><h4>Wrong answers: {which}</h4>{listed}</details>"
    )
