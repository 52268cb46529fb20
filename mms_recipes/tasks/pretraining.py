"""wav2vec 2.0 pretraining on the audio of many corpora and languages (MMS paper section 4.1); no labels are read."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.logging import metrics as fairseq_metrics
from fairseq.tasks import register_task
from omegaconf import II

from mms_recipes import languages, manifest, sampling
from mms_recipes.corpora import validation
from mms_recipes.data.mixture import Corpus, MixtureDataset, read_corpus
from mms_recipes.tasks.speech import SpeechTask, SpeechTaskConfig
from mms_recipes.watchdog import Watchdog

logger = logging.getLogger(__name__)


@dataclass
class PretrainingConfig(SpeechTaskConfig):
    corpora: list[str] = field(default_factory=list, metadata={"help": "folders of data to use; empty: all"})
    beta_lang: float = field(
        default=0.5, metadata={"help": "languages within a corpus, 1: by their hours (uncropped), 0: alike"}
    )
    beta_corpus: float = field(default=0.5, metadata={"help": "corpora, 1: natural shares, 0: all alike"})
    corpus_weights: dict[str, float] = field(
        default_factory=dict, metadata={"help": "factors on what beta_corpus gives a corpus, as {mls: 2}"}
    )
    max_seconds: float = field(default=20.0, metadata={"help": "longer utterances are cropped at random, seconds"})
    min_seconds: float = field(default=2.0, metadata={"help": "shorter utterances are left out, seconds"})
    warmup_updates: int = II("lr_scheduler.warmup_updates")


def find_corpora(cfg: PretrainingConfig) -> dict[str, Path]:
    """The folders of <lang>/train.tsv under cfg.data by name: its subfolders, or itself when it is one corpus.

    Raises ValueError or FileNotFoundError for a corpus without manifests, or a weight or name that no corpus has.
    """
    data = Path(cfg.data)
    if not data.is_dir():
        raise FileNotFoundError(f"task.data={data}: no such folder; give the folder of <corpus>/<lang>/train.tsv")
    folders = {path.name: path for path in sorted(data.iterdir()) if path.is_dir() and path.name[0] != "."}
    langs = [name for name, path in folders.items() if (path / "train.tsv").exists()]
    if langs and (corpora := [name for name, path in folders.items() if any(path.glob("*/train.tsv"))]):
        raise ValueError(
            f"{data}: holds languages ({', '.join(langs[:3])}) beside corpora of languages ({', '.join(corpora[:3])}); "
            "put the languages into a folder of their own, as <corpus>/<lang>/train.tsv"
        )
    found = {data.resolve().name: data} if langs else folders
    for key, names in (("corpora", cfg.corpora), ("corpus_weights", cfg.corpus_weights)):
        if absent := [name for name in names if name not in found]:
            raise ValueError(
                f"task.{key}: {', '.join(absent)}: no such corpus in {data}; there are: {', '.join(found) or 'none'}"
            )
    chosen = {name: path for name, path in found.items() if not cfg.corpora or name in cfg.corpora}
    if empty := [name for name, path in chosen.items() if not any(path.glob("*/train.tsv"))]:
        raise ValueError(
            f"{data}: {', '.join(empty)} hold(s) no <lang>/train.tsv; prepare it (tools/segment_audio.py for audio "
            "without text), or name the corpora to use: task.corpora=[...]"
        )
    if not chosen:
        raise ValueError(f"task.data={data}: holds no <lang>/train.tsv and no <corpus>/<lang>/train.tsv")
    if bad := {name: weight for name, weight in cfg.corpus_weights.items() if not weight > 0}:
        raise ValueError(f"task.corpus_weights: expected positive numbers, found {bad}")
    return chosen


def corpus_languages(cfg: PretrainingConfig) -> dict[str, list[str]]:
    """The languages of each corpus that this job draws from: those of cfg.langs that the corpus has, else all of it.

    Raises ValueError when a language of cfg.langs is in no corpus.
    """
    wanted = languages.resolve(cfg.langs) if cfg.langs else None
    there = {name: validation.find_languages(path, ["train"]) for name, path in find_corpora(cfg).items()}
    if wanted is None:
        return there
    if absent := set(wanted).difference(*there.values()):
        raise ValueError(
            f"task.langs: {', '.join(sorted(absent)[:10])}: no manifest in any of {', '.join(there)} ({cfg.data})"
        )
    chosen = {name: [lang for lang in langs if lang in wanted] for name, langs in there.items()}
    return {name: langs for name, langs in chosen.items() if langs}


@register_task("mms_pretraining", dataclass=PretrainingConfig)
class PretrainingTask(SpeechTask):
    """The manifests of many corpora and languages, cropped at random, for fairseq's wav2vec2 model and criterion."""

    def __init__(self, cfg: PretrainingConfig) -> None:
        super().__init__(cfg)
        self.watchdog: Watchdog | None = None

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build fairseq's model, and the watchdog that knows its codes and negatives."""
        if cfg.get("quantize_targets"):
            self.watchdog = Watchdog(
                groups=cfg.latent_groups,
                num_vars=cfg.latent_vars,
                num_negatives=cfg.num_negatives + cfg.cross_sample_negatives,
                max_update=self.cfg.max_update,
                warmup_updates=self.cfg.warmup_updates,
            )
        return super().build_model(cfg, from_checkpoint)

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        self.datasets[split] = read_mixture(self.cfg, split)

    def reduce_metrics(self, logging_outputs: list[Any], criterion: Any) -> None:
        """Log as fairseq does, and let the watchdog see every training update (on the rank that logs)."""
        with fairseq_metrics.aggregate() as seen:
            super().reduce_metrics(logging_outputs, criterion)
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        if self.watchdog is None or not criterion.training or not first:
            return
        numbers = dict(seen.get_smoothed_values())
        gradient = fairseq_metrics.get_meter("train_inner", "gnorm")
        if gradient is not None:
            numbers["gnorm"] = float(gradient.val)
        for alarm in self.watchdog.feed(self._update, numbers):
            logger.warning("%s", alarm)


