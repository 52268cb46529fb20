"""Language identification on the manifests of many corpora (MMS paper section 6.1): a folder's name is the label."""

import logging
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from fairseq.data import Dictionary
from fairseq.tasks import register_task
from omegaconf import open_dict

from mms_recipes import manifest, sampling
from mms_recipes.data.augmentation import Augmentation
from mms_recipes.data.identification import IdentificationDataset
from mms_recipes.data.mixture import Corpus, read_corpus
from mms_recipes.lid import classes as lid_classes
from mms_recipes.tasks.pretraining import PretrainingConfig, corpus_languages, find_corpora
from mms_recipes.tasks.speech import SpeechTask, SpeechTaskConfig

logger = logging.getLogger(__name__)

SHORTEST = 0.1  # seconds
SHOWN = 10  # folders, in a message


@dataclass
class LIDTaskConfig(SpeechTaskConfig):
    corpora: list[str] = field(default_factory=list, metadata={"help": "folders of data to use; empty: all"})
    classes: str = field(
        default="",
        metadata={"help": "lid126, lid256, lid512_ours ..., a dict.lang.txt or config.json; empty: the folders found"},
    )
    allow_empty_classes: bool = field(default=False, metadata={"help": "train although classes have no training data"})
    leave_out_others: bool = field(
        default=False, metadata={"help": "leave out folders whose language is not a class, instead of stopping"}
    )
    beta_corpus: float = field(
        default=0.5, metadata={"help": "corpora within a language (beta_L), 1: natural shares, 0: all alike"}
    )
    beta_lang: float = field(default=0.5, metadata={"help": "languages (beta_D), 1: natural shares, 0: all alike"})
    max_seconds: float = field(default=10.0, metadata={"help": "longer utterances are cropped at random, seconds"})
    max_dev_seconds: float = field(default=30.0, metadata={"help": "of longer dev utterances the middle, seconds"})
    min_seconds: float = field(default=0.5, metadata={"help": "shorter utterances are left out, seconds"})
    speed_prob: float = field(default=0.0, metadata={"help": "how often the speed is changed, 0 to 1"})
    speed_range: list[float] = field(
        default_factory=lambda: [0.9, 1.1], metadata={"help": "lowest and highest, times as fast (and as high)"}
    )
    noise_prob: float = field(default=0.0, metadata={"help": "how often noise is added, 0 to 1"})
    noise_snr: list[float] = field(
        default_factory=lambda: [5.0, 30.0], metadata={"help": "lowest and highest, dB of speech above noise"}
    )
    gain_prob: float = field(default=0.0, metadata={"help": "how often the gain is changed (and clipped), 0 to 1"})
    gain_db: list[float] = field(default_factory=lambda: [-20.0, 20.0], metadata={"help": "lowest and highest, dB"})
    band_prob: float = field(default=0.0, metadata={"help": "how often only a telephone's band is left, 0 to 1"})
    band_hz: list[float] = field(default_factory=lambda: [300.0, 3400.0], metadata={"help": "the band, Hz"})


def language_folders(cfg: LIDTaskConfig) -> dict[str, list[str]]:
    """The language folders of each corpus that this job draws from.

    Raises ValueError or FileNotFoundError for a corpus without manifests, or a name that no corpus has.
    """
    return corpus_languages(places(cfg))


def places(cfg: LIDTaskConfig) -> PretrainingConfig:
    """Where the corpora and languages of a job are, in the terms of pretraining, which finds them alike."""
    return PretrainingConfig(data=cfg.data, corpora=list(cfg.corpora), langs=list(cfg.langs))


def class_names(cfg: LIDTaskConfig) -> list[str]:
    """The classes of a job in order: those that the configuration names, else those of the folders found."""
    folders = () if cfg.classes else [lang for langs in language_folders(cfg).values() for lang in langs]
    return lid_classes.class_list(cfg.classes, folders)


