"""The paper's numbers beside ours: columns of a table, and what must be known before they are compared.

A benchmark is the part of scores.json that `benchmarks.document` wrote; an evaluation of no protocol has none (None).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mms_recipes.metrics import MACRO

Benchmark = Mapping[str, Any]


class Column(NamedTuple):
    """A system of the paper and its rates in percent by language, those that are known."""

    system: str
    rates: Mapping[str, float]


def common(benchmarks: Sequence[Benchmark | None]) -> Benchmark | None:
    """Return the benchmark of runs that stand side by side, with what any of them did otherwise than the paper."""
    known = [benchmark for benchmark in benchmarks if benchmark is not None]
    if not known:
        return None
    return {**known[0], "differs": list(dict.fromkeys(one for benchmark in known for one in benchmark["differs"]))}


def columns(benchmark: Benchmark | None) -> list[Column]:
    """Return the systems of which rates of single languages are known; their mean only beside a mean over as many."""
    if benchmark is None:
        return []
    found: dict[str, dict[str, float]] = {}
    for row in benchmark["paper"]:
        found.setdefault(row["system"], {})[row["lang"]] = row["rate"]
    whole = benchmark["scored"] == benchmark["languages"]
    return [
        Column(system, {lang: rate for lang, rate in rates.items() if whole or lang != MACRO})
        for system, rates in found.items()
        if set(rates) != {MACRO}
    ]


def averages(benchmark: Benchmark) -> list[tuple[str, float]]:
    """Return the means over all languages of the benchmark that the paper has, best first."""
    found = [(row["system"], row["rate"]) for row in benchmark["paper"] if row["lang"] == MACRO]
    return sorted(found, key=lambda pair: pair[1])


def macro_label(benchmark: Benchmark | None) -> str:
    """Say over how many languages the mean is where a benchmark has more."""
    if benchmark is None or benchmark["scored"] == benchmark["languages"]:
        return MACRO
    return f"{MACRO} of {benchmark['scored']}/{benchmark['languages']}"


def mean_over(benchmark: Benchmark) -> str:
    """Say what the mean is over."""
    scored, every = benchmark["scored"], benchmark["languages"]
    return f"mean over all {every} languages" if scored == every else f"mean over {scored} of {every} languages"


def verdict(benchmark: Benchmark) -> str:
    """Say whether ours and the paper's numbers may be compared as like with like, and what stands against it."""
    if benchmark["differs"]:
        return f"not like for like with the paper's: {'; '.join(benchmark['differs'])}"
    return "scored as far as known by the paper's rules"


def unknown(benchmark: Benchmark) -> str:
    """Say what nobody checked, or what is not known of the paper's rules."""
    return f"not known here: {'; '.join(benchmark['unknown'])}"


def lines(benchmark: Benchmark | None, means: Mapping[str, float]) -> list[str]:
    """Return what stands below a table of the terminal; `means` are ours by name, over the rates that count."""
    if benchmark is None:
        return []
    every = benchmark["languages"]
    found = [
        f"{benchmark['title']} {benchmark['split']}, {mean_over(benchmark)}: {benchmark['rule']}; texts: "
        f"{benchmark['text']}",
        verdict(benchmark),
        unknown(benchmark),
    ]
    found.append(f"mean of these rates: {', '.join(f'{name} {rate:.2f}' for name, rate in means.items())}")
    if listed := averages(benchmark):
        theirs = ", ".join(f"{system} {rate:.1f}" for system, rate in listed)
        found.append(f"in the paper, over all {every} languages: {theirs}")
    return found
