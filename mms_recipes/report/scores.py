"""The report of an evaluation: scores per language, every hypothesis, and the worst utterances to read."""

import contextlib
import dataclasses
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mms_recipes import alignment, files, languages, metrics
from mms_recipes.lid import calibration
from mms_recipes.metrics import MACRO, ErrorCounts
from mms_recipes.report import beside
from mms_recipes.report.reading import read_scores

BOOTSTRAP_SEED, BOOTSTRAP_RESAMPLES = 1, 1000
WORST_UTTERANCES = 20  # per language
WORDS = "words.tsv"
SCORE, CONFIDENCE = "score", "confidence"
BAD_CER = 30.0  # percent: above it an utterance is of little use
COMPARABLE_SETTINGS = ("split", "count_space", "normalization", "protocol")  # runs in one table must agree on them

Rates = npt.NDArray[np.float64]  # of resampled corpora, percent


@dataclass(frozen=True)
class UtteranceScore:
    """One utterance as it was recognised. `reference` and `hypothesis` are words, `seconds` its duration.

    `word_times` holds (word, start, end, score, confidence) in seconds, None where words were not timed. A score is
    what the model says of itself, 0 to 1; a confidence is the share that is probably right, None without a calibration.
    `respelt`: the hypothesis was in another Unicode form than it is here, the reference's.
    """

    uid: str
    lang: str
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts
    seconds: float
    score: float | None = None
    confidence: float | None = None
    word_times: Sequence[tuple[str, float, float, float, float | None]] | None = None
    respelt: bool = False


def headline_metric(lang: str) -> str:
    """Return which rate of a language counts, wer or cer, where no benchmark says otherwise."""
    return "cer" if languages.is_character_scored(lang) else "wer"


