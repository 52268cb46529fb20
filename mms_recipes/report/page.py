"""The report as a person looks at it: evaluations side by side in one HTML file that asks nobody for anything."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from mms_recipes import __version__, files, languages
from mms_recipes.report import (
    beside,
    charts,
    confusions,
    differences,
    document,
    players,
    reliability,
    tables,
    utterances,
)
from mms_recipes.report.confusions import Confusion
from mms_recipes.report.runs import Key, Run, Word, read_words

FEW_UTTERANCES = 1000  # up to as many are all shown
WORST, WORST_OF_ALL = 20, 3000  # shown otherwise: of each language, and of all languages together
MANY_LANGUAGES = 100
CONFUSIONS, CONFUSIONS_OF_MANY = 10, 5  # the most frequent of each kind that are shown for a language
EMBEDDED = 100  # utterances in shards whose audio is put into the page
_COUNTERS = {"letters": "Letters", "words": "Words"}


@dataclass(frozen=True)
class Options:
    """What to show. `worst` utterances of each language (None: all when few); audio of the manifests in `data`."""

    worst: int | None = None
    data: Path | None = None
    embed: int | None = None  # audio of as many utterances goes into the page; None: only of those in shards


def write_page(out: Path, runs: Sequence[Run], options: Options) -> int:
    """Write the page of these runs to `out` and return the number of utterances on it that can be heard."""
    langs = sorted(runs[0].languages, key=lambda lang: (-runs[0].languages[lang]["headline"], lang))
    shown = _shown(runs, langs, options.worst)
    audio: Mapping[Key, str] = {}
    uids = {lang: [runs[0].hypotheses[lang][place].uid for place in places] for lang, places in shown.items()}
    timed = [read_words(run, uids) for run in runs]
    if options.data is not None:
        paths = players.find_audio(options.data, str(runs[0].settings["split"]), uids)
        embed = EMBEDDED if options.embed is None else options.embed
        audio = players.sources(paths, out, embed, embed_files=options.embed is not None)
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(out, _document(runs, langs, shown, audio, timed))
    return len(audio)


def _shown(runs: Sequence[Run], langs: Sequence[str], worst: int | None) -> dict[str, list[int]]:
    """Choose the utterances of each language, by their places in its hypotheses."""
    every = sum(row["utterances"] for row in runs[0].languages.values())
    if worst is None and every > FEW_UTTERANCES:
        worst = max(1, min(WORST, WORST_OF_ALL // len(langs)))
    return {lang: utterances.chosen(runs, lang, worst) for lang in langs}


def _document(
    runs: Sequence[Run],
    langs: Sequence[str],
    shown: Mapping[str, Sequence[int]],
    audio: Mapping[Key, str],
    timed: Sequence[Mapping[Key, Sequence[Word]]],
) -> str:
    names = {lang: languages.name(lang) for lang in langs}
    title = f"{', '.join(run.name for run in runs)}: error rates"
    apart = [differences.between(runs[0], run) for run in runs[1:]]
    counters = {lang: count_confusions(runs, lang) for lang in langs}
    return document.document(
        title,
        [
            _head(runs, title),
            _benchmark(runs[0].benchmark),
            tables.summary(runs, apart),
            _overview(runs, langs, names),
            "<h2 id='by-language'>By language</h2>",
            _explained(runs),
            tables.scores(runs, langs, names, apart),
            _confidence(runs),
            "<h2>Most frequent confusions, all languages</h2>",
            *(
                tables.most_confused(heading, runs, _total(runs, counters, unit), CONFUSIONS)
                for unit, heading in _COUNTERS.items()
            ),
            "<h2>Languages and their utterances</h2>",
            f"{_LEGEND}{_SURE if any(timed) else ''}</p>",
            *(_language(runs, lang, names, counters[lang], shown[lang], audio, timed) for lang in langs),
        ],
        "media-src 'self' file: data:",
    )


def _head(runs: Sequence[Run], title: str) -> str:
    """Return the title, what was scored when and by what, all settings, and the filter box."""
    first = runs[0]
    utterance_count, hours = first.macro["utterances"], first.macro["hours"]
    facts = {
        "split": first.settings.get("split", "unknown"),
        "utterances": f"{utterance_count:,} ({hours:.2f} h) of {len(first.languages):,} languages",
        "normalization": first.settings.get("normalization", "unknown"),
        "spaces between words": "counted in CER" if first.space else "not counted in CER",
        "scored": ", ".join(dict.fromkeys(f"{run.scored:%Y-%m-%d}" for run in runs)),
        "by mms_recipes": ", ".join(dict.fromkeys(str(run.settings.get("mms_recipes", "unknown")) for run in runs)),
        "page": f"{datetime.now():%Y-%m-%d %H:%M} by mms_recipes {__version__}",
    }
    return document.head(title, facts, tables.settings(runs))


def _benchmark(benchmark: beside.Benchmark | None) -> str:
    """Say by which rules a benchmark was scored and what keeps it from being compared with the paper."""
    if benchmark is None:
        return ""
    differs = "differ" if benchmark["differs"] else "alike"
    said = f"{benchmark['title']} {benchmark['split']}: {benchmark['rule']}. Texts: {benchmark['text']}."
    rules = f"<p>{escape(said)}</p>"
    return f'<section class="benchmark {differs}"><h2>Benchmark</h2>{rules}{document.verdict(benchmark)}</section>'


def _confidence(runs: Sequence[Run]) -> str:
    """Draw how much of what is so sure is right, of the runs whose model has a calibration."""
    drawn = ""
    for run in runs:
        if (sure := run.confidence) is None:
            continue
        said = f"Expected calibration error {sure['error']:.2f} %"
        if sure["ranking"] is not None:
            said += (
                f"; of {sure['bad']:,} utterances with a CER above {sure['bad_cer']:g} % and the others, the better "
                f"one has more confidence in {100 * sure['ranking']:.1f} % of the pairs (50 % by chance)"
            )
        drawing = reliability.svg({run.name: sure["bins"]}, sure["utterances"], "confidence")
        heading = f"<h4>{escape(run.name)}</h4>" if len(runs) > 1 else ""
        drawn += f"<figure>{heading}<p>{said}.</p>{drawing}</figure>"
    if not drawn:
        return ""
    return (
        "<h2 id='confidence'>Confidence</h2><p>Across: the confidence of utterances; upward: the share of their "
        "letters that is right; the line: as sure as right; a larger dot stands for more utterances.</p>"
        f'<div class="figures">{drawn}</div>'
    )


def _order(runs: Sequence[Run]) -> str:
    """Return what the utterances of a language can be ordered by; page.js does it."""
    choices = "".join(
        f'<option value="{number}">least sure first: {escape(run.name)}</option>'
        for number, run in enumerate(runs, start=1)
    )
    return f'<select class="order" aria-label="order"><option value="0">worst first</option>{choices}</select>'


def _overview(runs: Sequence[Run], langs: Sequence[str], names: Mapping[str, str]) -> str:
    key = "".join(f'<span class="r{number}">{escape(run.name)}</span>' for number, run in enumerate(runs))
    if beside.columns(runs[0].benchmark):
        key += '<span class="paper">paper</span>'
    order = "" if len(langs) == 1 else f", worst of {escape(runs[0].name)} first"
    caption = f"Headline error rate of each language with its 95 % interval{order}"
    return f'<h2 id="overview">{caption}</h2><p class="key">{key}</p>{charts.overview(runs, langs, names)}'


def _explained(runs: Sequence[Run]) -> str:
    rule = escape(runs[0].benchmark["rule"]) if runs[0].benchmark else "CER in scripts without spaces, WER elsewhere"
    said = (
        "Rates are in percent, with 95 % bootstrap intervals over the utterances. The headline rate of a language is "
        f'<b class="headline">marked</b>: {rule}. A header sorts by its '
        "column, the name of a run by the headline rate."
    )
    if len(runs) > 1:
        said += (
            " Differences pair the runs utterance by utterance: "
            '<b class="better">better</b> and <b class="worse">worse</b> where the interval leaves 0 out.'
        )
    return f"<p>{said}</p>"


_LEGEND = (
    '<p class="legend al"><i>right</i> <i class="s">w<u>ro</u>ng</i> (the letters that differ underlined) '
    '<i class="d">∅</i> left out <i class="n">added</i> that was not said'
)
_SURE = (
    ' <i class="c2">unsure</i> below 0.8 <i class="c1">doubtful</i> below 0.5: the probability that a word is right '
    "where a calibration was fitted, else the model's own score (point at a word to see it and its time)"
)


def _language(
    runs: Sequence[Run],
    lang: str,
    names: Mapping[str, str],
    counters: Mapping[str, Sequence[Counter[Confusion]]],
    places: Sequence[int],
    audio: Mapping[Key, str],
    timed: Sequence[Mapping[Key, Sequence[Word]]],
) -> str:
    """Return the section of one language: kinds of errors, confusions, utterances."""
    row = runs[0].languages[lang]
    metric = escape(row["headline_metric"].upper())
    rates = ", ".join(f"{escape(run.name)} {run.languages[lang]['headline']:.2f}" for run in runs)
    num_langs = len(runs[0].languages)
    number = CONFUSIONS_OF_MANY if num_langs > MANY_LANGUAGES else CONFUSIONS
    which = "all" if len(places) == row["utterances"] else f"{len(places):,} with the most errors of"
    listed = "".join(utterances.html(runs, lang, place, audio, timed) for place in places)
    confused = "".join(tables.most_confused(title, runs, counters[unit], number) for unit, title in _COUNTERS.items())
    if confused:
        confused = f"<details><summary>Most frequent confusions</summary>{confused}</details>"
    inside = (
        f'<div class="scroll">{tables.kinds(runs, lang)}</div>{confused}'
        f"<h4>Utterances: {which} {row['utterances']:,}, {_order(runs) if any(timed) else 'worst first'}</h4>{listed}"
    )
    if num_langs > MANY_LANGUAGES:
        inside = f"<template>{inside}</template>"  # page.js unpacks it; a million elements make every change slow
    return (
        f'<details class="lang" id="lang-{escape(lang)}" data-find="{tables.find_text(lang, names)}"><summary>'
        f"<b>{escape(names[lang])}</b> <code>{escape(lang)}</code> <span>{metric} {rates}</span></summary>"
        f"{inside}</details>"
    )


def count_confusions(runs: Sequence[Run], lang: str) -> dict[str, list[Counter[Confusion]]]:
    """Count the confusions of a language, by letters and where there are words by words, in each run."""
    counted: dict[str, list[Counter[Confusion]]] = {unit: [] for unit in _COUNTERS}
    has_words = not languages.is_character_scored(lang)  # else a phrase is one word
    for run in runs:
        words = [(score.reference.split(), score.hypothesis.split()) for score in run.hypotheses[lang]]
        letters = [(run.space.join(reference), run.space.join(hypothesis)) for reference, hypothesis in words]
        counted["letters"].append(confusions.count_confusions(letters))
        counted["words"].append(confusions.count_confusions(words if has_words else ()))
    return counted


def _total(
    runs: Sequence[Run], counters: Mapping[str, Mapping[str, Sequence[Counter[Confusion]]]], unit: str
) -> list[Counter[Confusion]]:
    """Add the confusions of all languages up, for each run."""
    totals: list[Counter[Confusion]] = [Counter() for _ in runs]
    for of_lang in counters.values():
        for total, counter in zip(totals, of_lang[unit], strict=True):
            total.update(counter)
    return totals
