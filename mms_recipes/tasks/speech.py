"""What all tasks on speech share: batches over a mixture of languages, reproducible steps, what a log line tells."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics as fairseq_metrics
from fairseq.tasks import FairseqTask
from omegaconf import II, MISSING

from mms_recipes.cluster import progress
from mms_recipes.data import workers
from mms_recipes.data.mixture import MixtureDataset

logger = logging.getLogger(__name__)

T = TypeVar("T")
SHOWN = 10  # names in a message


@dataclass
class SpeechTaskConfig(FairseqDataclass):
    data: str = field(default=MISSING, metadata={"help": "folder of the manifests (tools/prepare_*.py)"})
    langs: list[str] = field(
        default_factory=list, metadata={"help": "language ids and set names (asr_l1107); empty: every language in data"}
    )
    normalize: bool = field(default=True, metadata={"help": "zero mean, unit variance per utterance, as the base had"})
    hours_per_update: float | None = field(
        default=None,
        metadata={"help": "audio of one update on all devices, hours; optimization.update_freq is derived from it"},
    )
    seed: int = II("common.seed")
    max_update: int = II("optimization.max_update")


class Waiting:
    """How much of the time training stands still because the next batch is not there yet."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Leave out what was until now (validation)."""
        self.seconds, self.since = 0.0, time.monotonic()

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """Yield the batches, and count how long each took to come."""
        while True:
            start = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.seconds += time.monotonic() - start
            yield batch

    def share(self) -> tuple[float, float]:
        """Return (percent of the time spent waiting, that time in seconds) since this was last asked."""
        elapsed = max(time.monotonic() - self.since, 1e-9)
        percent = min(100.0, 100 * self.seconds / elapsed)
        self.restart()
        return percent, elapsed


