"""What normalisation took out of the text of a corpus: what may have been letters is named with examples."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

# Symbols that normalisation writes as letters, where a language has them.
_WRITTEN_AS = {
    "!": "ǃӏ", "|": "ǀǁӏ", "/": "ǀǁ", "=": "ǂ\ua78a", "≠": "ǂ", ":": "\ua789\ua4fd", "·": "\ua789", "-": "-˗",
    "?": "ʔ", ".": "ꓸꓺꓻ", ",": "ꓹꓻ", ";": "ꓼ", "‖": "ǁ", "1": "ӏ",
}  # fmt: skip
_OPENERS = '"“”„«»‹›([{<¿¡…「『《〈（*#&'  # at the start of a word these are never letters
_APOSTROPHES = "'’‘`´"
_ORDINARY = ".,;?…/—–・।،-" + _OPENERS + _APOSTROPHES  # without a space after them they are common
_EDGES = _ORDINARY + "!:॥؛؟۔、。」』》〉）)]}>"
_BEGINS = re.compile(r"(?<!\S)(?:([^\w\s])\1*(?=[^\W\d_]))")
_WITHIN = re.compile(r"(?<=[^\W\d_])([^\w\s])(?=[^\W\d_])")
SHARE = 0.001  # of the letters
ORDINARY_SHARE = 0.03  # of the words
EXAMPLES = 3


@dataclass
class Losses:
    """Counts over the texts of a split."""

    normalize: Callable[[str, str], str]
    lang: str
    letters: int = 0
    words: int = 0
    words_changed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # characters, but spaces
    written: Counter[str] = field(default_factory=Counter)  # letters that were typed as symbols
    suspects: Counter[tuple[str, str]] = field(default_factory=Counter)  # by place: "begins", "stands within"
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, text: str, words: str) -> None:
        """Count one text and what it became."""
        plain = unicodedata.normalize("NFKC", text).lower()
        before, after = Counter(plain), Counter(unicodedata.normalize("NFKC", words))
        lost = before - after
        for char in [char for char in lost if char.isspace()]:
            del lost[char]
        self.dropped += lost
        gained = after - before
        for letter in gained.keys() & set("".join(_WRITTEN_AS.values())):
            self.written[letter] += gained[letter]
        self.letters += sum(number for char, number in after.items() if char != " ")
        tokens = unicodedata.normalize("NFC", text).lower().split()
        stripped = [token.strip(_EDGES) for token in tokens]
        made = words.split()
        self.words += len(made)
        self.words_changed += (Counter(filter(None, stripped)) - Counter(word.strip(_EDGES) for word in made)).total()
        for place, form in (("begins", _BEGINS), ("stands within", _WITHIN)):
            for token in tokens:
                if found := form.search(token):
                    self._suspect(found[1], place, token)
        for char in lost:
            if unicodedata.category(char)[0] in "LM" or unicodedata.category(char) == "Cf":
                holding = next((token for token in text.split() if char in token), "")
                self._count(char, "is dropped from", holding, lost[char])

    def lines(self) -> list[str]:
        """Return what should be known, most frequent first."""
        lines = []
        if self.written:
            typed = ", ".join(f"{letter!r} {number}" for letter, number in self.written.most_common())
            lines.append(f"symbols within words written as the letters that they stand for: {typed}")
        for (char, place), number in self.suspects.most_common():
            of_words = number / max(self.words, 1)
            ordinary = char in _ORDINARY and not (place == "begins" and char == "!")
            if of_words < ORDINARY_SHARE if ordinary else number < SHARE * max(self.letters, 1):
                continue
            name = f"{char!r} (U+{ord(char):04X})"
            if place == "is dropped from":
                share = f"{100 * number / max(self.letters, 1):.2g} % as many as letters"
                what = f"dropped from words: {name} {number} times, {share}"
            else:
                what = f"warning: {name} {place} {100 * of_words:.2g} % of the words and is dropped: a letter?"
            lines.append(f"{what} (such as {', '.join(map(repr, self.examples[char, place]))})")
        if self.words_changed:
            lines.append(f"{self.words_changed:,} of {self.words:,} words changed by more than case and punctuation")
        return lines

    def _suspect(self, char: str, place: str, token: str) -> None:
        quoted = char in _APOSTROPHES and token.rstrip(_ORDINARY) != token.rstrip(_ORDINARY.replace("’", ""))
        if place == "begins" and (char in _OPENERS or quoted):
            return
        kept = {char, *_WRITTEN_AS.get(char, "")} | ({"'"} if char in _APOSTROPHES else set())
        if kept.isdisjoint(self.normalize(token, self.lang)):
            self._count(char, place, token, 1)

    def _count(self, char: str, place: str, token: str, number: int) -> None:
        self.suspects[char, place] += number
        examples = self.examples.setdefault((char, place), [])
        if token and len(examples) < EXAMPLES and token not in examples:
            examples.append(token)
