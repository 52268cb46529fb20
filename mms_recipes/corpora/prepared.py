"""prepared.json in a folder of manifests, as evaluation reads it: how references were made, and what was left out."""

from pathlib import Path
from typing import Any

import pydantic

from mms_recipes import parsing
from mms_recipes.manifest import PREPARED


class _Settings(parsing.Schema):
    normalization: str = ""


class Split(parsing.Schema):
    """A split of a language; `left_out` has ids by reason."""

    settings: _Settings = _Settings()
    left_out: dict[str, list[Any]] = pydantic.Field(default_factory=dict)

    @property
    def normalization(self) -> str:
        """The version of the normalisation of its references, "" where it is not known."""
        return self.settings.normalization

    @property
    def num_left_out(self) -> int:
        return sum(map(len, self.left_out.values()))


class _Language(parsing.Schema):
    splits: dict[str, Split] = pydantic.Field(default_factory=dict)


class Prepared(parsing.Schema):
    """The whole file; without one nothing is known."""

    normalization: str | list[str] | None = None
    languages: dict[str, _Language] = pydantic.Field(default_factory=dict)

    def split(self, lang: str, split: str) -> Split:
        """Return what is known of a split of a language."""
        known = self.languages.get(lang)
        return known.splits.get(split, Split()) if known else Split()

    def normalizations(self) -> str:
        """Return the versions of all references, for people."""
        versions = [self.normalization] if isinstance(self.normalization, str) else self.normalization or []
        return ", ".join(versions) or "unknown"


def read(folder: Path) -> Prepared:
    """Read the file of a folder of manifests. Raises ValueError (file, key) where it is something else."""
    path = folder / PREPARED
    try:
        return parsing.read_json(Prepared, path)
    except FileNotFoundError:
        return Prepared()
    except ValueError as error:
        raise ValueError(f"{error}; prepare the corpus again: what is there is skipped") from None
