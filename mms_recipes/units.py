"""Units of the acoustic model: letters, or pieces of words that sentencepiece has learnt from a language's text.

Both are written alike: the end of a word is `|`, a letter of its own or the end of a piece ("h e l l o |", "hel lo|").
So units with their spaces taken out are words with `|` behind each, and `text.to_words` reads both.
"""

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from mms_recipes import text
from mms_recipes.manifest import SPECIAL_TOKENS
from mms_recipes.unit_kinds import PIECES_MODEL, UnitKind

VOCABULARY = 128
_SPACE = "\u2581"  # sentencepiece's mark for a space
_UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Units:
    """How one language's words are written in units; `model` is sentencepiece's, as bytes, and empty for letters.

    The bytes are all that there is to it (a few kB), so they can travel in an adapter's file.
    """

    model: bytes = b""

    @property
    def kind(self) -> UnitKind:
        return UnitKind.sentencepiece if self.model else UnitKind.letters

    def encode(self, words: str) -> list[str]:
        """Return the units of words. A letter that the model does not know becomes a unit that it does not have.

        Every word is encoded as it would be alone, so a lexicon spells it as the labels do. ValueError when the text
        holds the word mark itself.
        """
        if not self.model:
            return text.to_letters(words).split()
        if text.WORD_END in words:
            text.to_letters(words)  # says what is wrong
        pieces: list[str] = self._processor.encode(words, out_type=str)
        return [piece.replace(_SPACE, text.WORD_END) for piece in pieces]

    def decode(self, units: Sequence[str]) -> str:
        """Return the words of units, the inverse of `encode`; a last word without its mark counts as whole."""
        return text.to_words(" ".join(units))

    def pieces(self) -> list[str]:
        """Return all units that the model has, without special tokens; ValueError for letters, which have no list."""
        if not self.model:
            raise ValueError("letters have no model; their dictionary lists them")
        names = map(self._processor.id_to_piece, range(self._processor.get_piece_size()))
        return [name.replace(_SPACE, text.WORD_END) for name in names if name != _UNKNOWN]

    def to_text(self) -> str:
        """Return the model as text, for headers and JSON; empty for letters. `from_text` reads it."""
        return base64.b64encode(self.model).decode()

    @classmethod
    def from_text(cls, text: str) -> "Units":
        """Return the units of what `to_text` gave; ValueError when it is something else."""
        return cls(base64.b64decode(text, validate=True))

    @cached_property
    def _processor(self) -> Any:
        return _sentencepiece().SentencePieceProcessor(model_proto=self.model)


LETTERS = Units()


def _sentencepiece() -> ModuleType:
    try:
        import sentencepiece
    except ImportError as error:  # part of the extra [decoding]: letters do without
        raise ValueError(
            f"sentencepiece units need sentencepiece ({error}); install it with pip install '.[decoding]'"
        ) from None
    return sentencepiece


def folder_units(folder: Path, kind: UnitKind) -> Units:
    """Return the units of a language's labels of this kind; raises what `read_units` raises."""
    return read_units(folder / PIECES_MODEL) if kind is UnitKind.sentencepiece else LETTERS


def is_last_piece(unit: str) -> bool:
    """Say whether a unit is a piece at the end of a word ("lo|"). Of letters none is: the mark is one of its own."""
    return len(unit) > 1 and unit.endswith(text.WORD_END)


def read_units(path: Path) -> Units:
    """Read a model that `tools/build_units.py` wrote; FileNotFoundError, or ValueError when it is something else."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; build it with tools/build_units.py")
    _sentencepiece()
    units = Units(path.read_bytes())
    try:
        found = units.pieces()
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not a model of sentencepiece; build it with tools/build_units.py") from error
    if text.WORD_END not in found or any(len(p) > 1 and p.startswith("|") for p in found):
        raise ValueError(
            f"{path}: its pieces mark where words begin, not where they end; build it with tools/build_units.py"
        )
    return units


def train_units(sentences: Iterable[str], size: int) -> tuple[Units, Counter[str]]:
    """Learn pieces from normalised sentences and return them with how often each is in the text.

    There are `size` units, or one more than the text has letters if that is more, or fewer where the text does not have
    as many. Equal text gives equal units. ValueError when there is no text.
    """
    lines = [line for line in sentences if line]
    letters = {letter for line in lines for letter in line.replace(" ", "")}
    if not letters:
        raise ValueError("no text to learn units from; expected sentences, one a line")
    if special := letters & {_SPACE, text.WORD_END}:
        raise ValueError(f"the text holds {' '.join(sorted(special))}, which mark the ends of words; normalise it")
    written = io.BytesIO()
    _sentencepiece().SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=max(size, len(letters) + 1) + 1,  # the mark of word ends; and <unk>, which is no unit of ours
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",  # the text is normalised; sentencepiece's own rules would change letters
        treat_whitespace_as_suffix=True,
        max_sentence_length=1 << 20,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        unk_id=0,
        num_threads=1,
        minloglevel=2,
    )
    units = Units(written.getvalue())
    counts = Counter(dict.fromkeys(units.pieces(), 0))
    for line in lines:
        counts.update(units.encode(line))
    if clash := counts.keys() & set(SPECIAL_TOKENS):
        raise ValueError(f"units {' '.join(sorted(clash))} are names of special tokens; take them out of the text")
    return units, counts