def read_mixture(cfg: PretrainingConfig, split: str) -> MixtureDataset:
    """Open one split of all corpora; train is drawn by two-level sampling, other splits hold every utterance once.

    Raises ValueError when nothing of a language is long enough.
    """
    folders, chosen = find_corpora(cfg), corpus_languages(cfg)
    train = split == "train"
    corpora: list[Corpus] = []
    for name, langs in chosen.items():
        there = [lang for lang in langs if train or (folders[name] / lang / f"{split}.tsv").exists()]
        corpora += [read_corpus(folders[name], lang, split, None, collection=name) for lang in there]
    if not train:
        corpora = _leave_out_short(corpora, split, cfg.min_seconds)
    if not corpora:
        raise ValueError(f"{cfg.data}: no language has a {split}.tsv; make one, or set dataset.disable_validation=true")
    weights = None
    if train:
        hours = [[c.utterances.seconds() / 3600 for c in corpora if c.collection == name] for name in chosen]
        factors = [cfg.corpus_weights.get(name, 1.0) for name in chosen]
        weights = sampling.mixture_weights(hours, cfg.beta_lang, cfg.beta_corpus, factors)
        _log_shares(list(chosen), hours, weights)
    dataset = MixtureDataset(
        corpora,
        weights=None if weights is None else np.concatenate(weights),
        seed=cfg.seed,
        normalize=cfg.normalize,
        max_samples=int(cfg.max_seconds * manifest.SAMPLE_RATE),
        min_samples=int(cfg.min_seconds * manifest.SAMPLE_RATE),
    )
    if dataset.rows is not None:
        logger.warning(
            "%s: %d of %d utterances are shorter than task.min_seconds=%g and left out",
            split,
            len(dataset) - len(dataset.rows),
            len(dataset),
            cfg.min_seconds,
        )
    return dataset


def _leave_out_short(corpora: list[Corpus], split: str, min_seconds: float) -> list[Corpus]:
    """The languages of a dev split that have an utterance which is long enough; the others are named."""
    least = int(min_seconds * manifest.SAMPLE_RATE)
    long_enough = [bool((corpus.utterances.num_samples >= least).any()) for corpus in corpora]
    if short := [corpus.name for corpus, kept in zip(corpora, long_enough, strict=True) if not kept]:
        logger.warning("%s: nothing of %s has %g s; not validated", split, ", ".join(short[:10]), min_seconds)
    return [corpus for corpus, kept in zip(corpora, long_enough, strict=True) if kept]


def _log_shares(names: list[str], hours: list[list[float]], weights: list[Any]) -> None:
    for name, of_langs, shares in zip(names, hours, weights, strict=True):
        logger.info(
            "corpus %s: %d languages, %.1f h, drawn with a share of %.1f %%",
            name,
            len(of_langs),
            sum(of_langs),
            100 * shares.sum(),
        )
