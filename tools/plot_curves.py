"""Draw the training curves of runs: python tools/plot_curves.py RUN [RUN ...] [--out FOLDER] [--metrics loss,accuracy]

RUN is a run's folder (outputs/demo_pretrain). Writes curves.csv (every number of the logs) and curves.png (a panel per
metric, the runs over one another), and prints the first, best and last value of each. Needs the extra [plots].
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from mms_recipes import curves, files
from mms_recipes.curves import Row

COLUMNS = 3
PANEL_INCHES = (4.2, 2.9)
# Okabe and Ito's colours, which colour-blind readers tell apart; the yellow is too pale for a line
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D")  # of validation subsets


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, or a log file")
    parser.add_argument("--out", type=Path, help="folder for curves.csv and curves.png (default: that of a single run)")
    parser.add_argument("--metrics", help="what to draw, separated by commas (default: all that are known)")
    args = parser.parse_args(arguments)
    try:
        runs = {name: curves.read_run(path) for name, path in run_names(args.runs).items()}
        metrics = choose(args.metrics, curves.metric_names(runs))
        out = args.out or default_out(args.runs)
        out.mkdir(parents=True, exist_ok=True)
        files.write_text(out / "curves.csv", curves.csv_text(runs))
        draw(out / "curves.png", runs, metrics)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(curves.summary(runs, metrics))
    print(f"{out / 'curves.csv'}, {out / 'curves.png'}")
    return 0


def run_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Return runs by a short name: that of the folder, with as many of its parents as tell the runs apart."""
    folders = [(path if path.is_dir() else path.parent).resolve() for path in paths]
    for parts in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    raise ValueError(f"the same run was given twice: {', '.join(map(str, paths))}")


def default_out(paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        raise ValueError(f"{len(paths)} runs were given; say with --out FOLDER where their curves belong")
    return paths[0] if paths[0].is_dir() else paths[0].parent


def choose(wanted: str | None, logged: Sequence[str]) -> list[str]:
    """Return the metrics to draw, in the order in which they were asked for; ValueError for one that no run logged."""
    if wanted is None:
        return [name for name in logged if name in curves.METRICS]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = ", ".join(name for name in names if name not in logged)
    if unknown or not names:
        raise ValueError(f"--metrics {wanted}: {unknown or 'nothing'} was not logged; there are {', '.join(logged)}")
    return names


def draw(path: Path, runs: Mapping[str, Sequence[Row]], metrics: Sequence[str]) -> None:
    """Write a PNG with a panel per metric; each run has a colour, training a line, validation dashes and markers."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: the picture needs matplotlib: pip install '.[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 2 if len(metrics) == 4 else min(COLUMNS, len(metrics))
    lines = math.ceil(len(metrics) / columns)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * lines + 0.5)
    figure, axes = pyplot.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    handles: dict[str, Any] = {}
    for panel, metric in zip(axes.flat, metrics, strict=False):
        handles |= draw_metric(panel, runs, metric)
    for panel in list(axes.flat)[len(metrics) :]:
        panel.set_visible(False)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
    with files.replaced(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)


def draw_metric(panel: Any, runs: Mapping[str, Sequence[Row]], metric: str) -> dict[str, Any]:
    """Draw a metric of all runs into a panel (matplotlib's Axes); return its lines by their name in the legend."""
    handles = {}
    for colour, (run, rows) in zip(cycle(COLOURS), runs.items(), strict=False):
        for split, marker in zip(curves.splits(rows), cycle(MARKERS), strict=False):
            updates, values = curves.series(rows, split, metric)
            if updates:
                dashes = {} if split == curves.TRAIN else {"linestyle": "--", "marker": marker, "markersize": 4.5}
                (handles[f"{run}, {split}"],) = panel.plot(updates, values, color=colour, linewidth=1.4, **dashes)
    shown = curves.METRICS.get(metric, curves.Metric(metric, "as logged"))
    panel.set_title(shown.title, fontsize="medium")
    panel.set_ylabel(shown.unit)
    panel.set_xlabel("updates")
    panel.set_xlim(0, 1.03 * max(row.num_updates for rows in runs.values() for row in rows))  # the same in all panels
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.locator_params(axis="x", nbins=5)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    return handles


if __name__ == "__main__":
    sys.exit(main())
