"""Text as MMS trains on it: normalisation of transcripts, and letters <-> words.

``mms-1`` follows the order of fairseq:examples/mms/data_prep (paper section 3.1.2): NFKC, lower case, bracketed text
with digits dropped, character mapping, punctuation to spaces, deletions, words without a letter dropped, diacritics of
Javanese stripped, whitespace collapsed. The rules for one language are found by its ISO 639-3 code. What is ours:

- HTML entities are decoded (``&nbsp;`` is a space, ``&eacute;`` a letter), not cut out, which glued words together.
- ``(...)`` and ``[...]`` that hold a digit go with their contents ("(Sam 23:17)"); other brackets go, their contents
  stay.
- Punctuation is every character of the Unicode categories P, S, Z and C, except: apostrophe; hyphen within a word; the
  tsheg of Tibetan; the spoken symbols of Burmese (U+104C to U+104F); tone and modifier letters of category Sk; the
  middle dot within Catalan and Occitan words. Letters of category Lm (U+02BC, iteration and length marks) and marks are
  kept.
- Typed apostrophes (curly, grave, acute, prime, geresh ...) become ``'`` between letters, and at the end of a word when
  nothing in the text opens a quotation; elsewhere they are quotation marks.
- Invisible characters (soft hyphen, direction marks, byte order mark, variation selectors) are deleted in every
  language; so are Arabic vowel signs and tatweel. A joiner (U+200D) is kept within a word, where Indic scripts write
  with it.
- A word of digits only, of any script, is dropped: nobody knows how it was read in 1,107 languages. Digits in words
  stay.
- Dotted and dotless I follow the language (Turkish, Azerbaijani ...); elsewhere lower-cased U+0130 is a plain i.

A change that alters any output needs a new version; data that was made stores the version it was made with.
"""

import functools
import html
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

NORMALIZATION = "mms-1"
WORD_END = "|"

