"""Language identification as a person looks at it: evaluations side by side in one HTML file like the other reports."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from mms_recipes import __version__, files, languages
from mms_recipes.lid.scores import MICRO
from mms_recipes.metrics import MACRO
from mms_recipes.report import beside, charts, differences, document, lid_answers, lid_tables, reliability, tables
from mms_recipes.report.lid_runs import LidRun

PICTURE = "confusion.png"  # in the folder of a run


def write_page(out: Path, runs: Sequence[LidRun]) -> None:
    """Write the page of these runs to `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(out, page(runs))


def page(runs: Sequence[LidRun]) -> str:
    """Return the page of one run, or of several over the same utterances, the first being what others are compared
    with."""
    rows = runs[0].document["languages"]
    langs = sorted(rows, key=lambda lang: (rows[lang]["top1"], lang))
    names = {lang: languages.name(lang) for lang in langs}
    title = f"{', '.join(run.name for run in runs)}: language identification"
    apart = [differences.between_accuracies(runs[0].answers, run.answers) for run in runs[1:]]
    wrong = lid_answers.wrong(runs)
    parts = [
        _head(runs, title),
        _benchmark(runs),
        _summary(runs, apart),
        _overview(runs, langs, names),
        f"<h2 id='by-language'>By language</h2>{_explained(runs)}{lid_tables.scores(runs, langs, names, apart)}",
        _corpora(runs, apart),
        _lengths(runs),
        _calibration(runs),
        _confusions(runs, names),
        "<h2>Languages and what was answered wrongly</h2>",
        f"<p>The surest wrong answers first; ✓ marks the right language.</p>{_key(runs)}",
        *(lid_answers.section(runs, lang, names, wrong.get(lang, ())) for lang in langs),
    ]
    return document.document(title, parts, "img-src data:")


def _head(runs: Sequence[LidRun], title: str) -> str:
    """Return the title, what was scored, all settings, and the filter box."""
    first = runs[0]
    macro, settings = first.document[MACRO], [run.settings for run in runs]
    facts = {
        "split": first.settings["split"],
        "corpora": ", ".join(first.corpora),
        "utterances": f"{macro['utterances']:,} ({macro['hours']:.2f} h)",
        "languages": f"{len(first.document['languages']):,}",
        "classes to choose from": _each(f"{one['classes']:,} of {one['classes_of_the_model']:,}" for one in settings),
        "model": _each(one["checkpoint"] for one in settings),
        "scored": _each(f"{run.scored:%Y-%m-%d}" for run in runs),
        "page": f"{datetime.now():%Y-%m-%d %H:%M} by mms_recipes {__version__}",
    }
    return document.head(title, facts, tables.settings([run.wrong_answers() for run in runs]))


def _each(values: Any) -> str:
    return ", ".join(dict.fromkeys(values))


def _key(runs: Sequence[LidRun]) -> str:
    if len(runs) == 1:
        return ""
    named = "".join(f'<span class="r{number}">{escape(run.name)}</span>' for number, run in enumerate(runs))
    return f'<p class="key">{named}</p>'


def _benchmark(runs: Sequence[LidRun]) -> str:
    """Put the paper's numbers beside ours, and say what keeps them from being compared."""
    every = [run.document.get("benchmark") for run in runs]
    benchmark = beside.common(every)
    if benchmark is None:
        return ""
    alike = {row["system"] for one in every if one for row in one["paper"] if row["alike"]}
    css, marked = ("differ" if benchmark["differs"] else "alike"), ' class="marked"'
    listed = "".join(
        f"<tr{marked * (row['system'] in alike)}><td>{row['accuracy']:.1f} %</td>"
        f'<th scope="row">{escape(row["system"])}</th></tr>'
        for row in benchmark["paper"]
    )
    return (
        f'<section class="benchmark {css}"><h2>{escape(benchmark["title"])}: accuracy in the paper</h2>'
        f"<table>{listed}</table>{document.verdict(benchmark)}</section>"
    )


def _summary(runs: Sequence[LidRun], apart: lid_tables.Differences) -> str:
    """Return what counts most: a box for each run."""
    boxes = ""
    for number, run in enumerate(runs):
        sure, macro = run.document["calibration"], run.document[MACRO]
        fitted = sure["temperature"]
        shown = {f"{key.title()} accuracy": _rate(run.document[key]) for key in (MACRO, MICRO)}
        shown |= {f"Macro top-{depth}": f"{macro[f'top{depth}']:.2f} %" for depth in (3, 5)}
        shown["Calibration error"] = f"{sure['calibrated_error' if fitted else 'raw_error']:.2f} %" + (
            f"<small>{sure['raw_error']:.2f} % without temperature {fitted['temperature']:.3f}</small>"
            if fitted
            else ""
        )
        rates = "".join(f"<div><dt>{title}</dt><dd>{value}</dd></div>" for title, value in shown.items())
        if number:
            gap = apart[number - 1][MACRO]
            rates += (
                f'</dl><p class="{gap.verdict}">macro {tables.signed(gap.value)} against {escape(runs[0].name)} '
                f"<small>[{tables.signed(gap.low)}, {tables.signed(gap.high)}]</small></p><dl>"
            )
        boxes += f'<section class="box r{number}"><h2>{escape(run.name)}</h2><dl>{rates}</dl></section>'
    return f'<div class="boxes">{boxes}</div>'


def _rate(row: lid_tables.Row) -> str:
    return f"{row['top1']:.2f} %<small>[{row['top1_low']:.2f}, {row['top1_high']:.2f}]</small>"


def _overview(runs: Sequence[LidRun], langs: Sequence[str], names: Mapping[str, str]) -> str:
    """Draw the share of wrong answers of each language."""
    drawn = charts.overview([run.wrong_answers() for run in runs], langs, names)
    order = f"worst of {escape(runs[0].name)} first" if len(runs) > 1 else "worst first"
    title = f"<h2 id='overview'>Wrong answers of each language with 95 % interval, {order}</h2>"
    return f"{title}{_key(runs)}{drawn}"


def _explained(runs: Sequence[LidRun]) -> str:
    deep = "" if len(runs) > 1 else ", among the first three, among the first five"
    said = (
        f"Accuracy in percent: the right language is the first answer{deep}. Intervals are 95 % bootstrap intervals "
        "over the utterances; where no answer is wrong they have no width, which does not mean that none would be. A "
        "header sorts by its column."
    )
    if len(runs) > 1:
        said += (
            " Differences pair the runs utterance by utterance: "
            '<b class="better">better</b> and <b class="worse">worse</b> where the interval leaves 0 out.'
        )
        if len({run.settings["classes"] for run in runs}) > 1:
            said += " The runs chose among different numbers of classes: among fewer it is easier to be right."
    return f"<p>{said}</p>"


def _corpora(runs: Sequence[LidRun], apart: lid_tables.Differences) -> str:
    """Return the scores by corpus, where there are several."""
    if not runs[0].corpora:
        return ""
    by_corpus: dict[str, lid_tables.Differences] = {"": apart}
    for name in runs[0].corpora:
        answers = [[answer for answer in run.answers if answer.corpus == name] for run in runs]
        by_corpus[name] = [differences.between_accuracies(answers[0], other) for other in answers[1:]]
    return (
        "<h2>By corpus</h2><p>The mean over languages is of those that a corpus has. One temperature serves all "
        f"corpora.</p>{lid_tables.corpora(runs, by_corpus)}"
    )


def _lengths(runs: Sequence[LidRun]) -> str:
    if not any(run.document["lengths"] for run in runs):
        return ""
    return (
        "<h2>By length</h2><p>The middle of every utterance that is as long, and beside it the same utterances whole: "
        "the lines are of different utterances, which only the columns of whole utterances allow for.</p>"
        f"{lid_tables.lengths(runs)}"
    )


def _calibration(runs: Sequence[LidRun]) -> str:
    """Draw how often answers of some confidence are right, before and after the temperature, of each run."""
    drawn = ""
    for run in runs:
        sure, total = run.document["calibration"], run.document[MICRO]["utterances"]
        fitted = sure["temperature"]
        curves = {"raw": "without temperature"} | ({"calibrated": "with it"} if fitted else {})
        key = "".join(f'<span class="r{place}">{title}</span>' for place, title in enumerate(curves.values()))
        said = f"Expected calibration error (15 bins) {sure['raw_error']:.2f} %"
        if fitted:
            said += (
                f", {sure['calibrated_error']:.2f} % with temperature {fitted['temperature']:.3f}, fitted on "
                f"{fitted['utterances']:,} utterances of {escape(fitted['split'])}"
            )
        drawing = reliability.svg({title: sure[f"{name}_bins"] for name, title in curves.items()}, total, "calibration")
        heading = f"<h4>{escape(run.name)}</h4>" if len(runs) > 1 else ""
        drawn += f'<figure>{heading}<p>{said}.</p><p class="key">{key}</p>{drawing}</figure>'
    return (
        "<h2 id='calibration'>Calibration</h2><p>Across: how sure the model is; upward: the share that is right; the "
        f'line: as sure as right; a larger dot stands for more answers.</p><div class="figures">{drawn}</div>'
    )


def _confusions(runs: Sequence[LidRun], names: Mapping[str, str]) -> str:
    """Return the most frequent wrong answers, and the matrix of each run as a picture."""
    listed, number = lid_tables.confusions(runs, names)
    shown = f", the first {lid_tables.PAIRS} of {number:,}" if number > lid_tables.PAIRS else ""
    images = ""
    for run in runs:
        heading = f"<h4>{escape(run.name)}</h4>" if len(runs) > 1 else ""
        image = "<p>No picture of the matrix: matplotlib is not installed (extra [plots]).</p>"
        if (path := run.folder / PICTURE).is_file():
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            told = "Confusion matrix: lines are the languages spoken, columns what was answered"
            image = f'<img alt="{told}" src="data:image/png;base64,{data}">'
        images += f"<figure>{heading}{image}</figure>"
    return f'<h2>Confusions{shown}</h2>{listed}<div class="figures pictures">{images}</div>'
