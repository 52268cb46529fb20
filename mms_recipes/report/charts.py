"""Pictures of error rates as inline SVG: an interval in a table cell, and all languages at once.

Colours come from the page's style sheet: the class `r0` is the first run, `r1` the second, and so on.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mms_recipes.report import beside
from mms_recipes.report.runs import Run

NAMED_LANGUAGES = 40  # up to as many have a line and a name of their own in the overview
_CELL = 90  # units of width of a picture in a cell
_WIDTH, _LEFT, _LINE, _DOT = 480, 130, 7, 3.2  # narrow enough for a telephone to show all of it
_LETTERS = 18  # of a name, that fit into the left margin
_WIDE, _EDGE, _HEIGHT = 900, 48, 300  # of the picture of many languages, which scrolls


def full_scale(rates: Sequence[float]) -> float:
    """Return the end of an axis that begins at 0: the next round number above the rates, at most 160."""
    highest = min(160.0, max(rates, default=0.0))
    step = _step(highest)
    return float(max(step, math.ceil(highest / step) * step))


def _step(highest: float) -> int:
    """Return how far the ticks of an axis are apart."""
    return next((step for step in (1, 2, 5, 10, 20) if highest <= 5 * step), 40)


def interval(rate: float, low: float, high: float, scale: float) -> str:
    """Draw a rate and its interval on an axis from 0 to `scale`."""
    middle, left, right = (_place(value, 0, scale, _CELL) for value in (rate, low, high))
    return (
        f'<svg class="i" viewBox="0 0 {_CELL} 9" aria-hidden="true"><path class="a" d="M0 4.5H{_CELL}"/>'
        f'<path class="w" d="M{left} 4.5H{right}"/><path class="m" d="M{middle} 0V9"/></svg>'
    )


def difference(value: float, low: float, high: float, scale: float) -> str:
    """Draw a difference and its interval on an axis from minus to plus `scale`."""
    middle, left, right = (_place(number, -scale, scale, _CELL) for number in (value, low, high))
    return (
        f'<svg class="i" viewBox="0 0 {_CELL} 9" aria-hidden="true"><path class="a" d="M{_CELL / 2:g} 0V9"/>'
        f'<path class="w" d="M{left} 4.5H{right}"/><path class="m" d="M{middle} 0V9"/></svg>'
    )


def overview(runs: Sequence[Run], langs: Sequence[str], names: Mapping[str, str]) -> str:
    """Draw the headline rates of all languages in this order: a line each, or where they are many a point each."""
    draw = _lines if len(langs) <= NAMED_LANGUAGES else _points
    rates = [run.languages[lang]["headline_high"] for run in runs for lang in langs]
    rates += [rate for column in beside.columns(runs[0].benchmark) for rate in column.rates.values()]
    return draw(runs, langs, names, full_scale(rates))


def _lines(runs: Sequence[Run], langs: Sequence[str], names: Mapping[str, str], scale: float) -> str:
    """Draw a line for each language, its runs below each other."""
    step = max(2, len(runs)) * _LINE + 6
    height = len(langs) * step
    shapes = [_vertical_grid(scale, height)]
    for place, lang in enumerate(langs):
        top = place * step
        name = names[lang] if len(names[lang]) <= _LETTERS else f"{names[lang][: _LETTERS - 1]}…"
        shapes.append(f'<g class="l" data-lang="{escape(lang)}">')
        shapes.append(f'<text x="{_LEFT - 10}" y="{top + step / 2 + 4:g}" text-anchor="end">{escape(name)}</text>')
        for number, run in enumerate(runs):
            y = top + step / 2 + (number - (len(runs) - 1) / 2) * _LINE
            row = run.languages[lang]
            x, left, right = (_across(row[key], scale) for key in ("headline", "headline_low", "headline_high"))
            shapes.append(
                f'<g class="r{number}"><title>{_said(run, row, names[lang])}</title><path d="M{left} {y:g}H{right}"/>'
                f'<circle cx="{x}" cy="{y:g}" r="{_DOT}"/></g>'
            )
        shapes += [
            f'<path class="paper" d="M{_across(rate, scale)} {top + 3}V{top + step - 3}">{title}</path>'
            for rate, title in _of_paper(runs, lang, names[lang])
        ]
        shapes.append("</g>")
    return _svg("".join(shapes), _WIDTH, height + 26)


def _points(runs: Sequence[Run], langs: Sequence[str], names: Mapping[str, str], scale: float) -> str:
    """Draw the languages from left to right, one point for each run above the other, intervals as thin lines."""
    step = (_WIDE - _EDGE - 10) / len(langs)
    shapes = [_horizontal_grid(scale)]
    for number, run in enumerate(runs):
        columns = [(_EDGE + (place + 0.5) * step, run.languages[lang]) for place, lang in enumerate(langs)]
        whiskers = "".join(
            f"M{x:.1f} {_down(row['headline_low'], scale)}V{_down(row['headline_high'], scale)}" for x, row in columns
        )
        shapes.append(f'<path class="r{number} thin" d="{whiskers}"/>')
    for number, run in enumerate(runs):
        shapes.append(f'<g class="r{number}">')
        for place, lang in enumerate(langs):
            row = run.languages[lang]
            x, y = _EDGE + (place + 0.5) * step, _down(row["headline"], scale)
            point = f'<circle class="l" data-lang="{escape(lang)}" cx="{x:.1f}" cy="{y}" r="2">'
            shapes.append(f"{point}<title>{_said(run, row, names[lang])}</title></circle>")
        shapes.append("</g>")
    for place, lang in enumerate(langs):
        x = _EDGE + (place + 0.5) * step
        shapes += [
            f'<path class="paper l" data-lang="{escape(lang)}" d="M{x - 4:.1f} {_down(rate, scale)}h8">{title}</path>'
            for rate, title in _of_paper(runs, lang, names[lang])
        ]
    return _svg("".join(shapes), _WIDE, _HEIGHT + 20)


def _of_paper(runs: Sequence[Run], lang: str, name: str) -> list[tuple[float, str]]:
    """Return the paper's rates of a language that are known, each with what is said of it."""
    return [
        (column.rates[lang], f"<title>{escape(name)}, paper: {escape(column.system)} {column.rates[lang]:.1f}</title>")
        for column in beside.columns(runs[0].benchmark)
        if lang in column.rates
    ]