_APOSTROPHE = "\u2019"  # stands for every typed apostrophe until its place decides
_APOSTROPHES = str.maketrans(
    dict.fromkeys("`\u00b4\u0384\u055a\u05f3\u1fbd\u1fbf\u1fef\u1ffd\u2018\u201b\u2032\u275b\u275c\uff40", _APOSTROPHE)
)
_LOW_QUOTE = "\u201a"  # opens what a curly one closes
_JOINER = "\u200d"
_BURMESE_SYMBOLS = frozenset("\u104c\u104d\u104e\u104f")
_TSHEG = "\u0f0b"
_KEPT = frozenset({"'", "-", _APOSTROPHE, _JOINER, _TSHEG}) | _BURMESE_SYMBOLS
_HYPHENS = frozenset("\u2010\u2011\u058a")
_MODIFIERS = ((0x02C2, 0x02FF), (0xA700, 0xA721), (0xA789, 0xA78A))  # category Sk, but tones and length
_DELETED = frozenset(
    map(chr, (0x0640, *range(0x064B, 0x0653), 0x0656, 0x0657, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});|&nbsp\b")
_BRACKETS_WITH_DIGIT = re.compile(r"\([^()]*\d[^()]*\)|\[[^\[\]]*\d[^\[\]]*\]")
_WORD_CHARACTER = rf"[^\s'{_APOSTROPHE}{_JOINER}-]"
_QUOTE_OPENS = re.compile(rf"(?<!\S){_APOSTROPHE}(?=\S)")
_WITHIN_WORD = re.compile(rf"(?<={_WORD_CHARACTER}){_APOSTROPHE}(?={_WORD_CHARACTER})")
_AT_WORD_END = re.compile(rf"(?<={_WORD_CHARACTER}){_APOSTROPHE}(?!\S)")
_STRAY_APOSTROPHES = re.compile(rf"{_APOSTROPHE}|'{{2,}}")
_STRAY_HYPHENS = re.compile(r"(?<![^\s-])-|-(?![^\s-])")
_STRAY_JOINERS = re.compile(rf"(?<!{_WORD_CHARACTER}){_JOINER}|{_JOINER}(?!{_WORD_CHARACTER})")


@dataclass(frozen=True)
class _Rules:
    """What one language does otherwise; ``patterns`` and then ``mapping`` come before punctuation is cut."""

    patterns: tuple[tuple[str, str], ...] = ()
    mapping: Mapping[str, str] = field(default_factory=dict)
    dotless_i: bool = False
    strip_diacritics: bool = False


_DEFAULT = _Rules()
_TURKIC = _Rules(dotless_i=True)
_ALEF_WASLA = _Rules(mapping={"\u0671": "\u0627"})
_MIDDLE_DOT = _Rules(patterns=((r"(?<![^\W\d_])\u00b7|\u00b7(?![^\W\d_])", " "),), mapping={"\u00b7": "\u00b7"})
_HEBREW = _Rules(  # abbreviations are written with a double mark within the word
    patterns=((r'(?<=[\u05d0-\u05ea])["\u05f4\u201d](?=[\u05d0-\u05ea])', ""),),
    mapping=dict.fromkeys(map(chr, (*range(0x0591, 0x05BE), 0x05BF, 0x05C1, 0x05C2, 0x05C4, 0x05C5, 0x05C7)), ""),
)
_RULES = {
    "ara": _ALEF_WASLA,
    "arb": _ALEF_WASLA,
    "aze": _TURKIC,
    "azj": _TURKIC,
    "cat": _MIDDLE_DOT,
    "crh": _TURKIC,
    "gag": _TURKIC,
    "heb": _HEBREW,
    "jav": _Rules(strip_diacritics=True),
    "oci": _MIDDLE_DOT,
    "tha": _Rules(mapping={_JOINER: " "}),
    "tur": _TURKIC,
}


class _CharacterTable(dict[int, str]):
    """What ``str.translate`` puts for each character; filled by need, so that only characters that occur are looked
    up."""

    def __init__(self, mapping: Mapping[str, str]) -> None:
        super().__init__((ord(char), new) for char, new in mapping.items())

    def __missing__(self, code: int) -> str:
        self[code] = new = _replacement(chr(code))
        return new


def _replacement(char: str) -> str:
    """Return a character itself if it is part of words, a space for punctuation, nothing for what is not seen."""
    category = unicodedata.category(char)
    if char in _KEPT:
        return char
    if char in _HYPHENS:
        return "-"
    if char in _DELETED or category in ("Cf", "Me"):
        return ""
    if category == "Sk" and any(first <= ord(char) <= last for first, last in _MODIFIERS):
        return char
    return " " if category[0] in "PSZC" else char


def normalize(text: str, lang: str) -> str:
    """Return the text normalised as ``mms-1`` for the language ``lang`` (an id); possibly empty. Idempotent."""
    code = lang.partition("-")[0]
    rules = _RULES.get(code, _DEFAULT)
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    text = _lower(text, rules)
    text = _BRACKETS_WITH_DIGIT.sub(" ", text)
    for pattern, new in rules.patterns:
        text = re.sub(pattern, new, text)
    low_quote = _LOW_QUOTE in text
    text = _STRAY_JOINERS.sub("", text.translate(_character_table(code)))
    text = _settle_apostrophes(text, quoted=low_quote)
    text = _STRAY_HYPHENS.sub(" ", text)
    text = " ".join(filter(_has_letter, map(_without_loose_marks, text.split())))
    return unicodedata.normalize("NFC", _settle_diacritics(text, rules))


@functools.cache
def _character_table(code: str) -> _CharacterTable:
    return _CharacterTable(_RULES[code].mapping) if code in _RULES else _CharacterTable({})


def _lower(text: str, rules: _Rules) -> str:
    """Lower the case; a dotted capital I gives a plain i, and a dotless one what the language makes of it."""
    text = text.replace("\u0130", "i")
    return (text.replace("I", "\u0131") if rules.dotless_i else text).lower()


def _settle_apostrophes(text: str, quoted: bool) -> str:
    """Make typed apostrophes ``'`` where they are letters, and spaces where they are quotation marks."""
    text = _WITHIN_WORD.sub("'", text)
    if not quoted and not _QUOTE_OPENS.search(text):
        text = _AT_WORD_END.sub("'", text)
    return _STRAY_APOSTROPHES.sub(" ", text)


def _without_loose_marks(word: str) -> str:
    """Drop combining marks at the start of a word, which have no letter to sit on, and a hyphen laid bare by that."""
    while word and (word[0] in ("-", _JOINER) or unicodedata.category(word[0])[0] == "M"):
        word = word[1:]
    return word


def _has_letter(word: str) -> bool:
    return any(map(str.isalpha, word)) or not _BURMESE_SYMBOLS.isdisjoint(word)


def _settle_diacritics(text: str, rules: _Rules) -> str:
    if rules.dotless_i:
        return re.sub("i\u0307+", "i", text)  # what lower-casing without the language's rule leaves behind
    if not rules.strip_diacritics:
        return text
    kept: list[str] = []
    for char in unicodedata.normalize("NFD", text):
        mark_on_latin = unicodedata.category(char) == "Mn" and kept and "a" <= kept[-1] <= "z"
        if not mark_on_latin:
            kept.append(char)
    return "".join(kept)


def collapse_whitespace(text: str, lang: str) -> str:
    """Return the text with every run of whitespace as one space; the normalisation ``none``."""
    return " ".join(text.split())


NORMALIZATIONS: dict[str, Callable[[str, str], str]] = {NORMALIZATION: normalize, "none": collapse_whitespace}


def to_letters(words: str) -> str:
    """Return words as fairseq's letter labels: "hello world" -> "h e l l o | w o r l d |"; one code point a letter.

    A phrase of a script without spaces is one word. ValueError when the text holds the word mark itself.
    """
    if WORD_END in words:
        raise ValueError(f"the text holds the word mark {WORD_END!r}: {words!r}; normalise it, or take the mark out")
    return " ".join(f"{' '.join(word)} {WORD_END}" for word in words.split())


def to_words(letters: str) -> str:
    """Return the words of letter labels, the inverse of ``to_letters``; a last word without its mark counts as
    whole."""
    return " ".join("".join(letters.split()).replace(WORD_END, " ").split())