def write_report(
    folder: Path,
    scores: Sequence[UtteranceScore],
    expected: Mapping[str, int],
    settings: Mapping[str, Any],
    headline: Callable[[str], str] = headline_metric,
    benchmark: beside.Benchmark | None = None,
) -> None:
    """Write scores.tsv, scores.json, hypotheses.tsv and worst_utterances.txt into `folder`.

    Where words were timed, words.tsv holds them and hypotheses.tsv has a column more, the score, and both
    one for the confidence where a calibration was fitted.
    `expected` is the number of utterances of each language's manifest. When other numbers were scored, or one twice,
    it raises ValueError and writes nothing. `headline` says which rate of a language counts; `benchmark` is kept as it
    is, see report/beside.py.
    """
    _check_counts(scores, expected)
    by_lang: dict[str, list[UtteranceScore]] = {lang: [] for lang in sorted(expected)}
    for score in scores:
        by_lang[score.lang].append(score)
    rows = _score_rows(by_lang, headline)
    document = {"settings": dict(settings), "languages": {row["lang"]: row for row in rows[:-1]}, MACRO: rows[-1]}
    if sure := _confidence(scores):
        document[CONFIDENCE] = sure
    if benchmark:
        document["benchmark"] = dict(benchmark)
    timed = any(score.word_times is not None for score in scores)
    ordered = sorted(scores, key=lambda s: (s.lang, s.uid))
    worst = [line for lang, listed in by_lang.items() for line in _worst_lines(lang, listed, headline(lang) == "cer")]
    header = list(rows[0])
    table = ["\t".join(header), *("\t".join(cell(row.get(key)) for key in header) for row in rows)]
    contents = {
        "hypotheses.tsv": "".join(f"{line}\n" for line in _hypothesis_lines(ordered, timed)),
        "worst_utterances.txt": "\n".join(worst) + "\n",
        "scores.tsv": "\n".join(table) + "\n",
        "scores.json": json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    if timed:
        contents = {WORDS: "".join(f"{line}\n" for line in _word_lines(ordered))} | contents
    else:
        (folder / WORDS).unlink(missing_ok=True)  # of an earlier evaluation
    _write_together(folder, contents)


def _hypothesis_lines(scores: Sequence[UtteranceScore], timed: bool) -> Iterator[str]:
    header = ["uid", "lang", "reference", "hypothesis", "word_errors", "character_errors"]
    sure = _columns(scores) if timed else []
    yield "\t".join([*header, *sure])
    for score in scores:
        cells = [score.uid, score.lang, " ".join(score.reference.split()), " ".join(score.hypothesis.split())]
        cells += [str(score.words.errors), str(score.characters.errors)]
        yield "\t".join([*cells, *(cell(getattr(score, name)) for name in sure)])


def _word_lines(scores: Sequence[UtteranceScore]) -> Iterator[str]:
    sure = _columns(scores)
    yield "\t".join(["uid", "lang", "word", "start", "end", *sure])
    for one in scores:
        for word, start, end, *numbers in one.word_times or ():
            cells = [cell(number) for number in numbers[: len(sure)]]
            yield "\t".join([one.uid, one.lang, word, f"{start:.3f}", f"{end:.3f}", *cells])


def _columns(scores: Sequence[UtteranceScore]) -> list[str]:
    """The columns that say how sure the model is."""
    return [SCORE, CONFIDENCE] if any(score.confidence is not None for score in scores) else [SCORE]


def _confidence(scores: Sequence[UtteranceScore]) -> dict[str, Any] | None:
    """Return how well confidences tell right from wrong; None where there are none.

    `ranking` is how often an utterance with more than `bad_cer` % of its letters wrong has less confidence than one
    with fewer (area under the ROC curve, 0.5 to 1); `error` is how far confidence and share of right letters are apart
    (expected calibration error, percent), and `bins` are what it is the mean of.
    """
    known = [score for score in scores if score.confidence is not None]
    if not known:
        return None
    sure_N = np.array([score.confidence for score in known])
    right_N = np.array([_share_right(score) for score in known])
    bad_N = np.array([score.characters.errors > BAD_CER / 100 * score.characters.reference_length for score in known])
    bins = calibration.bins(sure_N, right_N)
    ranked = metrics.ranking(sure_N, bad_N)
    described: dict[str, Any] = {"utterances": len(known), "bad_cer": BAD_CER, "bad": int(bad_N.sum())}
    described |= {"ranking": None if ranked is None else round(ranked, 4)}
    described |= {"error": round(100 * calibration.calibration_error(bins), 4)}
    return described | {"bins": [dataclasses.asdict(one) for one in bins]}


def _share_right(score: UtteranceScore) -> float:
    longest = max(score.characters.reference_length, len("".join(score.hypothesis.split())), 1)
    return 1 - min(score.characters.errors / longest, 1.0)


def _check_counts(scores: Sequence[UtteranceScore], expected: Mapping[str, int]) -> None:
    """Raise ValueError with every language whose scores are not exactly the utterances of its manifest."""
    if not expected:
        raise ValueError("no language to score; expected at least one manifest")
    scored = Counter(score.lang for score in scores)
    problems = [
        f"{lang}: scored {scored[lang]:,} utterances, expected {expected.get(lang, 0):,} as in its manifest"
        for lang in sorted(expected.keys() | scored.keys())
        if scored[lang] != expected.get(lang, 0)
    ]
    times = Counter((score.lang, score.uid) for score in scores)
    problems += [
        f"{lang}: utterance {uid!r} was scored {count} times" for (lang, uid), count in times.items() if count > 1
    ]
    lengths: dict[str, int] = defaultdict(int)
    for score in scores:
        lengths[score.lang] += min(score.words.reference_length, score.characters.reference_length)
    problems += [
        f"{lang}: no reference has a word; its error rate is not defined" for lang in expected if not lengths[lang]
    ]
    if problems:
        raise ValueError("no report is written:\n  " + "\n  ".join(problems))


def _score_rows(
    by_lang: Mapping[str, Sequence[UtteranceScore]], headline: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Return one row per language, then the macro row: the unweighted mean of the rates, with its own intervals."""
    rows: list[dict[str, Any]] = []
    resampled: dict[str, list[Rates]] = {"headline": [], "wer": [], "cer": []}
    for lang, listed in by_lang.items():
        row, rates = _language_row(lang, listed, headline(lang))
        rows.append(row)
        for metric in resampled:
            resampled[metric].append(rates[metric])
    macro_row: dict[str, Any] = {"lang": MACRO, "utterances": sum(row["utterances"] for row in rows)}
    macro_row["hours"] = sum(row["hours"] for row in rows)
    for metric, of_languages in resampled.items():
        mean = metrics.macro(row[metric] for row in rows)
        macro_row |= _rate_cells(metric, mean, np.mean(of_languages, axis=0))
    return [*rows, macro_row]


def _language_row(
    lang: str, scores: Sequence[UtteranceScore], headline: str
) -> tuple[dict[str, Any], dict[str, Rates]]:
    """Return the row of one language, and the resampled rates behind its intervals by metric."""
    row: dict[str, Any] = {
        "lang": lang,
        "utterances": len(scores),
        "hours": sum(score.seconds for score in scores) / 3600,
        "headline_metric": headline,
    }
    totals: dict[str, ErrorCounts] = {}
    resampled: dict[str, Rates] = {}
    for metric, counts in (("wer", [s.words for s in scores]), ("cer", [s.characters for s in scores])):
        totals[metric] = sum(counts, ErrorCounts())
        resampled[metric] = metrics.bootstrap_rates(
            [c.errors for c in counts],
            [c.reference_length for c in counts],
            # By language, so that its interval stays the same whatever other languages are in the report.
            seed=[BOOTSTRAP_SEED, zlib.crc32(lang.encode())],
            num_resamples=BOOTSTRAP_RESAMPLES,
        )
    totals["headline"], resampled["headline"] = totals[headline], resampled[headline]
    for metric in ("headline", "wer", "cer"):
        row |= _rate_cells(metric, totals[metric].rate, resampled[metric])
    for unit, metric in (("word", "wer"), ("character", "cer")):
        row[f"reference_{unit}s"] = totals[metric].reference_length
        row |= {f"{unit}_{kind}": getattr(totals[metric], kind) for kind in metrics.KINDS}
    return row, resampled


def _rate_cells(name: str, rate: float, resampled: Rates) -> dict[str, float]:
    low, high = metrics.percentile_interval(resampled)
    return {name: rate, f"{name}_low": low, f"{name}_high": high}


def cell(value: Any) -> str:
    """Return a cell of the .tsv files: nothing for None, numbers that are no counts with four digits."""
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _worst_lines(lang: str, scores: Sequence[UtteranceScore], by_characters: bool) -> list[str]:
    """Lay out the utterances with the most errors, aligned by the units of the language's headline metric."""

    def badness(score: UtteranceScore) -> tuple[int, float, str]:
        counts = score.characters if by_characters else score.words
        return (-counts.errors, -counts.rate, score.uid)

    wrong = [score for score in scores if badness(score)[0] < 0]
    shown = sorted(wrong, key=badness)[:WORST_UTTERANCES]
    unit = "characters" if by_characters else "words"
    lines = [f"== {lang}: {len(wrong)} of {len(scores)} utterances have errors in {unit}; the worst {len(shown)} =="]
    for score in shown:
        counts = score.characters if by_characters else score.words
        texts = [score.reference, score.hypothesis]
        reference, hypothesis = (list("".join(t.split())) if by_characters else t.split() for t in texts)
        lines += ["", f"{score.uid}: {counts.errors} errors in {counts.reference_length} {unit}"]
        lines += alignment.aligned_lines(metrics.align(reference, hypothesis))
    return [*lines, ""]


def _write_together(folder: Path, contents: dict[str, str]) -> None:
    """Write all files, then put them in place in order: a reader never meets half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:  # the last that it is given comes first
        for name, text in reversed(contents.items()):
            stack.enter_context(files.replaced(folder / name)).write_text(text, encoding="utf-8")


def comparison_table(runs: Mapping[str, Path]) -> str:
    """Return a text table of runs side by side; `runs` maps a name (dense, LSAH) to its scores.json.

    The paper's numbers stand behind runs of a benchmark. Raises ValueError when the runs did not score the same
    utterances under the same rules.
    """
    documents = {name: read_scores(path) for name, path in runs.items()}
    first, *others = documents
    for other in others:
        check_comparable(first, documents[first], other, documents[other])
    benchmark = beside.common([document.get("benchmark") for document in documents.values()])
    paper = beside.columns(benchmark)
    headers = [f"{metric} {name}" for name in runs for metric in ("WER", "CER")]
    lines = [["language", "utterances", "hours", *headers, *(f"paper: {column.system}" for column in paper)]]
    for lang in [*documents[first]["languages"], MACRO]:
        rows = [document["languages"].get(lang, document[MACRO]) for document in documents.values()]
        rates = [f"{row[metric]:.2f}" for row in rows for metric in ("wer", "cer")]
        known = [f"{column.rates[lang]:.1f}" if lang in column.rates else "" for column in paper]
        lines.append([lang, f"{rows[0]['utterances']:,}", f"{rows[0]['hours']:.2f}", *rates, *known])
    lines[-1][0] = beside.macro_label(benchmark)
    means = {name: document[MACRO]["headline"] for name, document in documents.items()}
    return "\n".join([alignment.text_table(lines, feet=1), *beside.lines(benchmark, means)])


def check_comparable(first: str, one: Mapping[str, Any], second: str, other: Mapping[str, Any]) -> None:
    """Raise ValueError when two runs differ in what they scored or in the rules that count."""
    problems = []
    for lang in sorted(one["languages"].keys() | other["languages"].keys()):
        counts = [document["languages"].get(lang, {}).get("utterances", 0) for document in (one, other)]
        if counts[0] != counts[1]:
            problems.append(f"{lang}: {first} scored {counts[0]:,} utterances, {second} {counts[1]:,}")
    for key in COMPARABLE_SETTINGS:
        values = [document["settings"].get(key) for document in (one, other)]
        if values[0] != values[1]:
            problems.append(f"{key}: {first} has {values[0]}, {second} {values[1]}")
    if problems:
        raise ValueError(f"{first} and {second} cannot be compared:\n  " + "\n  ".join(problems))