def _said(run: Run, row: Mapping[str, Any], name: str) -> str:
    rate, metric = row["headline"], row["headline_metric"].upper()
    return escape(f"{name}, {run.name}: {metric} {rate:.2f} [{row['headline_low']:.2f}, {row['headline_high']:.2f}]")


def _vertical_grid(scale: float, height: int) -> str:
    ticks = range(0, int(scale) + 1, _step(scale))
    lines = "".join(f"M{_across(tick, scale)} 0V{height}" for tick in ticks)
    labels = "".join(
        f'<text x="{_across(tick, scale)}" y="{height + 18}" text-anchor="middle">{tick} %</text>' for tick in ticks
    )
    return f'<path class="g" d="{lines}"/>{labels}'


def _horizontal_grid(scale: float) -> str:
    ticks = range(0, int(scale) + 1, _step(scale))
    lines = "".join(f"M{_EDGE} {_down(tick, scale)}H{_WIDE}" for tick in ticks)
    labels = "".join(
        f'<text x="{_EDGE - 6}" y="{float(_down(tick, scale)) + 4:g}" text-anchor="end">{tick} %</text>'
        for tick in ticks
    )
    return f'<path class="g" d="{lines}"/>{labels}'


def _svg(shapes: str, width: int, height: int) -> str:
    box = f'viewBox="0 -8 {width} {height + 8}"'
    drawn = (
        f'<svg class="overview{" many" * (width == _WIDE)}" {box} role="img" aria-labelledby="overview">{shapes}</svg>'
    )
    return f'<div class="wide" tabindex="0" role="region" aria-labelledby="overview">{drawn}</div>'


def _across(rate: float, scale: float) -> str:
    return f"{_LEFT + float(_place(rate, 0, scale, _WIDTH - _LEFT - 30)):.1f}"


def _down(rate: float, scale: float) -> str:
    return f"{_HEIGHT - float(_place(rate, 0, scale, _HEIGHT)):.1f}"


def _place(value: float, low: float, high: float, width: float) -> str:
    """Return where a value lies on an axis of this width; beyond its ends, the end."""
    return f"{width * min(1.0, max(0.0, (value - low) / (high - low))):.1f}"
