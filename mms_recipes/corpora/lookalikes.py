"""Letters that look alike and are different: a model learns each from a part of the text, and every mix-up is an error.

They come from keyboards and fonts of other languages (cedilla for comma, Arabic kaf and yeh in Persian, a Latin letter
within a Cyrillic word). The table holds what people confuse; that two stand in one dictionary is not always wrong.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable

_ALIKE = (  # letters, in lower case
    "aаα cсϲ eе hһ iіι jј kкκ oоοօ pрρ sѕ xхχ yуγү uυս nո tтτ mм bвβ wԝω dԁ qԛ gɡ vνѵ",
    "əәǝ ɛεє ɣγ ɩι ɔͻ æӕ ʃ∫ ɵөθѳ đɖð ŋղ ӏl ʒӡз ßβ",
    "كکڪ يی ىی هہ ەة گګ ؤۇ ۀۂ",
    "'\u02bc\u02bb\u02b9\u02bd\u02be\u02bf\u02c8\ua78c\u2019\u2018\u05f3\u055a ː꞉: ǃ! ǁ‖",
)
_MARKS = ("\u0306\u030c\u0311", "\u0326\u0327\u0328", "\u0304\u0305", "\u0312\u0313\u0315")
_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")
_PART = re.compile(r"[^\s'\u02bc\u02bb-]+")


def find(letters: Iterable[str]) -> list[list[str]]:
    """Return groups of two or more letters that look alike, of those in a dictionary."""
    apart = {letter: unicodedata.normalize("NFD", letter) for letter in sorted(letters)}
    found: dict[tuple[str, ...], None] = {}
    for group in [*" ".join(_ALIKE).split(), *_MARKS]:
        alike = str.maketrans(dict.fromkeys(group, group[0]))
        shapes: dict[str, list[str]] = {}
        for letter, parts in apart.items():
            if not set(group).isdisjoint(parts):
                shapes.setdefault(parts.translate(alike), []).append(letter)
        found |= dict.fromkeys(tuple(same) for same in shapes.values() if len(same) > 1)
    return [list(group) for group in found]


@functools.cache
def script(char: str) -> str:
    """Return LATIN, GREEK or CYRILLIC, or nothing for a character of none of them."""
    name = unicodedata.name(char, "").partition(" ")[0] if char.isalpha() else ""
    return name if name in _SCRIPTS else ""


def are_mixed(letters: Iterable[str]) -> bool:
    """Say whether letters of more than one of the scripts that look alike are among these."""
    return len({script(char) for letter in letters for char in letter} - {""}) > 1


def mixed_word(words: str) -> tuple[str, list[str]] | None:
    """Return the first word with letters of two scripts, and those of the script that has fewer."""
    for part in _PART.findall(words):
        scripts: dict[str, list[str]] = {}
        for char in part:
            if name := script(char):
                scripts.setdefault(name, []).append(char)
        if len(scripts) > 1:
            fewer = min(scripts, key=lambda name: len(scripts[name]))
            return part, sorted(set(scripts[fewer]))
    return None
