"""Dense CTC fine-tuning on many languages: one head over the union of their letters (MMS paper section 5.1)."""

import contextlib
import io
import logging
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics as fairseq_metrics
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING, OmegaConf, open_dict

from mms_recipes import checkpoints, languages, validation
from mms_recipes.data.mixture import MixtureDataset, read_corpus
from mms_recipes.metrics import ErrorCounts

logger = logging.getLogger(__name__)


@dataclass
class FinetuningConfig(FairseqDataclass):
    data: str = field(default=MISSING, metadata={"help": "folder of <lang>/<split>.tsv and .ltr (tools/prepare_*.py)"})
    langs: list[str] = field(
        default_factory=list, metadata={"help": "language ids and set names (asr_l1107); empty: every language in data"}
    )
    num_shards: int = field(default=1, metadata={"help": "split the languages into this many jobs, >= 1"})
    shard: int = field(default=0, metadata={"help": "which of the jobs this is, 0 to num_shards - 1"})
    beta: float = field(default=1.0, metadata={"help": "language sampling, 1: natural shares, 0: all alike"})
    normalize: bool = field(default=True, metadata={"help": "zero mean, unit variance per utterance, as the base had"})
    seed: int = II("common.seed")
    max_update: int = II("optimization.max_update")


def job_languages(cfg: FinetuningConfig) -> list[str]:
    """The languages of this job: cfg.langs resolved (or all that cfg.data holds), then this shard's share."""
    langs = languages.resolve(cfg.langs) if cfg.langs else validation.find_languages(Path(cfg.data))
    return languages.shard(langs, cfg.num_shards, cfg.shard)


