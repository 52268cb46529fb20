"""The letters that a model writes beside those of a text: of another case, or of another script.

Text is normalised to small letters here, and models of others may have capitals alone (wav2vec2-base-960h and its
like). Their heads are read as small letters where that is one to one; their files stay as they are.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from mms_recipes.manifest import SPECIAL_TOKENS
from mms_recipes.text import WORD_END

SHOWN = 12
FEW = 0.5  # share of the letters of a text: a model that writes less of them is of something else
_DOTTED, _DOTLESS = "\u0130", "\u0131"


def lowered(symbols: Sequence[str]) -> list[str] | None:
    """The symbols in lower case, special ones as they are; None unless they are capitals and that is one to one.

    Pieces of words stay as they are: their model makes them out of text, capitals included.
    """
    if any(len(symbol) > 1 and symbol.endswith(WORD_END) for symbol in symbols):
        return None
    turkic = _DOTTED in symbols and "I" in symbols  # whose small letters differ from those of all others
    small = {"I": _DOTLESS, _DOTTED: "i"} if turkic else {}
    found = [symbol if symbol in SPECIAL_TOKENS else small.get(symbol, symbol.lower()) for symbol in symbols]
    return found if found != list(symbols) and len(set(found)) == len(found) else None


def written(symbols: Sequence[str], text: Counter[str] | None = None) -> list[str]:
    """The symbols of a head as they are to be written: capitals become small letters, if that is one to one.

    With a text (how often it has each letter) they only do if more of it can be written then.
    """
    small = lowered(symbols)
    if small is None or (text is not None and _known(small, text).total() <= _known(symbols, text).total()):
        return list(symbols)
    return small


def _known(symbols: Iterable[str], text: Counter[str]) -> Counter[str]:
    """Those letters of a text that symbols can write."""
    can = _characters(symbols)
    return Counter({letter: count for letter, count in text.items() if _characters([letter]) <= can})


def _characters(symbols: Iterable[str]) -> set[str]:
    """The characters that symbols, letters or pieces, are made of; letters taken apart from their marks."""
    apart = unicodedata.normalize("NFD", "".join(symbol for symbol in symbols if symbol not in SPECIAL_TOKENS))
    return set(apart) - {WORD_END, " "}


def of_lines(lines: Iterable[str]) -> Counter[str]:
    """How often each letter is in lines of text; spaces are none."""
    found = Counter(character for line in lines for character in line)
    del found[" "]
    return found


def remark(symbols: Sequence[str], text: Counter[str]) -> str | None:
    """What to say when a head can write few of a text's letters; None when it can write most of it."""
    known = _known(symbols, text)
    if not text or known.total() >= FEW * text.total():
        return None
    some = f"{len(known)} of" if known else "none of"
    return (
        f"{some} the {len(text)} letters of the references {'are' if known else 'is'} among the model's: it writes "
        f"{shown(symbol for symbol in symbols if symbol not in SPECIAL_TOKENS)}, and they are "
        f"{shown(letter for letter, _ in text.most_common())}; give text in the script and the case of the model"
    )


def shown(symbols: Iterable[str]) -> str:
    """The first letters of a list, for messages."""
    found = [symbol if symbol.isprintable() else ascii(symbol) for symbol in symbols]
    return " ".join(found[:SHOWN]) + (" ..." if len(found) > SHOWN else "")
