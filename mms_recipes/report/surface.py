"""The error rate over two weights of a beam search, as PNG. Needs matplotlib (extra [plots])."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mms_recipes import files

_INCHES, _RESOLUTION = (6.4, 4.4), 120


def draw(
    path: Path,
    rates: Mapping[tuple[float, ...], float],
    names: Sequence[str],
    title: str,
    marked: Mapping[str, tuple[float, ...]],
) -> None:
    """Draw `rates` (percent) by point; `names` are those of both weights, `marked` points with what to call them.

    Raises ModuleNotFoundError without matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=_INCHES, layout="constrained")
    x, y = zip(*rates, strict=True)
    values = list(rates.values())
    # the far ends of a grid are many times worse than the best: the colours are for what lies near it
    limits: Any = {"vmin": min(values), "vmax": max(sorted(values)[len(values) // 2], min(values) + 1e-6)}
    if len(set(x)) > 1 and len(set(y)) > 1:
        axes.tripcolor(x, y, values, shading="gouraud", cmap="viridis", **limits)
    points = axes.scatter(x, y, c=values, cmap="viridis", edgecolors="white", linewidths=0.6, s=28, **limits)
    for (label, point), marker in zip(marked.items(), "s*", strict=False):
        style: Any = {"facecolors": "none"} if marker == "s" else {"color": "#D55E00"}
        axes.scatter(
            point[0],
            point[1],
            marker=marker,
            s=150,
            edgecolors="#D55E00",
            label=f"{label}: {rates[point]:.2f}",
            **style,
        )
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.set_title(title, fontsize="medium")
    figure.colorbar(points, ax=axes, extend="max", label="%; worse half in one colour")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    with files.replaced(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_RESOLUTION)
    pyplot.close(figure)
