"""One dataset over many languages: weighted, reproducible, resumable, shardable over ranks.

Utterances are numbered through over all languages. What an epoch holds is a function of (seed, epoch) alone, so a
resumed run and every rank see the same plan; fairseq's EpochBatchIterator then shards the batches over ranks.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fairseq.data import Dictionary, FairseqDataset, data_utils

from mms_recipes import manifest, sampling
from mms_recipes.data import audio
from mms_recipes.unit_kinds import UnitKind

# utterances within 0.1 s of each other count as equally long when batches are formed: less padding, more chance
LENGTH_BUCKET = audio.SAMPLE_RATE // 10


@dataclass(frozen=True)
class Corpus:
    """One language of a split: its manifest and, where there are labels, its letters (pieces) and their dictionary.

    `collection` is the corpus that the language is part of, where a job draws from several (pretraining).
    """

    lang: str
    utterances: manifest.Manifest
    units: manifest.Lines | None = None
    dictionary: Dictionary | None = None
    collection: str = ""

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"{self.collection}/{self.lang}" if self.collection else self.lang

    @property
    def key(self) -> int:
        """A number for this language that does not depend on which other languages are in the job."""
        return zlib.crc32(self.name.encode())

    def encode(self, index: int) -> torch.Tensor:
        """Unit ids of utterance `index`: int64 (U,)."""
        assert self.units is not None and self.dictionary is not None
        return torch.tensor([self.dictionary.index(unit) for unit in self.units[index].split()])


def read_corpus(
    folder: Path,
    lang: str,
    split: str,
    dictionary: Dictionary | None,
    kind: UnitKind = UnitKind.letters,
    collection: str = "",
) -> Corpus:
    """Open folder/lang/split.tsv, and its labels of this kind when a dictionary is given."""
    utterances = manifest.read_manifest(folder / lang / f"{split}.tsv")
    if dictionary is None:
        return Corpus(lang, utterances, collection=collection)
    return Corpus(lang, utterances, manifest.read_lines(folder / lang / f"{split}.{kind.suffix}"), dictionary)


class MixtureDataset(FairseqDataset):
    """Utterances of several languages behind one index.

    `weights` shape an epoch: each language's share of its hours (None: every utterance once, in order: dev and test).
    `normalize` gives each utterance zero mean and unit variance. Without labels (pretraining) utterances are at most
    `max_samples` long, cut at random, and those shorter than `min_samples` are left out.

    Raises ValueError when nothing of a language is long enough.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        *,
        weights: Sequence[float] | npt.NDArray[np.float64] | None,
        seed: int,
        normalize: bool,
        max_samples: int | None = None,
        min_samples: int = 0,
    ) -> None:
        super().__init__()
        self.corpora = list(corpora)
        self.langs = [corpus.name for corpus in corpora]
        self.weights = None if weights is None else np.asarray(weights, np.float64)
        self.seed, self.normalize, self.max_samples = seed, normalize, max_samples
        counts = np.array([len(corpus.utterances) for corpus in corpora], dtype=np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(counts)])
        samples = [corpus.utterances.num_samples for corpus in corpora]
        self.num_samples: npt.NDArray[np.int32] = np.concatenate(samples).astype(np.int32, copy=False)
        # what is long enough: None while that is everything, so that 13 million utterances cost nothing
        long_enough = self.num_samples >= min_samples
        self.rows = None if long_enough.all() else np.flatnonzero(long_enough)
        self.starts = self.offsets if self.rows is None else np.searchsorted(self.rows, self.offsets)
        empty = [lang for lang, count in zip(self.langs, np.diff(self.starts), strict=True) if count == 0]
        if empty:
            raise ValueError(
                f"{', '.join(empty[:10])}: no utterance has {min_samples / audio.SAMPLE_RATE:g} s; leave the language "
                "out (task.langs, task.corpora), or lower task.min_seconds"
            )
        self.epoch = 1

    # ---- one utterance

    def locate(self, index: int) -> tuple[int, int]:
        """Return (position of the language, index within the language) of a global index."""
        lang = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return lang, int(index - self.offsets[lang])

    def name(self, index: int) -> str:
        """What to call an utterance in a message: language and path."""
        lang, row = self.locate(index)
        return f"{self.langs[lang]}: {self.corpora[lang].utterances.path(row)}"

    def __len__(self) -> int:
        return len(self.num_samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        lang, row = self.locate(index)
        corpus = self.corpora[lang]
        source = audio.read_utterance(corpus.utterances.path(row), int(self.num_samples[index]), self.normalize)
        item = {"id": int(index), "lang": lang, "source": source}
        return item if corpus.units is None else item | {"target": corpus.encode(row)}

    def collater(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch: source (B, S), padding_mask (B, S), langs (B,), target (B, U) padded, target_lengths (B,).

        `seconds`: audio in it, padding not counted.
        """
        if not items:
            return {}
        ids = torch.tensor([item["id"] for item in items])
        sources = [item["source"] for item in items]
        if "target" not in items[0]:
            generator = torch.Generator().manual_seed(hash((self.seed, self.epoch, int(ids[0]))) % 2**63)
            if self.max_samples is not None:
                sources = [_crop(source, self.max_samples, generator) for source in sources]
            source = audio.crop_to_shortest(sources, generator)
            seconds = source.numel() / audio.SAMPLE_RATE
            return {"id": ids, "seconds": seconds, "net_input": {"source": source, "padding_mask": None}}
        source, padding_mask = audio.pad(sources)
        langs = torch.tensor([item["lang"] for item in items])
        targets = [item["target"] for item in items]
        lengths = torch.tensor([len(target) for target in targets])
        target = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=Dictionary().pad())
        return {
            "id": ids,
            "langs": langs,
            "seconds": sum(map(len, sources)) / audio.SAMPLE_RATE,
            "net_input": {"source": source, "padding_mask": padding_mask},
            "target": target,
            "target_lengths": lengths,
            "ntokens": int(lengths.sum()),
        }

    # ---- one epoch

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        return False

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def epoch_indices(self, epoch: int) -> npt.NDArray[np.int64]:
        """Global indices of the utterances that `epoch` (from 1) draws, in the language's own random order."""
        if self.weights is None:
            return np.arange(len(self)) if self.rows is None else self.rows
        counts = np.diff(self.starts)
        drawn = sampling.epoch_counts(counts, self.seconds(), self.weights)
        places = np.concatenate(
            [
                start + sampling.stream(int(size), int((epoch - 1) * n), int(n), self.seed, corpus.key)
                for corpus, start, size, n in zip(self.corpora, self.starts[:-1], counts, drawn, strict=True)
            ]
        )
        return places if self.rows is None else self.rows[places]

    def seconds(self) -> npt.NDArray[np.float64]:
        """Seconds of each language that an epoch can give: what is long enough, as long as it is after cropping."""
        sizes = self.num_samples if self.rows is None else self.num_samples[self.rows]
        if self.max_samples is not None:
            sizes = np.minimum(sizes, self.max_samples)
        return np.add.reduceat(sizes, self.starts[:-1], dtype=np.float64) / audio.SAMPLE_RATE

    def batches(self, epoch: int, max_samples: int) -> list[npt.NDArray[np.int64]]:
        """Batches of similar length, at most `max_samples` when padded; a longer utterance is a batch of its own."""
        indices = self.epoch_indices(epoch)
        sizes = self.num_samples[indices]
        if self.max_samples is not None:
            sizes = np.minimum(sizes, self.max_samples)
        if self.weights is not None:  # mix languages among utterances of one length
            shuffled = sampling.permutation(len(indices), self.seed, epoch)
            indices, sizes = indices[shuffled], sizes[shuffled]
        order = np.argsort((sizes // LENGTH_BUCKET).astype(np.uint16), kind="stable")
        # required_batch_size_multiple must be 1: fairseq drops the end of the data when it is not a multiple
        batches: list[npt.NDArray[np.int64]] = data_utils.batch_by_size(
            indices[order],
            num_tokens_fn=None,
            num_tokens_vec=np.minimum(sizes[order], max_samples).astype(np.int64),
            max_tokens=max_samples,
            required_batch_size_multiple=1,
        )
        return batches

    # ---- what fairseq asks of a dataset

    def ordered_indices(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self))

    def num_tokens(self, index: int) -> int:
        return int(self.num_samples[index])

    def size(self, index: int) -> int:
        return int(self.num_samples[index])


def _crop(source: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    start = int(torch.randint(max(1, len(source) - size + 1), (), generator=generator))
    return source[start : start + size]
