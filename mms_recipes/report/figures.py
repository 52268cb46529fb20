"""Error rates of each language as PNG, the runs compared: wer.png and cer.png. Needs matplotlib (extra [plots])."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mms_recipes import files
from mms_recipes.metrics import MACRO
from mms_recipes.report.charts import NAMED_LANGUAGES
from mms_recipes.report.runs import Run

METRICS = {"wer": "word error rate", "cer": "character error rate"}
# Okabe and Ito's colours, which colour-blind readers tell apart; the yellow is too pale for a point
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_INCHES, _INCHES_PER_LANGUAGE, _RESOLUTION = 8, 0.28, 150


def draw(folder: Path, runs: Sequence[Run]) -> list[Path]:
    """Draw WER and CER with 95 % intervals, languages of the first run's highest rate first; return the files.

    Raises ModuleNotFoundError without matplotlib.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: --png needs matplotlib: pip install '.[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for metric, title in METRICS.items():
        langs = sorted(runs[0].languages, key=lambda lang: (-runs[0].languages[lang][metric], lang))
        named = len(langs) <= NAMED_LANGUAGES
        height = 1.6 + _INCHES_PER_LANGUAGE * len(langs) * (1 + 0.2 * (len(runs) - 1)) if named else _INCHES / 2
        figure, axes = pyplot.subplots(figsize=(_INCHES, height), layout="constrained")
        (_draw_named if named else _draw_many)(axes, runs, langs, metric)
        utterances = runs[0].macro["utterances"]
        axes.set_title(f"{title}, {utterances:,} utterances of {len(langs):,} languages", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=min(4, len(runs)), frameon=False)
        paths.append(folder / f"{metric}.png")
        with files.replaced(paths[-1]) as temporary:
            figure.savefig(temporary, format="png", dpi=_RESOLUTION)
        pyplot.close(figure)
    return paths


def _draw_named(axes: Any, runs: Sequence[Run], langs: Sequence[str], metric: str) -> None:
    """Draw a line for each language, and the macro below them; `axes` are matplotlib's."""
    for number, run in enumerate(runs):
        rows = [*(run.languages[lang] for lang in langs), run.macro]
        shift = 0.6 * ((number + 0.5) / len(runs) - 0.5)
        places = [place + shift for place in range(len(rows))]
        rates = [row[metric] for row in rows]
        axes.errorbar(
            rates, places, xerr=_errors(rows, metric), fmt="o", markersize=4, capsize=2, **_style(number, run)
        )
    axes.set_yticks(range(len(langs) + 1), [*langs, MACRO])
    axes.set_ylim(len(langs) + 0.5, -0.5)
    axes.axhline(len(langs) - 0.5, color="0.6", linewidth=0.8)
    axes.set_xlim(left=0)
    axes.set_xlabel("%, with 95 % interval")
    axes.grid(axis="x", alpha=0.25)


def _draw_many(axes: Any, runs: Sequence[Run], langs: Sequence[str], metric: str) -> None:
    """Draw the languages from left to right, without their names."""
    for number, run in enumerate(runs):
        rows = [run.languages[lang] for lang in langs]
        rates = [row[metric] for row in rows]
        axes.errorbar(
            range(len(rows)),
            rates,
            yerr=_errors(rows, metric),
            fmt="o",
            markersize=1.5,
            elinewidth=0.3,
            **_style(number, run),
        )
    axes.set_xlabel(f"languages, highest rate of {plain(runs[0].name)} first")
    axes.set_ylabel("%, with 95 % interval")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.25)


def plain(text: str) -> str:
    """Return a text that matplotlib writes as it is: without formulas, and not hidden for its first character."""
    return text.replace("$", r"\$").lstrip("_") or "?"


def _errors(rows: Sequence[Any], metric: str) -> list[list[float]]:
    """Return how far the interval reaches below and above each rate; a percentile interval may lie beside it."""
    below = [max(0.0, row[metric] - row[f"{metric}_low"]) for row in rows]
    above = [max(0.0, row[f"{metric}_high"] - row[metric]) for row in rows]
    return [below, above]


def _style(number: int, run: Run) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "label": plain(run.name)}
