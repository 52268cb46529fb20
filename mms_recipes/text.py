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

``mms-2`` is ``mms-1`` where it differs in none of these (``text_rules.py`` has the languages):

- A typed apostrophe is a letter at the start of a word where the language has one there (Hawaiian ʻokina, Hausa
  ʼyan, Afrikaans 'n, Dutch 's), and at its end. The letters U+02BB, U+02BC and U+A78C become ``'``: one spelling.
- Letters that are typed as punctuation become the letters: clicks (! | || =), length within Iroquoian words (:), tones
  of the Ivory Coast (- =), palochka (1 I |), glottal stop (?), Lisu tones.
- Arabic presentation forms do not cut words, and phrases in one character do not stick to the word before.
- Joiners are kept where they make another letter (Sinhala, Bengali, eyelash ra; U+200C in Persian) or become it
  (Malayalam chillu, Kurdish); where they only change a letter's shape they are deleted.
- Thai and Lao sara am stays one letter, as it is typed.

A change that alters any output needs a new version; data that was made stores the version it was made with.
"""

import functools
import html
import re
import unicodedata
from collections.abc import Callable, Mapping

from mms_recipes.text_rules import JOINER, NON_JOINER, Patterns, Rules, mms_1, mms_2

NORMALIZATION = "mms-2"
WORD_END = "|"

_APOSTROPHE = "\u2019"  # stands for every typed apostrophe until its place decides
_APOSTROPHES = str.maketrans(
    dict.fromkeys("`\u00b4\u0384\u055a\u05f3\u1fbd\u1fbf\u1fef\u1ffd\u2018\u201b\u2032\u275b\u275c\uff40", _APOSTROPHE)
)
_LOW_QUOTE = "\u201a"  # opens what a curly one closes
_BURMESE_SYMBOLS = frozenset("\u104c\u104d\u104e\u104f")
_TSHEG = "\u0f0b"
_KEPT = frozenset({"'", "-", _APOSTROPHE, JOINER, _TSHEG}) | _BURMESE_SYMBOLS
_HYPHENS = frozenset("\u2010\u2011\u058a")
_MODIFIERS = ((0x02C2, 0x02FF), (0xA700, 0xA721), (0xA789, 0xA78A))  # category Sk, but tones and length
_DELETED = frozenset(
    map(chr, (0x0640, *range(0x064B, 0x0653), 0x0656, 0x0657, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});|&nbsp\b")
_BRACKETS_WITH_DIGIT = re.compile(r"\([^()]*\d[^()]*\)|\[[^\[\]]*\d[^\[\]]*\]")
_WORD_CHARACTER = rf"[^\s'{_APOSTROPHE}{JOINER}{NON_JOINER}-]"
_QUOTE_OPENS = re.compile(rf"(?<!\S){_APOSTROPHE}(?=\S)")
_WITHIN_WORD = re.compile(rf"(?<={_WORD_CHARACTER}){_APOSTROPHE}(?={_WORD_CHARACTER})")
_AT_WORD_END = re.compile(rf"(?<={_WORD_CHARACTER}){_APOSTROPHE}(?!\S)")
_LETTER_AT_WORD_END = re.compile(  # all but the last before another quotation opens, or the text ends
    rf"(?<={_WORD_CHARACTER}){_APOSTROPHE}(?!\S)(?=(?:(?!(?<!\S){_APOSTROPHE}\S).)*{_WORD_CHARACTER}{_APOSTROPHE}(?!\S))",
    re.DOTALL,
)
_STRAY_APOSTROPHES = re.compile(rf"{_APOSTROPHE}|'{{2,}}")
_STRAY_HYPHENS = re.compile(r"(?<![^\s-])-|-(?![^\s-])")
_JOINERS = f"[{JOINER}{NON_JOINER}]"
_STRAY_JOINERS = re.compile(rf"(?<!{_WORD_CHARACTER}){_JOINERS}|{_JOINERS}(?!{_WORD_CHARACTER})")
_FILLERS = dict.fromkeys(map(ord, "\u034f\u115f\u1160\u3164\uffa0\u17b4\u17b5\u180b\u180c\u180d\u180f"), "")
_PASSES = 5  # of mms-2; one is enough for all text but what was made to need more


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
    """Return the text normalised as ``mms-2`` for the language ``lang`` (an id); possibly empty. Idempotent."""
    code = lang.partition("-")[0]
    rules, table = mms_2(code), _character_table(code, 2)
    for _ in range(_PASSES):  # a letter that was deleted can bring others together
        before, text = text, _normalize(text, rules, table)
        if text == before:
            break
    return text


def normalize_mms_1(text: str, lang: str) -> str:
    """Return the text normalised as ``mms-1`` for the language ``lang`` (an id); possibly empty. Idempotent."""
    code = lang.partition("-")[0]
    return _normalize(text, mms_1(code), _character_table(code, 1))


def _normalize(text: str, rules: Rules, table: "_CharacterTable") -> str:
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    if rules.marks:
        text = _unfold(text, rules)
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    if rules.marks:
        text = text.translate(dict.fromkeys(map(ord, rules.marks), "'") | _FILLERS)
    text = _replace(text, rules.typed)
    text = _lower(text, rules)
    text = _BRACKETS_WITH_DIGIT.sub(" ", text)
    text = _replace(text, rules.patterns)
    low_quote = _LOW_QUOTE in text
    text = _STRAY_JOINERS.sub("", text.translate(table))
    text = _settle_apostrophes(text, rules, quoted=low_quote)
    text = _STRAY_HYPHENS.sub(" ", text)
    text = " ".join(filter(_has_letter, map(_without_loose_marks, text.split())))
    return unicodedata.normalize("NFC", _replace(_settle_diacritics(text, rules), rules.composed))


def _unfold(text: str, rules: Rules) -> str:
    """Write what compatibility forms, or letters with joiners, stand for, so that NFKC cuts no word."""
    for form, letters in rules.unfolded.items():
        if form in text:
            text = text.replace(form, letters)
    return text


def _replace(text: str, patterns: Patterns) -> str:
    for pattern, new in patterns:
        text = re.sub(pattern, new, text)
    return text


@functools.cache
def _character_table(code: str, version: int) -> _CharacterTable:
    return _CharacterTable((mms_1 if version == 1 else mms_2)(code).mapping)


def _lower(text: str, rules: Rules) -> str:
    """Lower the case; a dotted capital I gives a plain i, and a dotless one what the language makes of it."""
    text = text.replace("\u0130", "i")
    return (text.replace("I", "\u0131") if rules.dotless_i else text).lower()


def _settle_apostrophes(text: str, rules: Rules, quoted: bool) -> str:
    """Make typed apostrophes ``'`` where they are letters, and spaces where they are quotation marks."""
    text = _WITHIN_WORD.sub("'", text)
    if rules.elided:
        text = re.sub(rf"(?<![^\s-]){_APOSTROPHE}(?={rules.elided})", "'", text)
    if not quoted and not _QUOTE_OPENS.search(text):
        text = _AT_WORD_END.sub("'", text)
    elif rules.final:
        text = _LETTER_AT_WORD_END.sub("'", text)
    return _STRAY_APOSTROPHES.sub(" ", text)


def _without_loose_marks(word: str) -> str:
    """Drop combining marks at the start of a word, which have no letter to sit on, and a hyphen laid bare by that."""
    while word and (word[0] in ("-", JOINER, NON_JOINER) or unicodedata.category(word[0])[0] == "M"):
        word = word[1:]
    return word


def _has_letter(word: str) -> bool:
    return any(map(str.isalpha, word)) or not _BURMESE_SYMBOLS.isdisjoint(word)


def _settle_diacritics(text: str, rules: Rules) -> str:
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


NORMALIZATIONS: dict[str, Callable[[str, str], str]] = {
    "mms-1": normalize_mms_1,
    "mms-2": normalize,
    "none": collapse_whitespace,
}


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
