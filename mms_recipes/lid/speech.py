"""The utterances that a LID model is scored on: manifests of one corpus or of several, their classes, their audio."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mms_recipes import languages, manifest
from mms_recipes.corpora import validation
from mms_recipes.data import audio
from mms_recipes.lid import classes as lid_classes
from mms_recipes.lid.identifier import Identifier
from mms_recipes.manifest import SAMPLE_RATE, Manifest

logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """A folder of manifests: a language of a corpus. The only corpus of an evaluation has no name."""

    corpus: str
    lang: str

    def __str__(self) -> str:
        return "/".join(filter(None, self))


Place = tuple[Source, int]  # and the row of an utterance in its manifest


@dataclass(frozen=True)
class Speech:
    """The utterances of some folders, their classes, and the number of each class among those to choose from."""

    manifests: Mapping[Source, Manifest]
    wanted: Mapping[Source, str]
    ids: Mapping[str, int]

    def of(self, langs: Collection[str]) -> "Speech":
        """Return the utterances of some languages only."""
        return replace(self, manifests={one: table for one, table in self.manifests.items() if one.lang in langs})

    def counts(self) -> dict[str, int]:
        """Return the number of utterances of each folder, `<corpus>/<lang>` where the corpus has a name."""
        return {str(source): len(table) for source, table in self.manifests.items()}

    def places(self) -> list[Place]:
        return [(source, row) for source, table in self.manifests.items() for row in range(len(table))]

    def sizes(self, places: Sequence[Place]) -> npt.NDArray[np.int32]:
        """Return the lengths of utterances, in samples."""
        return np.array([self.manifests[source].num_samples[row] for source, row in places], dtype=np.int32)


def find_sources(data: Path, corpora: Sequence[str], langs: Sequence[str], split: str) -> list[Source]:
    """Return the folders that have a manifest of the split: `data` as one corpus, or corpora below it.

    `corpora` as in training: their names, empty for all where `data` holds none itself. Raises FileNotFoundError where
    there is no manifest, ValueError for a corpus without one and for a language of `langs` that no corpus has.
    """
    wanted = languages.resolve(langs) if langs else None
    if not corpora:
        corpora = [] if any(data.glob(f"*/{split}.tsv")) else _corpora(data, split)
        if not corpora:
            return [Source("", lang) for lang in wanted or validation.find_languages(data, [split])]
        logger.info("%s: %s of the corpora %s", data, split, ", ".join(corpora))
    there = {name: _languages(data / name, split) for name in dict.fromkeys(corpora)}
    if absent := [name for name, found in there.items() if not found]:
        known = ", ".join(_corpora(data, split)) or "none"
        raise ValueError(
            f"corpora: {', '.join(absent)}: no <lang>/{split}.tsv in {data}/{absent[0]}; corpora that have one: {known}"
        )
    if wanted and (missing := set(wanted).difference(*there.values())):
        raise ValueError(
            f"langs: {', '.join(sorted(missing)[:10])}: no {split}.tsv in any of {', '.join(there)} ({data})"
        )
    return [Source(name, lang) for name, found in there.items() for lang in found if wanted is None or lang in wanted]


def _corpora(data: Path, split: str) -> list[str]:
    return sorted({path.parents[1].name for path in data.glob(f"*/*/{split}.tsv") if path.parents[1].name[0] != "."})


def _languages(corpus: Path, split: str) -> list[str]:
    return sorted(path.parent.name for path in corpus.glob(f"*/{split}.tsv"))


def open_split(data: Path, split: str, sources: Sequence[Source], classes: Sequence[str]) -> Speech:
    """Open the manifests of some folders, and say which languages the model cannot answer."""
    ids = {name: number for number, name in enumerate(classes)}
    manifests = {one: manifest.read_manifest(data / one.corpus / one.lang / f"{split}.tsv") for one in sources}
    if empty := [str(source) for source, table in manifests.items() if not len(table)]:
        raise ValueError(
            f"{data}: no utterances in {split}.tsv of {', '.join(empty)}; prepare them again, or leave them out with "
            "langs=[...]"
        )
    wanted = {source: lid_classes.class_of(source.lang, ids) for source in sources}
    unknown = [source for source in sources if wanted[source] not in ids]
    if len(unknown) == len(sources):
        some = ", ".join(map(str, unknown[:10]))
        raise ValueError(f"{data}: none of {some} is among the {len(ids)} classes to choose from")
    if unknown:
        count = sum(len(manifests[source]) for source in unknown)
        told = ", ".join(f"{source} ({manifests[source].rows.where(0)})" for source in unknown)
        logger.warning("%s: %s: no class to choose from; all their %d utterances count as wrong", split, told, count)
    return Speech(manifests, wanted, ids)


def check_lengths(speech: Speech, least: int) -> None:
    """Raise ValueError (file:line) for utterances that are too short to be heard at all."""
    found = [
        table.rows.where(int(row))
        for table in speech.manifests.values()
        for row in np.flatnonzero(table.num_samples < least)
    ]
    if found:
        raise ValueError(
            f"{len(found)} utterance(s) of fewer than {least} samples ({1000 * least / SAMPLE_RATE:g} ms), in which "
            f"the model hears nothing: {', '.join(found[:5])}; take them out of the manifest"
        )


def whole(speech: Speech, normalize: bool) -> Callable[[Place], torch.Tensor]:
    """Return what reads an utterance."""

    def read(place: Place) -> torch.Tensor:
        table, row = speech.manifests[place[0]], place[1]
        return audio.read_utterance(table.path(row), int(table.num_samples[row]), normalize)

    return read


def middle(speech: Speech, identifier: Identifier, seconds: float) -> Callable[[Place], torch.Tensor]:
    """Return what reads the middle of an utterance, normalised as a file of that length would be."""
    read, size = whole(speech, normalize=False), int(seconds * SAMPLE_RATE)

    def crop(place: Place) -> torch.Tensor:
        source = read(place)
        start = (len(source) - size) // 2
        source = source[start : start + size]
        return audio.standardized(source) if identifier.normalize else source

    return crop
