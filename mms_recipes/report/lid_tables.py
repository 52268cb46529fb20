"""The tables of the page of language identification as HTML: by language, by corpus, by length, confusions.

Of several runs each has its columns under its name, fewer than a single one, and then come the differences from the
first.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from mms_recipes import languages
from mms_recipes.lid.scores import MICRO
from mms_recipes.metrics import MACRO
from mms_recipes.report import charts, tables
from mms_recipes.report.differences import Difference
from mms_recipes.report.lid_runs import LidRun

PAIRS, TAKEN_FOR = 30, 3  # confusions of all languages, and of one in its line, that are shown
ANSWERED = "answered"
_MEANS = {MACRO: "mean over languages", MICRO: "over all utterances"}
_PLAIN = ("language", "utterances", "hours")

Row = Mapping[str, Any]
Differences = Sequence[Mapping[str, Difference]]  # of each run but the first, by language, macro and micro


def scores(runs: Sequence[LidRun], langs: Sequence[str], names: Mapping[str, str], apart: Differences) -> str:
    """Return the table that page.js sorts and filters: a line for each language, macro and micro at its foot."""
    scale = charts.full_scale([abs(of_run[lang].value) for of_run in apart for lang in langs])
    body = "".join(
        f'<tr data-lang="{escape(lang)}" data-find="{find_text(runs, lang, names)}"><th scope="row" data-value='
        f'"{escape(lang)}"><a href="#lang-{escape(lang)}">{escape(lang)}</a>'
        f"{_small(escape(names[lang]) if names[lang] != lang else '')}</th>{_cells(runs, lang, apart, scale)}</tr>\n"
        for lang in langs
    )
    feet = "".join(
        f'<tr data-lang="{key}"><th scope="row">{key}{_small(said)}</th>{_cells(runs, key, apart, scale)}</tr>'
        for key, said in _MEANS.items()
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="by-language"><table id="scores">'
        f"{_head(runs)}<tbody>\n{body}</tbody><tfoot>{feet}</tfoot></table></div>"
        '<p><button type="button" id="more" hidden></button></p>'
    )


def find_text(runs: Sequence[LidRun], lang: str, names: Mapping[str, str]) -> str:
    """Return what the filter box looks through."""
    classes = dict.fromkeys(run.document["languages"][lang]["class"] for run in runs)
    return escape(f"{lang} {' '.join(classes)} {names[lang]}".lower())


def _head(runs: Sequence[LidRun]) -> str:
    """Return the headers, buttons that sort; with several runs in two lines, names above."""
    single = len(runs) == 1
    own = ["top-1", *(("top-3", "top-5") if single else ()), *(f"top-1 {escape(name)}" for name in runs[0].corpora)]
    own += ["taken for"] if single else []
    titles = [*_PLAIN, *own * len(runs), *(["top-1"] * (len(runs) - 1))]

    def button(place: int, extra: str = "") -> str:
        order = "ascending" if place == len(_PLAIN) else "none"
        # of accuracies the worst is the lowest
        first = ' data-first="ascending"' if titles[place].startswith("top-") else ' class="names"' * (place > 2)
        return (
            f'<th scope="col" data-column="{place}"{first} aria-sort="{order}"{extra}><button type="button">'
            f"{titles[place]}</button></th>"
        )

    places = range(len(titles))
    if single:
        return f"<thead><tr>{''.join(map(button, places))}</tr></thead>"
    over = "".join(button(place, ' rowspan="2"') for place in places[: len(_PLAIN)])
    over += "".join(
        f'<th scope="colgroup" colspan="{len(own)}" class="group r{number}">{escape(run.name)}</th>'
        for number, run in enumerate(runs)
    )
    over += "".join(
        f'<th scope="colgroup" class="group">{escape(run.name)} − {escape(runs[0].name)}</th>' for run in runs[1:]
    )
    return f"<thead><tr>{over}</tr><tr>{''.join(map(button, places[len(_PLAIN) :]))}</tr></thead>"


def _cells(runs: Sequence[LidRun], key: str, apart: Differences, scale: float) -> str:
    """Return the cells of a language, macro or micro behind its name."""
    first = _row(runs[0].document, key)
    assert first is not None
    cells = [_number(first["utterances"], f"{first['utterances']:,}"), _number(first["hours"])]
    for run in runs:
        row = _row(run.document, key)
        assert row is not None
        picture = charts.interval(row["top1"], row["top1_low"], row["top1_high"], 100)
        cells.append(_number(row["top1"], f"{row['top1']:.2f}{_small(_range(row))}{picture}"))
        cells += [_number(row["top3"]), _number(row["top5"])] if len(runs) == 1 else []
        for scored in run.corpora.values():
            of_corpus = _row(scored, key)
            cells.append(
                _number(of_corpus["top1"], f"{of_corpus['top1']:.2f}{_small(_range(of_corpus))}")
                if of_corpus
                else '<td data-value=""></td>'
            )
        cells += [_taken_for(run, row)] if len(runs) == 1 else []
    cells += [_difference(of_run[key], scale) for of_run in apart]
    return "".join(cells)


def _row(scored: Row, key: str) -> Row | None:
    row: Row | None = scored["languages"].get(key, scored.get(key))
    return row


def _number(value: float, shown: str | None = None) -> str:
    return f'<td data-value="{value:.6f}">{f"{value:.2f}" if shown is None else shown}</td>'


def _small(text: str) -> str:
    return f"<small>{text}</small>" if text else ""


def _range(row: Row) -> str:
    return f"[{row['top1_low']:.2f}, {row['top1_high']:.2f}]"


def _difference(number: Difference, scale: float | None = None) -> str:
    picture = charts.difference(number.value, number.low, number.high, scale) if scale else ""
    return (
        f'<td class="{number.verdict}" data-value="{number.value:.6f}">{tables.signed(number.value)}'
        f"{_small(f'[{tables.signed(number.low)}, {tables.signed(number.high)}]')}{picture}</td>"
    )


def _taken_for(run: LidRun, row: Row) -> str:
    """Return what a language is most often taken for; it is sorted by the number of wrong answers."""
    if row["lang"] in _MEANS:
        return "<td></td>"
    wrong = [(name, count) for name, count in run.document["answers"][row["lang"]].items() if name != row["class"]]
    listed = ", ".join(f"{escape(name)} {count}" for name, count in wrong[:TAKEN_FOR])
    listed += "" if row["known"] else " (not a class of this model)"
    return f'<td class="names" data-value="{sum(count for _, count in wrong)}">{listed}</td>'


def _plain(titles: Iterable[str], own: Sequence[str], runs: Sequence[LidRun], body: str, last: Sequence[str]) -> str:
    """Return a table that is not sorted: `titles`, then those of each run, then those of the differences."""
    several = len(runs) > 1
    down, text = (' rowspan="2"' if several else ""), ' class="names"'
    over = "".join(f'<th scope="col"{down}{text * (title == ANSWERED)}>{title}</th>' for title in titles)
    below = "".join(f'<th scope="col">{title}</th>' for _ in runs for title in own)
    if several:
        over += "".join(
            f'<th scope="colgroup" colspan="{len(own)}" class="r{number}">{escape(run.name)}</th>'
            for number, run in enumerate(runs)
        )
        over += "".join(f'<th scope="col"{down}>{title}</th>' for title in last)
        over += "</tr><tr>"
    rows = f"<tr>{over}{below}</tr>"
    return f'<div class="scroll"><table class="runs"><thead>{rows}</thead><tbody>{body}</tbody></table></div>'


def corpora(runs: Sequence[LidRun], apart: Mapping[str, Differences]) -> str:
    """Return the scores of each corpus beside those of all; `apart` are the differences by corpus, "" for all."""
    body = ""
    for name in (*runs[0].corpora, ""):
        scored = [run.corpora[name] if name else run.document for run in runs]
        first = scored[0][MICRO]
        cells = f"<td>{first['utterances']:,}</td><td>{first['hours']:.2f}</td><td>{len(scored[0]['languages']):,}</td>"
        for one in scored:
            cells += "".join(f"<td>{one[key]['top1']:.2f}{_small(_range(one[key]))}</td>" for key in _MEANS)
            cells += f"<td>{one['calibration']['calibrated_error']:.2f}</td>"
        cells += "".join(_difference(of_run[MACRO]) for of_run in apart[name])
        body += f'<tr><th scope="row">{escape(name) or "<b>all</b>"}</th>{cells}</tr>'
    titles = ("corpus", "utterances", "hours", "languages")
    last = [f"{escape(run.name)} − {escape(runs[0].name)}, macro" for run in runs[1:]]
    return _plain(titles, (MACRO, MICRO, "calibration error"), runs, body, last)


def lengths(runs: Sequence[LidRun]) -> str:
    """Return the accuracies on crops beside those on the same utterances whole."""
    keys = ("crop_macro", "crop_micro", "whole_macro", "whole_micro")
    by_run = [{row["seconds"]: row for row in run.document["lengths"]} for run in runs]
    body = ""
    for seconds in sorted(set().union(*by_run)):
        rows = [of_run.get(seconds, {}) for of_run in by_run]
        known = next(row for row in rows if row)
        rates = [row.get(key) for row in rows for key in keys]
        cells = "".join(f"<td>{'' if rate is None else f'{rate:.2f}'}</td>" for rate in rates)
        body += (
            f'<tr><th scope="row">{seconds:g} s</th><td>{known["utterances"]:,}</td><td>{known["languages"]:,}</td>'
            f"{cells}</tr>"
        )
    titles = ("length", "utterances", "languages")
    return _plain(titles, ("crops, macro", "crops, micro", "whole, macro", "whole, micro"), runs, body, ())


def confusions(runs: Sequence[LidRun], names: Mapping[str, str]) -> tuple[str, int]:
    """Return the most frequent wrong answers over all runs, and how many pairs there are."""
    counts = [{(row["lang"], row["answer"]): row for row in run.document["confusions"]} for run in runs]
    total: Counter[tuple[str, str]] = Counter()
    for of_run in counts:
        total.update({pair: row["utterances"] for pair, row in of_run.items()})
    body = ""
    for lang, answer in sorted(total, key=lambda pair: (-total[pair], pair))[:PAIRS]:
        rows = [of_run.get((lang, answer), {"utterances": 0, "percent": 0.0}) for of_run in counts]
        cells = "".join(f"<td>{row['utterances']:,}</td><td>{row['percent']:.1f}</td>" for row in rows)
        body += (
            f'<tr><th scope="row">{escape(names[lang])} <code>{escape(lang)}</code></th>'
            f'<td class="names">{named(answer)}</td>{cells}</tr>'
        )
    shown = _plain(("spoken", ANSWERED), ("utterances", "% of the language"), runs, body, ())
    return (shown if total else "<p>None.</p>"), len(total)


def named(name: str) -> str:
    """Return a class with the name of its language, where it is known."""
    row = languages.table().get(name)
    return f"{escape(row.name)} <code>{escape(name)}</code>" if row else f"<code>{escape(name)}</code>"
