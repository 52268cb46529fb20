"""Utterances of a split in batches, and the emissions of a language's utterances, block by block."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mms_recipes import manifest
from mms_recipes.data import audio
from mms_recipes.recognizer import Recognizer

logger = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 30  # emissions that wait for their beam search


class Split:
    """One language's utterances and their references."""

    def __init__(self, folder: Path, split: str) -> None:
        self.utterances = manifest.read_manifest(folder / f"{split}.tsv")
        self.labels = manifest.read_labels(folder, split, len(self.utterances))
        if not len(self.utterances):
            raise ValueError(
                f"{folder / split}.tsv: no utterances; prepare it again, or leave {folder.name} out with langs=[...]"
            )
        empty = sum(not words.strip() for words in self.labels.words)
        if empty == len(self.utterances):
            raise ValueError(
                f"{self.labels.words.file}: all {empty:,} references are empty (normalised to nothing?), so there "
                "is no error rate; prepare the corpus again, or give references in the script of the language"
            )
        if empty:
            logger.warning("%s: %d of %d references are empty", self.labels.words.file, empty, len(self.utterances))

    def read(self, row: int, normalize: bool) -> torch.Tensor:
        """Read the audio of an utterance: float32 (S,), standardised if `normalize`."""
        return audio.read_utterance(self.utterances.path(row), int(self.utterances.num_samples[row]), normalize)


def batches(order: np.ndarray, sizes: np.ndarray, max_samples: int) -> Iterator[np.ndarray]:
    """Yield `order`, indices of utterances from the longest to the shortest, in batches.

    `sizes` are the samples of each utterance by index. A batch has at most `max_samples`, padding included; an
    utterance that is longer is one by itself.
    """
    start = 0
    while start < len(order):
        count = max(1, max_samples // max(1, int(sizes[order[start]])))  # the first is the longest
        yield order[start : start + count]
        start += count


def read_batch(
    recognizer: Recognizer, splits: dict[str, Split], chosen: list[tuple[str, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded audio (B, S) of utterances and their lengths (B,)."""
    padded, padding = audio.pad([splits[lang].read(row, recognizer.normalize) for lang, row in chosen])
    return padded, (~padding).sum(1)


def blocks(
    recognizer: Recognizer, lang: str, split: Split, max_samples: int
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Yield rows and their emissions (T, V) of a language, longest first, in blocks of about BLOCK_BYTES."""
    sizes = split.utterances.num_samples
    units = len(recognizer.dictionary(lang))
    rows: list[int] = []
    emissions: list[np.ndarray] = []
    for batch in batches(np.argsort(-sizes.astype(np.int64), kind="stable"), sizes, max_samples):
        padded, lengths = read_batch(recognizer, {lang: split}, [(lang, row) for row in batch])
        emissions_BTV, frames_B = recognizer.emissions(padded, lengths, [lang] * len(batch), ready=True)
        emissions_BTV = emissions_BTV[:, :, :units].cpu()  # a language's head may be narrower than the stack of all
        emissions += [e[:t].numpy().copy() for e, t in zip(emissions_BTV, frames_B.tolist(), strict=True)]
        rows += batch.tolist()
        if sum(e.nbytes for e in emissions) >= BLOCK_BYTES:
            yield rows, emissions
            rows, emissions = [], []
    if rows:
        yield rows, emissions
