"""Text laid out in columns for a terminal, whatever the script: tables, and references above their hypotheses."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence

from mms_recipes.metrics import Aligned

Rows = Sequence[Sequence[str]]
LINE_WIDTH = 110  # terminal columns
_MARKS = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}


def aligned_lines(steps: Iterable[Aligned]) -> list[str]:
    """Lay an alignment out as REF, HYP and ERR lines (S, D, I below each error), in blocks of `LINE_WIDTH` columns."""
    lines: list[str] = []
    block = ["REF:", "HYP:", "ERR:"]
    for step in steps:
        cells = [*(seated(text) or "*" for text in (step.reference, step.hypothesis)), _MARKS[step.operation]]
        width = max(map(display_width, cells))
        if display_width(block[0]) + 1 + width > LINE_WIDTH and len(block[0]) > 4:
            lines += [line.rstrip() for line in block]
            block = ["REF:", "HYP:", "ERR:"]
        block = [f"{line} {_filled(cell, width)}" for line, cell in zip(block, cells, strict=True)]
    return [*lines, *(line.rstrip() for line in block)]


def text_table(rows: Rows, left: Collection[int] = (0,), feet: int = 0) -> str:
    """Lay rows of cells out in columns, with a rule below the header and one above the last `feet` rows.

    Columns `left` (numbers from 0) are aligned to the left, the others, which hold numbers, to the right.
    """
    rule = ["-" * width for width in _widths(rows)]
    body, foot = rows[1 : len(rows) - feet], rows[len(rows) - feet :]
    return "\n".join(columns([rows[0], rule, *body, *([rule] if feet else []), *foot], left))


def columns(rows: Rows, left: Collection[int]) -> list[str]:
    """Return a line for each row of cells, its columns below each other, aligned as in `text_table`."""
    widths = _widths(rows)
    return [
        "  ".join(_filled(cell, widths[place], place not in left) for place, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def _widths(rows: Rows) -> list[int]:
    return [max(map(display_width, column)) for column in zip(*rows, strict=True)]


def _filled(cell: str, width: int, from_left: bool = False) -> str:
    blanks = " " * (width - display_width(cell))
    return blanks + cell if from_left else cell + blanks


def seated(text: str) -> str:
    """Seat a combining mark that comes first, with no letter to stand on, on a dotted circle."""
    return f"\u25cc{text}" if text and unicodedata.category(text[0]) in ("Mn", "Me", "Mc") else text


def display_width(text: str) -> int:
    """Return how many terminal columns `text` takes: wide East Asian characters two, combining marks none."""
    return sum(_column_count(character) for character in text)


def _column_count(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