@register_task("mms_finetuning", dataclass=FinetuningConfig)
class FinetuningTask(FairseqTask):
    """All languages through one head; dev error rates by language."""

    def __init__(self, cfg: FinetuningConfig) -> None:
        super().__init__(cfg)
        self.state.add_factory("target_dictionary", lambda: self.dictionaries[0])
        self._started: tuple[float, int] | None = None

    @classmethod
    def setup_task(cls, cfg: FinetuningConfig, **kwargs: Any) -> "FinetuningTask":
        """Build the task; nothing is read yet, since fairseq also builds it to load a model of it (from_checkpoint)."""
        return cls(cfg)

    @cached_property
    def langs(self) -> list[str]:
        """The languages of this job."""
        return job_languages(self.cfg)

    @cached_property
    def dictionaries(self) -> list[Dictionary]:
        """Letters of each language's head; dense: the union of all, so the same for each."""
        union = Dictionary.load(str(Path(self.cfg.data) / "dict.ltr.txt"))
        return [union] * len(self.langs)

    @property
    def target_dictionary(self) -> Dictionary:
        """What wav2vec_ctc sizes its head by; from now on saved with the model, where stock fairseq looks for it."""
        return self.state.target_dictionary

    source_dictionary = None

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build fairseq's model; `w2v_path` may also be a checkpoint with a CTC head, which is left off."""
        with contextlib.redirect_stdout(io.StringIO()), checkpoints.as_pretrained(cfg.get("w2v_path")) as path:
            # fairseq prints the whole model
            model = super().build_model(OmegaConf.merge(cfg, {"w2v_path": path}) if path else cfg, from_checkpoint)
        if "w2v_args" in cfg and cfg.w2v_args is None:
            # fairseq fills this in on a copy: without it the checkpoint works only while the base is at its old path
            with open_dict(cfg):
                cfg.w2v_args = model.cfg.w2v_args
        return model

    # ---- data

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        pairs = zip(self.langs, self.dictionaries, strict=True)
        corpora = [read_corpus(Path(self.cfg.data), lang, split, dictionary) for lang, dictionary in pairs]
        train = split == "train"
        self.datasets[split] = MixtureDataset(
            corpora,
            beta=self.cfg.beta if train else None,
            seed=self.cfg.seed,
            normalize=self.cfg.normalize,
        )

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
    ) -> EpochBatchIterator:
        assert max_tokens is not None
        return EpochBatchIterator(
            dataset=dataset,
            collate_fn=dataset.collater,
            batch_sampler=lambda data, number: data.batches(number, max_tokens),
            seed=seed,
            num_shards=num_shards,
            shard_id=shard_id,
            num_workers=num_workers,
            epoch=epoch,
            buffer_size=data_buffer_size,
            disable_shuffling=dataset.beta is None,
        )

    def name(self, index: int, training: bool) -> str:
        """What to call an utterance of a batch in a message."""
        splits = [split for split in self.datasets if (split == "train") == training]
        return self.datasets[splits[0]].name(index)

    # ---- training

    def train_step(
        self, sample: Any, model: Any, criterion: Any, optimizer: Any, update_num: int, **kwargs: Any
    ) -> Any:
        self.log_time_left(update_num)
        # layer drop draws from numpy's generator, which fairseq seeds once a run: a resumed run would differ;
        # torch's generator it seeds before every update
        np.random.seed(int(torch.randint(2**31, ())))
        return super().train_step(sample, model, criterion, optimizer, update_num, **kwargs)

    def log_time_left(self, update_num: int) -> None:
        """Log the minutes that the remaining updates will take at the pace so far."""
        if self._started is None:
            self._started = (time.monotonic(), update_num)
        start, first = self._started
        if update_num > first:
            pace = (time.monotonic() - start) / (update_num - first)
            minutes = pace * max(0, self.cfg.max_update - update_num) / 60
            fairseq_metrics.log_scalar("minutes_left", minutes, weight=0, round=1)

    # ---- dev error rates by language

    def begin_valid_epoch(self, epoch: int, model: Any) -> None:
        self.characters = [ErrorCounts(0, 0, 0, 0) for _ in self.langs]
        self.words = [ErrorCounts(0, 0, 0, 0) for _ in self.langs]
        self.hypothesis_lengths = [0] * len(self.langs)
        self.pairs: list[tuple[str, str, str]] = []

    def record(self, lang: int, characters: ErrorCounts, words: ErrorCounts, reference: str, hypothesis: str) -> None:
        """Add one dev utterance's counts."""
        self.characters[lang] += characters
        self.words[lang] += words
        self.hypothesis_lengths[lang] += len(hypothesis)
        if len(self.pairs) < 3:
            self.pairs.append((self.langs[lang], reference, hypothesis))

    def post_validate(self, model: Any, stats: dict[str, Any], agg: Any) -> None:
        """Show what came out, by language, and warn when it is nothing but blanks."""
        self._sum_over_ranks()
        for lang, reference, hypothesis in self.pairs:
            logger.info("%s REF %s", lang, reference)
            logger.info("%s HYP %s", lang, hypothesis)
        rates = {
            lang: counts.rate
            for lang, counts in zip(self.langs, self.characters, strict=True)
            if counts.reference_length
        }
        if not rates:
            return
        worst = sorted(rates, key=rates.__getitem__, reverse=True)[:10]
        logger.info(
            "dev CER: macro %.2f over %d languages; worst: %s",
            sum(rates.values()) / len(rates),
            len(rates),
            ", ".join(f"{lang} {rates[lang]:.1f}" for lang in worst),
        )
        silent = [lang for lang, n in zip(self.langs, self.hypothesis_lengths, strict=True) if n == 0 and lang in rates]
        if silent and stats["num_updates"] >= self.cfg.max_update // 4:
            logger.warning(
                "only blanks come out for %s after %d of %d updates. Usual causes, in this order: too few updates or "
                "too low a learning rate; labels without the '|' mark; a base of another kind (normalize, sample rate)",
                ", ".join(silent[:10]),
                stats["num_updates"],
                self.cfg.max_update,
            )

    def _sum_over_ranks(self) -> None:
        """Each rank validated its share: add up the counts of all."""
        if not torch.distributed.is_initialized():
            return
        fields = ("substitutions", "deletions", "insertions", "reference_length")
        rows = [
            [getattr(counts, name) for counts in pair for name in fields] + [length]
            for *pair, length in zip(self.characters, self.words, self.hypothesis_lengths, strict=True)
        ]
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        table = torch.tensor(rows, device=device)
        torch.distributed.all_reduce(table)
        summed = table.tolist()
        self.characters = [ErrorCounts(*row[:4]) for row in summed]
        self.words = [ErrorCounts(*row[4:8]) for row in summed]
        self.hypothesis_lengths = [row[8] for row in summed]