@register_task("mms_lid", dataclass=LIDTaskConfig)
class LIDTask(SpeechTask):
    """The manifests of many corpora, cropped at random, each utterance with the class of its folder's language."""

    def __init__(self, cfg: LIDTaskConfig) -> None:
        super().__init__(cfg)
        self.state.add_factory("target_dictionary", self._dictionary)

    # ---- classes

    def _dictionary(self) -> Dictionary:
        dictionary = Dictionary(add_special_symbols=False)  # as audio_classification has it: the id is the line
        for name in class_names(self.cfg):
            dictionary.add_symbol(name)
        return dictionary

    @property
    def classes(self) -> list[str]:
        """The classes in order; from now on saved with the model, where stock fairseq looks for them."""
        return list(self.state.target_dictionary.symbols)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build the model, and note in its config what architecture the base had, for the checkpoint."""
        model = super().build_model(cfg, from_checkpoint)
        with open_dict(cfg):
            cfg.w2v_args, cfg.latent_dim, cfg.activation = (
                model.cfg.w2v_args,
                model.cfg.latent_dim,
                model.cfg.activation,
            )
        return model

    # ---- data

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        cfg, train = self.cfg, split == "train"
        corpora = read_corpora(cfg, split)
        ids = {name: number for number, name in enumerate(self.classes)}
        corpora = _with_a_class(corpora, split, ids, cfg)
        targets = [ids[lid_classes.class_of(corpus.lang, ids)] for corpus in corpora]
        if train:
            _check_classes(self.classes, targets, cfg)
        augmentation = Augmentation(**{item.name: cfg[item.name] for item in fields(Augmentation)})
        longest = cfg.max_seconds if train else cfg.max_dev_seconds
        self.datasets[split] = IdentificationDataset(
            corpora,
            targets,
            augmentation if train else Augmentation(),
            weights=class_weights(corpora, targets, cfg.beta_corpus, cfg.beta_lang) if train else None,
            seed=cfg.seed,
            normalize=cfg.normalize,
            max_samples=int(longest * manifest.SAMPLE_RATE),
            min_samples=int(cfg.min_seconds * manifest.SAMPLE_RATE),
        )

    # ---- dev

    def post_validate(self, model: Any, stats: dict[str, Any], agg: Any) -> None:
        """Show accuracy over all utterances, over languages, and the languages that do worst."""
        super().post_validate(model, stats, agg)
        correct, total = (agg[f"_class_{key}"].sum.tolist() for key in ("correct", "total"))
        rates = {name: 100 * c / n for name, c, n in zip(self.classes, correct, total, strict=True) if n}
        dev = next(dataset for split, dataset in self.datasets.items() if split != "train")
        self.warn_of_unscored(
            [name for name in map(self.classes.__getitem__, sorted({*dev.targets})) if name not in rates]
        )
        if not rates:
            return
        worst = sorted(rates, key=rates.__getitem__)[:10]
        logger.info(
            "dev accuracy: %.2f %% of utterances, macro %.2f %% over %d languages; worst: %s",
            stats["accuracy"],
            stats["macro_accuracy"],
            len(rates),
            ", ".join(f"{name} {rates[name]:.1f}" for name in worst),
        )


def read_corpora(cfg: LIDTaskConfig, split: str) -> list[Corpus]:
    """Open one split of every language folder; what has no utterance of task.min_seconds is named and left out.

    Raises ValueError when nothing is left.
    """
    if cfg.min_seconds < SHORTEST:
        raise ValueError(
            f"task.min_seconds={cfg.min_seconds:g}: expected at least {SHORTEST:g}: the model looks at 0.025 s at a "
            "time, and a change of speed leaves half"
        )
    folders, least = find_corpora(places(cfg)), int(cfg.min_seconds * manifest.SAMPLE_RATE)
    corpora = [
        read_corpus(folders[name], lang, split, None, collection=name)
        for name, langs in language_folders(cfg).items()
        for lang in langs
        if split == "train" or (folders[name] / lang / f"{split}.tsv").exists()
    ]
    long_enough = [bool((corpus.utterances.num_samples >= least).any()) for corpus in corpora]
    left = [corpus for corpus, kept in zip(corpora, long_enough, strict=True) if kept]
    if short := [corpus.name for corpus, kept in zip(corpora, long_enough, strict=True) if not kept]:
        logger.warning("%s: nothing of %s has %g s; left out", split, ", ".join(short[:10]), cfg.min_seconds)
    if not left:
        raise ValueError(
            f"{cfg.data}: no language has a {split}.tsv with an utterance of task.min_seconds={cfg.min_seconds:g}; "
            "prepare one, or set dataset.disable_validation=true"
        )
    shorter = sum(int((corpus.utterances.num_samples < least).sum()) for corpus in left)
    if shorter:
        logger.warning(
            "%s: %d utterances are shorter than task.min_seconds=%g; left out", split, shorter, cfg.min_seconds
        )
    return left


def _with_a_class(corpora: list[Corpus], split: str, ids: dict[str, int], cfg: LIDTaskConfig) -> list[Corpus]:
    """The corpora whose language is a class. Raises ValueError for others, unless the configuration leaves them out."""
    named = {corpus.name: lid_classes.class_of(corpus.lang, ids) for corpus in corpora}
    left = [corpus for corpus in corpora if named[corpus.name] in ids]
    others = [corpus for corpus in corpora if named[corpus.name] not in ids]
    if not others:
        return corpora
    if not cfg.leave_out_others:
        places = [
            f"{corpus.utterances.rows.where(0)}: {named[corpus.name]}, {len(corpus.utterances)} utterances"
            for corpus in others[:SHOWN]
        ]
        more = [f"and {len(others) - SHOWN} more"] if len(others) > SHOWN else []
        raise ValueError(
            f"{len(others)} language folder(s) whose language is none of the {len(ids)} classes of "
            f"task.classes={cfg.classes}; add them to the list, name the folders to use in task.langs, or leave them "
            "out with task.leave_out_others=true:\n" + "\n".join([*places, *more])
        )
    shown = ", ".join(corpus.name for corpus in others[:SHOWN])
    logger.warning("%s: %d folders have no class and are left out: %s", split, len(others), shown)
    if not left:
        raise ValueError(f"{cfg.data}: no language folder with {split}.tsv has a class in task.classes={cfg.classes!r}")
    return left


def _check_classes(classes: list[str], targets: list[int], cfg: LIDTaskConfig) -> None:
    """Raise ValueError for classes that nothing is learnt of, unless allowed: then say which."""
    heard = set(targets)
    empty = [name for number, name in enumerate(classes) if number not in heard]
    logger.info("%d classes, %d with training data, from %d folders", len(classes), len(heard), len(targets))
    if not empty:
        return
    told = f"{len(empty)} of {len(classes)} classes have no training data: {', '.join(empty[:20])}"
    told += " ..." if len(empty) > 20 else ""
    if not cfg.allow_empty_classes:
        raise ValueError(
            f"{told}; prepare it in {cfg.data}, take another task.classes (empty: the languages that are there), or "
            "train without with task.allow_empty_classes=true"
        )
    logger.warning("%s; the model will hardly ever answer them", told)


def class_weights(corpora: list[Corpus], targets: list[int], beta_corpus: float, beta_lang: float) -> np.ndarray:
    """The share of each corpus: first corpora within a language, then languages (paper 6.1).

    Folders of one corpus and one class (scripts, azj beside azb) count as one with its hours.
    """
    seconds = [corpus.utterances.seconds() for corpus in corpora]
    totals: dict[int, dict[str, float]] = {}
    for corpus, target, length in zip(corpora, targets, seconds, strict=True):
        of_class = totals.setdefault(target, {})
        of_class[corpus.collection] = of_class.get(corpus.collection, 0.0) + length
    shares = sampling.mixture_weights([list(of_class.values()) for of_class in totals.values()], beta_corpus, beta_lang)
    share = {
        target: dict(zip(of_class, drawn, strict=True))
        for (target, of_class), drawn in zip(totals.items(), shares, strict=True)
    }
    rows = zip(corpora, targets, seconds, strict=True)
    return np.array([share[t][c.collection] * length / totals[t][c.collection] for c, t, length in rows])
