"""Alignments laid out for a terminal: reference above hypothesis, in columns that hold for every script."""

import unicodedata
from collections.abc import Iterable

from mms_recipes.metrics import Aligned

LINE_WIDTH = 110  # terminal columns
_MARKS = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}


def aligned_lines(steps: Iterable[Aligned]) -> list[str]:
    """Lay an alignment out as REF, HYP and ERR lines (S, D, I below each error), in blocks of `LINE_WIDTH` columns."""
    lines: list[str] = []
    block = ["REF:", "HYP:", "ERR:"]
    for step in steps:
        cells = [_visible(step.reference), _visible(step.hypothesis), _MARKS[step.operation]]
        width = max(map(display_width, cells))
        if display_width(block[0]) + 1 + width > LINE_WIDTH and len(block[0]) > 4:
            lines += [line.rstrip() for line in block]
            block = ["REF:", "HYP:", "ERR:"]
        block = [f"{line} {cell}{' ' * (width - display_width(cell))}" for line, cell in zip(block, cells, strict=True)]
    return [*lines, *(line.rstrip() for line in block)]


def _visible(text: str) -> str:
    """Stand a `*` for nothing, and seat a combining mark that comes alone on a dotted circle."""
    if not text:
        return "*"
    return f"\u25cc{text}" if unicodedata.category(text[0]) in ("Mn", "Me", "Mc") else text


def display_width(text: str) -> int:
    """Return how many terminal columns `text` takes: wide East Asian characters two, combining marks none."""
    return sum(_column_count(character) for character in text)


def _column_count(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