class SpeechBatchIterator(EpochBatchIterator):
    """fairseq's iterator over the batches of an epoch; `waiting` learns how long each batch took to come."""

    waiting: Waiting | None = None

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"num_shards": self.num_shards}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the same place of the epoch on any number of ranks; fairseq counts the batches of one rank."""
        ranks = state_dict.get("num_shards", self.num_shards)
        done = state_dict["iterations_in_epoch"] * ranks // self.num_shards
        super().load_state_dict(state_dict | {"iterations_in_epoch": done})

    def _get_iterator_for_epoch(self, *args: Any, **kwargs: Any) -> Any:
        batches = super()._get_iterator_for_epoch(*args, **kwargs)
        if batches is not None:
            timed = batches._itr if self.waiting is None else self.waiting.timed(batches._itr)
            batches._itr = _to_the_end(timed, batches.total - batches.n)
        return batches


def _to_the_end(batches: Iterator[T], count: int) -> Iterator[T]:
    """Yield `count` batches, and with the last one let the data workers end.

    fairseq stops by count and leaves the loader waiting; when it is collected, each worker takes five seconds to end.
    """
    for number, batch in enumerate(batches, start=1):
        if number == count:
            next(batches, None)
        yield batch


class SpeechTask(FairseqTask):
    """A task over `MixtureDataset`s."""

    def __init__(self, cfg: SpeechTaskConfig) -> None:
        super().__init__(cfg)
        self.waiting = Waiting()
        self._started: tuple[float, int] | None = None
        self._seconds = 0.0  # of audio since then
        self._update, self._micro_batch = -1, 0

    @classmethod
    def setup_task(cls, cfg: SpeechTaskConfig, **kwargs: Any) -> Any:
        """Build the task; nothing is read yet, since fairseq also builds it to load a model of it (from_checkpoint)."""
        return cls(cfg)

    source_dictionary: Any = None
    target_dictionary: Any = None

    # ---- data

    def get_batch_iterator(
        self,
        dataset: MixtureDataset,
        max_tokens: int | None = None,
        seed: int = 1,
        num_shards: int = 1,
        shard_id: int = 0,
        num_workers: int = 0,
        epoch: int = 1,
        data_buffer_size: int = 0,
        **kwargs: Any,
    ) -> Any:
        assert max_tokens is not None
        iterator = SpeechBatchIterator(
            dataset=dataset,
            batch_sampler=lambda data, number: data.batches(number, max_tokens),
            seed=seed,
            num_shards=num_shards,
            shard_id=shard_id,
            **workers.settings(dataset.collater, num_workers),
            epoch=epoch,
            buffer_size=data_buffer_size,
            disable_shuffling=dataset.weights is None,
            persistent_workers=False,  # an epoch has its own loader
        )
        iterator.waiting = None if dataset.weights is None else self.waiting
        return iterator

    def name(self, index: int, training: bool) -> str:
        """What to call an utterance of a batch in a message."""
        splits = [split for split in self.datasets if (split == "train") == training]
        return self.datasets[splits[0]].name(index)

    # ---- training

    def train_step(
        self, sample: Any, model: Any, criterion: Any, optimizer: Any, update_num: int, **kwargs: Any
    ) -> Any:
        self.log_pace(update_num, sample["seconds"])
        # layer drop draws from numpy's generator, which fairseq seeds once a run: a resumed run would differ, and so
        # would ranks, of which none may leave out a layer alone (torch's generator it seeds before every update)
        self._micro_batch = self._micro_batch + 1 if update_num == self._update else 0
        self._update = update_num
        np.random.seed((self.cfg.seed, update_num, self._micro_batch))
        # dropout, masks, negatives, Gumbel noise: of the batch, not of the rank that has it or of what came before it
        key = np.random.SeedSequence((self.cfg.seed, update_num, int(sample["id"][0])))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))
        return super().train_step(sample, model, criterion, optimizer, update_num, **kwargs)

    def log_pace(self, update_num: int, seconds: float) -> None:
        """Log audio per second, the share of time spent waiting for data, and the minutes that are left."""
        devices = distributed_utils.get_data_parallel_world_size()
        fairseq_metrics.log_speed("audio_per_second", seconds * devices, round=0)
        percent, elapsed = self.waiting.share()
        fairseq_metrics.log_scalar("data_wait_percent", percent, weight=elapsed, round=1)
        if self._started is None:
            self._started = (time.monotonic(), update_num)
        start, first = self._started
        if update_num > first:
            pace = (time.monotonic() - start) / (update_num - first)
            minutes = pace * max(0, self.cfg.max_update - update_num) / 60
            fairseq_metrics.log_scalar("minutes_left", minutes, weight=0, round=1)
            speed = self._seconds * devices / (time.monotonic() - start)
            progress.tell(num_updates=update_num, audio_per_second=speed, minutes_left=minutes)
        self._seconds += seconds

    def post_validate(self, model: Any, stats: dict[str, Any], agg: Any) -> None:
        """Tell how far the run is. Waiting is told of training alone.

        Raises ValueError where no dev loss is finite because the model is not: it would replace the checkpoint before.
        """
        if not math.isfinite(stats.get("loss", 0.0)):
            broken = [name for name, tensor in model.named_parameters() if not bool(torch.isfinite(tensor).all())]
            if broken:
                raise ValueError(
                    f"update {stats['num_updates']}: {len(broken)} parameters are not finite ({broken[0]}, ...): the "
                    "training has diverged. It is not saved, the checkpoint before stays. Usual cause: a learning rate "
                    "that is too high; lower optimization.lr and go on with accept_changes=true, or give another "
                    "name=..."
                )
            logger.warning("update %d: the dev loss is not finite; it is no score of this update", stats["num_updates"])
        progress.tell(now=True, num_updates=int(stats["num_updates"]))
        self.waiting.restart()

    def warn_of_unscored(self, names: Sequence[str]) -> None:
        """Name the languages of which no dev utterance has a finite loss."""
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            logger.warning(
                "no dev utterance of %s has a finite loss: there is no score of it. Usual causes: NaN in its audio "
                "(check with tools/validate_manifests.py), or a learning rate that is too high",
                ", ".join(names[:SHOWN]) + more,
            )
