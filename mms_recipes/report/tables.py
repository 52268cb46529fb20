"""The tables of the page as HTML: settings, scores by language, kinds of errors, confusions."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mms_recipes import metrics
from mms_recipes.metrics import MACRO
from mms_recipes.report import beside, charts, confusions, utterances
from mms_recipes.report.beside import Column
from mms_recipes.report.confusions import Confusion
from mms_recipes.report.differences import Difference
from mms_recipes.report.runs import Run

_METRICS = {"wer": "WER", "cer": "CER"}
_PLAIN_COLUMNS = ("language", "utterances", "hours")

Differences = Sequence[Mapping[str, Mapping[str, Difference]]]  # of each run but the first: by language and metric


def summary(runs: Sequence[Run], differences: Differences) -> str:
    """Return what counts most: a box for each run with its mean over the languages."""
    boxes = []
    counted = " or ".join(headline_titles(runs))
    shown = {"headline": f"Mean rate, {counted}"} if len(headline_titles(runs)) > 1 else {}
    for number, run in enumerate(runs):
        rates = "".join(
            f'<div><dt>{title}</dt><dd data-macro="{metric}">{run.macro[metric]:.2f} %'
            f"<small>{_range(run.macro, metric)}</small></dd></div>"
            for metric, title in (shown | {metric: f"Mean {name}" for metric, name in _METRICS.items()}).items()
        )
        verdict = ""
        if number:
            apart = differences[number - 1][MACRO]["headline"]
            verdict = (
                f'<p class="{apart.verdict}">{signed(apart.value)} against {escape(runs[0].name)} '
                f"<small>[{signed(apart.low)}, {signed(apart.high)}]</small></p>"
            )
        boxes.append(f'<section class="box r{number}"><h2>{escape(run.name)}</h2><dl>{rates}</dl>{verdict}</section>')
    if (benchmark := runs[0].benchmark) and (averages := beside.averages(benchmark)):
        listed = "".join(f"<tr><td>{rate:.1f} %</td><td>{escape(system)}</td></tr>" for system, rate in averages)
        said = escape(f"Mean over all {benchmark['languages']} languages: {benchmark['rule']}")
        title = f"<h2>In the paper</h2><p>{said}</p>"
        boxes.append(f'<section class="box paper">{title}<table>{listed}</table></section>')
    return f'<div class="boxes">{"".join(boxes)}</div>'


def headline_titles(runs: Sequence[Run]) -> list[str]:
    """Return the rates that count in any language: WER, CER or both."""
    counted = {row["headline_metric"] for row in runs[0].languages.values()}
    return [title for metric, title in _METRICS.items() if metric in counted]


def settings(runs: Sequence[Run]) -> str:
    """Return how each run was evaluated: a line for each setting, those that differ marked."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    rows = []
    for key in keys:
        values = [str(run.settings.get(key, "")) for run in runs]
        differ = ' class="differ"' if len(set(values)) > 1 else ""
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        rows.append(f'<tr{differ}><th scope="row">{escape(key)}</th>{cells}</tr>')
    dates = "".join(f"<td>{run.scored:%Y-%m-%d %H:%M}</td>" for run in runs)
    names = "".join(f'<th scope="col">{escape(run.name)}</th>' for run in runs)
    return (
        f'<table class="settings"><thead><tr><th scope="col">setting</th>{names}</tr></thead><tbody>'
        f'<tr><th scope="row">scored</th>{dates}</tr>{"".join(rows)}</tbody></table>'
    )


def scores(runs: Sequence[Run], langs: Sequence[str], names: Mapping[str, str], differences: Differences) -> str:
    """Return the table of all languages, worst first as given in `langs`, with the macro row at its foot."""
    scales = {
        metric: charts.full_scale([run.languages[lang][metric] for run in runs for lang in langs])
        for metric in _METRICS
    }
    widest = charts.full_scale(
        [abs(of_run[lang][metric].value) for of_run in differences for lang in langs for metric in _METRICS]
    )
    scales["difference"] = widest
    paper = beside.columns(runs[0].benchmark)
    body = []
    for lang in langs:
        rows = [run.languages[lang] for run in runs]
        apart = [of_run[lang] for of_run in differences]
        headlines = [row["headline"] for row in rows] + [of_run["headline"].value for of_run in apart]
        known = f"<small>{escape(names[lang])}</small>" if names[lang] != lang else ""
        code = escape(lang)
        body.append(
            f'<tr data-lang="{code}" data-find="{find_text(lang, names)}" '
            f'data-headlines="{" ".join(f"{value:.6f}" for value in headlines)}">'
            f'<th scope="row" data-value="{code}"><a href="#lang-{code}">{code}</a>{known}</th>'
            f"{_cells(rows, [column.rates.get(lang) for column in paper], apart, scales)}</tr>\n"
        )
    means = [column.rates.get(MACRO) for column in paper]
    foot = _cells([run.macro for run in runs], means, [of_run[MACRO] for of_run in differences], scales)
    mean = "mean over languages" if not runs[0].benchmark else beside.mean_over(runs[0].benchmark)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="by-language"><table id="scores">'
        f"{_head(runs, paper)}"
        f'<tbody>\n{"".join(body)}</tbody><tfoot><tr data-lang="{MACRO}"><th scope="row">macro'
        f"<small>{escape(mean)}</small></th>{foot}</tr></tfoot></table></div>"
        '<p><button type="button" id="more" hidden></button></p>'
    )


