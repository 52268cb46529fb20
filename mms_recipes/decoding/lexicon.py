"""Lexicons of word models: which units spell which word; one word and its spelling a line, as flashlight reads them."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mms_recipes import parsing
from mms_recipes.decoding.greedy import BLANK
from mms_recipes.text import WORD_END
from mms_recipes.units import is_last_piece

LONGEST = 500  # units of a spelling; flashlight's trie goes down one level for each, and ends the process when deep
_SHOWN = 12  # letters of each side in a message


@dataclass(frozen=True)
class Lexicon:
    """Words and their spellings in unit ids, in the order of the file; a word may have several spellings.

    A spelling that ends in a piece ("lo|") stands there a second time, with a blank behind. flashlight's search lets
    a unit last for several frames only inside a word; behind its end it can go on with blanks and the bare mark `|`,
    which ends every word of letters. So a piece would end a word in a single frame only.
    """

    path: Path
    entries: list[tuple[str, tuple[int, ...]]]
    dropped: int = 0  # lines left out, because a unit of theirs is not the model's


def read_lexicon(path: Path, symbols: Sequence[str], drop_oov: bool = False) -> Lexicon:
    """Read `word unit unit ...` lines into ids of `symbols`, the units of a head; a repeated line counts once.

    Raises FileNotFoundError, or ValueError with file:line: not a word and its spelling, or units that are not in the
    head. With `drop_oov` such lines are left out and counted, as long as some remain. ValueError too when all words
    are spelt with letters and the head has pieces.
    """
    ids = {symbol: unit for unit, symbol in enumerate(symbols)}
    entries: dict[tuple[str, tuple[int, ...]], None] = {}
    unknown: list[tuple[int, str, str]] = []  # line number, line, the unit
    lines = 0
    for number, line in _lines(path):
        word, *spelling = line.split()
        lines += 1
        if not spelling:
            raise ValueError(
                f"{path}:{number}: found {parsing.shown(line)}, expected a word and its units (hello h e l l o |); "
                "build the lexicon with tools/build_lm.py"
            )
        if len(spelling) > LONGEST:
            raise ValueError(
                f"{path}:{number}: {parsing.shown(word)} is spelt with {len(spelling):,} units, expected {LONGEST} at "
                "most; take the line out, or build the lexicon again"
            )
        missing = next((unit for unit in spelling if unit not in ids), None)
        if missing is None:
            entries[word, tuple(ids[unit] for unit in spelling)] = None
            if is_last_piece(spelling[-1]):
                entries[word, (*(ids[unit] for unit in spelling), BLANK)] = None
        else:
            unknown.append((number, line, missing))
    if unknown and not (drop_oov and entries):
        raise ValueError(_unknown_units(path, unknown, lines, symbols))
    if not entries:
        raise ValueError(f"{path}: holds no words; build it with tools/build_lm.py")
    _require_pieces(path, list(entries), symbols)
    return Lexicon(path, list(entries), len(unknown))


def _require_pieces(path: Path, entries: Sequence[tuple[str, tuple[int, ...]]], symbols: Sequence[str]) -> None:
    """Raise ValueError for a lexicon of letters and a model of pieces: it has all letters, but does not spell so."""
    pieces = [symbol for symbol in symbols if is_last_piece(symbol)]
    if not pieces or any(is_last_piece(symbols[spelling[-1]]) for _, spelling in entries):
        return
    endings = tuple(piece.removesuffix(WORD_END) for piece in pieces)
    if shown := next(((word, spelling) for word, spelling in entries if word.endswith(endings)), None):
        spelt = " ".join(symbols[unit] for unit in shown[1])
        raise ValueError(
            f"{path}: spells {shown[0]!r} {spelt!r}, but the model writes pieces of words ({_some(pieces)}), not "
            "letters; build the lexicon with tools/build_lm.py and --units sentencepiece or --checkpoint"
        )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line that is not blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8").strip()
                except UnicodeDecodeError as error:
                    raise ValueError(f"{path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
                if text:
                    yield number, text
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; build the model with tools/build_lm.py") from None


def _unknown_units(path: Path, unknown: list[tuple[int, str, str]], lines: int, symbols: Sequence[str]) -> str:
    number, line, unit = unknown[0]
    told = f"{parsing.shown(line)}: {parsing.shown(unit)}"
    found = f"{path}:{number}: {told} is not among the {len(symbols)} units of the model"
    if len(unknown) == lines:
        theirs = sorted({unit for _, _, unit in unknown})
        return (
            f"{found}; none of the {lines:,} lines can be spelt with them: a lexicon of another language or script? "
            f"It needs {_some(theirs)}; the model has {_some(sorted(symbols))}"
        )
    near = difflib.get_close_matches(unit, symbols, n=1)
    hint = f" (nearest: {near[0]!r})" if near else ""
    return (
        f"{found}{hint}; {len(unknown):,} of {lines:,} lines have such. decoding.drop_oov=true leaves them out; "
        "better build the lexicon with tools/build_lm.py and the dictionary of this model"
    )


def _some(units: Sequence[str]) -> str:
    return " ".join(units[:_SHOWN]) + (" ..." if len(units) > _SHOWN else "")
