"""The confusion matrix of a language identification as PNG. Needs matplotlib (extra [plots])."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mms_recipes import files

NAMED, NUMBERED = 110, 16  # up to as many languages have their names beside the axes, and their numbers inside
OTHER = "other"
_RESOLUTION = 130


def matrix(document: Mapping[str, Any]) -> tuple[list[str], list[str], npt.NDArray[np.float64]]:
    """Return languages, their classes and `other`, and the percent of each language's utterances answered so."""
    rows = list(document["languages"].values())
    classes = list(dict.fromkeys(row["class"] for row in rows))
    columns = {name: place for place, name in enumerate([*classes, OTHER])}
    shares = np.zeros((len(rows), len(columns)))
    for place, row in enumerate(rows):
        for name, count in document["answers"][row["lang"]].items():
            shares[place, columns.get(name, columns[OTHER])] += 100 * count / row["utterances"]
    return [row["lang"] for row in rows], list(columns), shares


def draw(path: Path, document: Mapping[str, Any]) -> None:
    """Draw what the utterances of each language (a line) were taken for (columns), in percent.

    Raises ModuleNotFoundError without matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import PowerNorm

    langs, columns, shares = matrix(document)
    named = len(langs) <= NAMED
    inches = max(4.5, 0.42 * len(langs) if len(langs) <= NUMBERED else min(15.0, 0.14 * len(langs)))
    figure, axes = pyplot.subplots(figsize=(inches + 1.8, inches), layout="constrained")
    # without numbers a few percent must show by their colour
    norm = PowerNorm(1 if len(langs) <= NUMBERED else 0.4, 0, 100)
    image = axes.imshow(shares, cmap="Blues", norm=norm, aspect="auto", interpolation="nearest")
    axes.set_xlabel("answered")
    axes.set_ylabel("spoken")
    if named:
        size = 9 if len(langs) <= NUMBERED else 6
        axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
        axes.set_yticks(range(len(langs)), langs, fontsize=size)
    for line, column in np.argwhere(shares > 0) if len(langs) <= NUMBERED else ():
        share = shares[line, column]
        axes.text(
            column, line, f"{share:.0f}", ha="center", va="center", fontsize=8, color="white" if share > 55 else "black"
        )
    figure.colorbar(image, label="% of the language's utterances", shrink=0.8)
    with files.replaced(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_RESOLUTION)
    pyplot.close(figure)