def _head(runs: Sequence[Run], paper: Sequence[Column]) -> str:
    """Return two lines of headers, buttons that sort; those over a pair of columns sort by the headline rate."""
    plain = "".join(
        f'<th scope="col" rowspan="2" data-column="{place}" aria-sort="none">'
        f'<button type="button">{title}</button></th>'
        for place, title in enumerate(_PLAIN_COLUMNS)
    )
    groups = [(run.name, f"r{number}") for number, run in enumerate(runs)]
    groups += [(f"{run.name} − {runs[0].name}", "apart") for run in runs[1:]]
    over = [
        f'<th scope="colgroup" colspan="2" class="{css}" data-headline="{place}" aria-sort="'
        f'{"none" if place else "descending"}"><button type="button" title="sort by the headline rate">{escape(name)}'
        "</button></th>"
        for place, (name, css) in enumerate(groups)
    ]
    over[len(runs) : len(runs)] = [f'<th class="paper">paper: {escape(column.system)}</th>' for column in paper]
    pair = list(_METRICS.values())
    titles = pair * len(runs) + [" or ".join(headline_titles(runs))] * len(paper) + pair * (len(runs) - 1)
    below = "".join(
        f'<th scope="col" data-column="{place}" aria-sort="none"><button type="button">{title}</button></th>'
        for place, title in enumerate(titles, start=len(_PLAIN_COLUMNS))
    )
    return f"<thead><tr>{plain}{''.join(over)}</tr><tr>{below}</tr></thead>"


def _cells(
    rows: Sequence[Mapping[str, Any]],
    known: Sequence[float | None],
    apart: Sequence[Mapping[str, Difference]],
    scales: Mapping[str, float],
) -> str:
    """Return the cells of a language (or macro) behind its name: how much, each run's rates, the paper's, differences.

    `known` are the rates of the paper's systems, None where they are not known.
    """
    first = rows[0]
    cells = [
        f'<td data-value="{first["utterances"]}">{first["utterances"]:,}</td>',
        f'<td data-value="{first["hours"]:.6f}">{first["hours"]:.2f}</td>',
    ]
    for row in rows:
        for metric in _METRICS:
            headline = ' class="headline"' if row.get("headline_metric") == metric else ""
            picture = charts.interval(row[metric], row[f"{metric}_low"], row[f"{metric}_high"], scales[metric])
            cells.append(
                f'<td{headline} data-value="{row[metric]:.6f}">{row[metric]:.2f}'
                f"<small>{_range(row, metric)}</small>{picture}</td>"
            )
    texts = ["" if rate is None else f"{rate:.1f}" for rate in known]
    cells += [f'<td class="paper" data-value="{text}">{text}</td>' for text in texts]
    for of_run in apart:
        for metric in _METRICS:
            number = of_run[metric]
            picture = charts.difference(number.value, number.low, number.high, scales["difference"])
            cells.append(
                f'<td class="{number.verdict}" data-value="{number.value:.6f}">{signed(number.value)}'
                f"<small>[{signed(number.low)}, {signed(number.high)}]</small>{picture}</td>"
            )
    return "".join(cells)


def kinds(runs: Sequence[Run], lang: str) -> str:
    """Return the kinds of errors of a language: in words and in letters, a line for each run."""
    lines = []
    for unit, title in (("word", "words"), ("character", "letters")):
        for number, run in enumerate(runs):
            row = run.languages[lang]
            counts = "".join(f"<td>{row[f'{unit}_{kind}']:,}</td>" for kind in metrics.KINDS)
            lines.append(
                f'<tr><th scope="row">{title}, <b class="r{number}">{escape(run.name)}</b></th>'
                f"<td>{row[f'reference_{unit}s']:,}</td>{counts}</tr>"
            )
    columns = "".join(f'<th scope="col">{title}</th>' for title in ("errors in", "of the references", *metrics.KINDS))
    return f'<table class="kinds"><thead><tr>{columns}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def most_confused(title: str, runs: Sequence[Run], counters: Sequence[Counter[Confusion]], number: int) -> str:
    """Return three small tables: the most frequent substitutions, deletions and insertions, counts of each run."""
    names = "".join(f'<th scope="col" class="r{place}">{escape(run.name)}</th>' for place, run in enumerate(runs))
    found = []
    for kind in metrics.KINDS:
        rows = [
            f'<tr><td class="pair">{_pair(confusion)}</td>{"".join(f"<td>{count:,}</td>" for count in counts)}</tr>'
            for confusion, counts in confusions.most_frequent(counters, kind, number)
        ]
        if rows:
            found.append(
                f'<table class="confused"><caption>{kind}</caption><thead><tr><td></td>{names}</tr></thead>'
                f"<tbody>{''.join(rows)}</tbody></table>"
            )
    if not found:
        return ""
    return f'<div class="confusions"><h4>{escape(title)}</h4><div>{"".join(found)}</div></div>'


def _pair(confusion: Confusion) -> str:
    return " → ".join(f"<bdi{_title(text)}>{escape(utterances.visible(text))}</bdi>" for text in confusion)


def _title(text: str) -> str:
    """Return an attribute with the code point and name of a letter: they tell letters apart that look alike."""
    return f' title="U+{ord(text):04X} {escape(unicodedata.name(text, ""))}"' if len(text) == 1 else ""


def find_text(lang: str, names: Mapping[str, str]) -> str:
    """Return what the filter box looks through."""
    return escape(f"{lang} {names[lang]}".lower())


def _range(row: Mapping[str, Any], metric: str) -> str:
    return f"[{row[f'{metric}_low']:.2f}, {row[f'{metric}_high']:.2f}]"


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if f"{value:.2f}" not in ("0.00", "-0.00") else "0.00"
