"""What a model writes, letters or pieces of words: which files of a language hold its labels, and what makes them."""

from enum import StrEnum
from pathlib import Path

PIECES_MODEL = "units.model"  # sentencepiece's, beside the labels that it wrote


class UnitKind(StrEnum):
    """The kinds that there are, by their names in configs (`task.units`) and commands (`--units`)."""

    letters = "letters"
    sentencepiece = "sentencepiece"

    @property
    def suffix(self) -> str:
        """The labels of a split are `<split>.<suffix>`."""
        return {UnitKind.letters: "ltr", UnitKind.sentencepiece: "units"}[self]

    @property
    def dictionary(self) -> str:
        """Name of the dictionary, of a language and of all languages of a folder together."""
        return f"dict.{self.suffix}.txt"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of what a language has beside the labels of its splits."""
        return (self.dictionary,) if self is UnitKind.letters else (self.dictionary, PIECES_MODEL)

    @property
    def maker(self) -> str:
        """What makes these labels, for messages."""
        preparation = "the tool that made the manifests (tools/prepare_fleurs.py, ...)"
        return {UnitKind.letters: preparation, UnitKind.sentencepiece: "tools/build_units.py"}[self]


def kind_of(path: Path) -> UnitKind:
    """Return which kind a file of labels or a dictionary is of, by its name; letters when the name does not say."""
    return next((kind for kind in UnitKind if f".{kind.suffix}" in path.suffixes), UnitKind.letters)
