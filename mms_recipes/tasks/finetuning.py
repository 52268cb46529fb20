"""Dense CTC fine-tuning on many languages: one head over the union of their letters (MMS paper section 5.1)."""

import contextlib
import io
import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.tasks import register_task
from omegaconf import OmegaConf, open_dict

from mms_recipes import checkpoints, languages, metrics, sampling
from mms_recipes.adapter_files import UNITS
from mms_recipes.cluster import progress
from mms_recipes.corpora import validation
from mms_recipes.data.mixture import MixtureDataset, read_corpus
from mms_recipes.metrics import ErrorCounts
from mms_recipes.tasks.speech import SpeechTask, SpeechTaskConfig
from mms_recipes.unit_kinds import UnitKind
from mms_recipes.units import Units, folder_units

logger = logging.getLogger(__name__)


@dataclass
class FinetuningConfig(SpeechTaskConfig):
    units: UnitKind = field(
        default=UnitKind.letters,
        metadata={"help": "what is written: letters, or sentencepiece (pieces of words, tools/build_units.py)"},
    )
    num_shards: int = field(default=1, metadata={"help": "split the languages into this many jobs, >= 1"})
    shard: int = field(default=0, metadata={"help": "which of the jobs this is, 0 to num_shards - 1"})
    beta: float = field(default=1.0, metadata={"help": "language sampling, 1: natural shares, 0: all alike"})


def job_languages(cfg: FinetuningConfig) -> list[str]:
    """The languages of this job: cfg.langs resolved (or all that cfg.data holds), then this shard's share."""
    langs = languages.resolve(cfg.langs) if cfg.langs else validation.find_languages(Path(cfg.data))
    return languages.shard(langs, cfg.num_shards, cfg.shard)


@register_task("mms_finetuning", dataclass=FinetuningConfig)
class FinetuningTask(SpeechTask):
    """All languages through one head; dev error rates by language."""

    def __init__(self, cfg: FinetuningConfig) -> None:
        super().__init__(cfg)
        self.state.add_factory("target_dictionary", lambda: self.dictionaries[0])

    @cached_property
    def langs(self) -> list[str]:
        """The languages of this job."""
        return job_languages(self.cfg)

    @property
    def kind(self) -> UnitKind:
        """Whether letters are written or pieces."""
        return UnitKind(self.cfg.units)

    @cached_property
    def dictionaries(self) -> list[Dictionary]:
        """Letters (pieces) of each language's head; dense: the union of all, so the same for each."""
        union = Dictionary.load(str(Path(self.cfg.data) / self.kind.dictionary))
        return [union] * len(self.langs)

    @cached_property
    def units(self) -> list[Units]:
        """How each language's words are spelt."""
        return [folder_units(Path(self.cfg.data) / lang, self.kind) for lang in self.langs]

    @property
    def target_dictionary(self) -> Dictionary:
        """What wav2vec_ctc sizes its head by; from now on saved with the model, where stock fairseq looks for it."""
        return self.state.target_dictionary

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build fairseq's model; a base of wav2vec_ctc may also have a CTC head, which is left off."""
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
        corpora = [read_corpus(Path(self.cfg.data), lang, split, dictionary, self.kind) for lang, dictionary in pairs]
        if self.kind is UnitKind.sentencepiece:  # checkpoints have them, so that words can be spelt as the labels are
            models = [units.to_text() for units in self.units]
            self.state.merge_state_dict({UNITS: dict(zip(self.langs, models, strict=True))})
        seconds = [corpus.utterances.seconds() for corpus in corpora]
        weights = sampling.sampling_weights(seconds, self.cfg.beta) if split == "train" else None
        self.datasets[split] = MixtureDataset(
            corpora, weights=weights, seed=self.cfg.seed, normalize=self.cfg.normalize
        )

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
        super().post_validate(model, stats, agg)
        self._sum_over_ranks()
        for lang, reference, hypothesis in self.pairs:
            logger.info("%s REF %s", lang, reference)
            logger.info("%s HYP %s", lang, hypothesis)
        rates = {
            lang: counts.rate
            for lang, counts in zip(self.langs, self.characters, strict=True)
            if counts.reference_length
        }
        self.warn_of_unscored([lang for lang in self.langs if lang not in rates])
        if not rates:
            return
        progress.tell(now=True, dev_cer=rates)
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
        fields = (*metrics.KINDS, "reference_length")
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
