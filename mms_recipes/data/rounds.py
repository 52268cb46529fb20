"""LSAH's order of data: one round is one update of every language, each with its own batch.

Language l takes the next k_l utterances of its own endless shuffled stream, so what it sees, and in which order, does
not depend on the other languages of the job. The round's utterances are then sorted by length and cut into
micro-batches that mix languages: only speed and memory depend on that, the sum of the gradients does not.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fairseq.data import data_utils
from fairseq.data.iterators import CountingIterator, EpochBatchIterating

from mms_recipes import sampling
from mms_recipes.data import workers
from mms_recipes.data.mixture import MixtureDataset

SHARES_KEPT = 64  # rounds; data workers are a few batches ahead


class Rounds:
    """Which utterances each round holds.

    `update_seconds`: audio per language and update; a language takes that much divided by its mean utterance, at least
    one utterance and at most all that it has. `max_samples`: size of a padded micro-batch.
    """

    def __init__(self, dataset: MixtureDataset, update_seconds: float, max_samples: int) -> None:
        self.dataset, self.max_samples = dataset, max_samples
        self.per_update: list[int] = []
        for corpus in dataset.corpora:
            count, seconds = len(corpus.utterances), corpus.utterances.seconds()
            self.per_update.append(min(count, max(1, round(update_seconds / seconds * count))))

    def language_batch(self, lang: int, update: int) -> npt.NDArray[np.int64]:
        """Global indices of the utterances that language `lang` learns from in update number `update` (from 0)."""
        corpus, count = self.dataset.corpora[lang], self.per_update[lang]
        rows = sampling.stream(len(corpus.utterances), update * count, count, self.dataset.seed, corpus.key)
        return rows + self.dataset.offsets[lang]

    def micro_batches(self, update: int) -> list[npt.NDArray[np.int64]]:
        """The round's utterances in batches of similar length, at most max_samples when padded."""
        indices = np.concatenate([self.language_batch(lang, update) for lang in range(len(self.per_update))])
        sizes = self.dataset.num_samples[indices]
        order = np.argsort(sizes, kind="stable")
        batches: list[npt.NDArray[np.int64]] = data_utils.batch_by_size(
            indices[order],
            num_tokens_fn=None,
            num_tokens_vec=np.minimum(sizes[order], self.max_samples).astype(np.int64),
            max_tokens=self.max_samples,
            required_batch_size_multiple=1,
        )
        return batches


class Round:
    """One update's micro-batches, loaded as they are asked for. fairseq hands it to the task as one sample."""

    def __init__(self, update: int, num_batches: int, batches: Iterator[dict[str, Any]]) -> None:
        self.update, self.num_batches, self.batches = update, num_batches, batches

    def __len__(self) -> int:
        """Never 0: fairseq takes an empty sample for a dummy, but a rank without a share still joins the update."""
        return self.num_batches + 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in range(self.num_batches):
            yield next(self.batches)


class RoundIterator(EpochBatchIterating):
    """What fairseq's trainer iterates over: one epoch that holds every round up to the last update.

    Its state is the number of rounds done. Each rank takes every world_size-th micro-batch of a round.
    """

    def __init__(
        self,
        rounds: Rounds,
        num_updates: int,
        *,
        num_workers: int = 0,
        num_shards: int = 1,
        shard_id: int = 0,
        timed: Callable[[Iterator[Any]], Iterator[Any]] = iter,
    ) -> None:
        self.rounds, self.num_updates = rounds, num_updates
        self.num_workers, self.num_shards, self.shard_id = num_workers, num_shards, shard_id
        self.timed = timed  # counts how long batches take to come
        self.start = 0
        self.epoch = 1
        self.current: CountingIterator | None = None

    first_batch = "DUMMY"  # fairseq: no batch is read before training starts
    next_epoch_idx = 1

    def __len__(self) -> int:
        return self.num_updates

    def _share(self, update: int) -> list[npt.NDArray[np.int64]]:
        return self.rounds.micro_batches(update)[self.shard_id :: self.num_shards]

    def _load(self, start: int) -> Iterator[Round]:
        dataset = self.rounds.dataset
        updates = range(start, self.num_updates)
        share = functools.lru_cache(SHARES_KEPT)(self._share)  # asked for by the loader and, a little later, here
        loader = iter(
            torch.utils.data.DataLoader(
                dataset,
                batch_sampler=(batch for update in updates for batch in share(update)),  # type: ignore[misc]
                **workers.settings(dataset.collater, self.num_workers),
            )
        )
        batches = self.timed(loader)
        for update in updates:
            yield Round(update, len(share(update)), batches)

    def next_epoch_itr(
        self, shuffle: bool = True, fix_batches_to_gpus: bool = False, set_dataset_epoch: bool = True
    ) -> CountingIterator:
        self.current = CountingIterator(self._load(self.start), start=self.start, total=self.num_updates)
        return self.current

    def end_of_epoch(self) -> bool:
        return self.current is not None and not self.current.has_next()

    @property
    def iterations_in_epoch(self) -> int:
        return self.start if self.current is None else self.current.n

    def state_dict(self) -> dict[str, Any]:
        return {"version": 2, "epoch": 1, "iterations_in_epoch": self.iterations_in_epoch, "shuffle": True}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start, self.current = int(state_dict["iterations_in_epoch"]), None
