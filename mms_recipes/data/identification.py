"""Utterances and the class of their language: cropped and augmented in training, as they are on dev."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mms_recipes.data import audio
from mms_recipes.data.augmentation import Augmentation
from mms_recipes.data.mixture import Corpus, MixtureDataset


class IdentificationDataset(MixtureDataset):
    """A mixture whose labels are classes: `targets[i]` is the class of corpora[i]; several may have one class.

    With `weights` (training) an utterance that is longer than `max_samples` gives a random part of it, augmented;
    without (dev), the middle of it. An utterance that an epoch draws several times is another part each time.
    """

    def __init__(
        self, corpora: Sequence[Corpus], targets: Sequence[int], augmentation: Augmentation, **settings: Any
    ) -> None:
        super().__init__(corpora, **settings)
        assert len(targets) == len(corpora) and self.max_samples is not None
        self.targets, self.augmentation = list(targets), augmentation

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One utterance; `index` is a place in the mixture, plus its length for each time it was drawn before."""
        before, index = divmod(int(index), len(self))
        lang, row = self.locate(index)
        corpus = self.corpora[lang]
        source = audio.read_utterance(corpus.utterances.path(row), int(self.num_samples[index]), normalize=False)
        source = self._middle(source) if self.weights is None else self._part(source, (corpus.key, row, before))
        if self.normalize:  # after cropping: as a file of this length would be
            source = audio.standardized(source)
        return {"id": index, "target": self.targets[lang], "source": source}

    def _middle(self, source: torch.Tensor) -> torch.Tensor:
        assert self.max_samples is not None
        start = max(0, len(source) - self.max_samples) // 2
        return source[start : start + self.max_samples]

    def _part(self, source: torch.Tensor, key: tuple[int, ...]) -> torch.Tensor:
        """A random part, changed, at most max_samples long; a function of seed, epoch and key alone."""
        assert self.max_samples is not None
        generator = np.random.default_rng((self.seed, self.epoch, *key))

        def crop(samples: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
            start = int(generator.random() * (max(0, len(samples) - size) + 1))
            return samples[start : start + size]

        long_enough = int(self.max_samples * self.augmentation.fastest)  # whatever the speed, no more is needed
        changed = self.augmentation.apply(crop(source.numpy(), long_enough), generator)
        return torch.from_numpy(np.ascontiguousarray(crop(changed, self.max_samples)))

    def collater(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch: source (B, S), padding_mask (B, S), target (B,). `seconds`: audio in it, without padding."""
        if not items:
            return {}
        sources = [item["source"] for item in items]
        source, padding_mask = audio.pad(sources)
        return {
            "id": torch.tensor([item["id"] for item in items]),
            "seconds": sum(map(len, sources)) / audio.SAMPLE_RATE,
            "net_input": {"source": source, "padding_mask": padding_mask},
            "target": torch.tensor([item["target"] for item in items]),
        }

    def batches(self, epoch: int, max_samples: int) -> list[npt.NDArray[np.int64]]:
        """The mixture's batches; an utterance that comes again is numbered, so that it is not the same part again.

        In training they stay within `max_samples` also when all their utterances are slowed down.
        """
        slowest = 1.0 if self.weights is None else self.augmentation.slowest
        found = super().batches(epoch, int(max_samples * slowest))
        flat = np.concatenate(found)
        order = np.argsort(flat, kind="stable")
        first = np.flatnonzero(np.diff(flat[order], prepend=-1))
        times = np.diff(np.append(first, len(flat)))
        numbered = np.empty_like(flat)
        numbered[order] = flat[order] + (np.arange(len(flat)) - np.repeat(first, times)) * len(self)
        return np.split(numbered, np.cumsum([len(batch) for batch in found])[:-1])
