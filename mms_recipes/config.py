"""Typed root configs. A group file under configs/ extends a dataclass that a plug-in registered with fairseq."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import mms_recipes.plugins

# isort: split
from fairseq.dataclass.configs import FairseqConfig
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

import mms_recipes.command_line  # noqa: F401  (its resolver names the folders of jobs)
from mms_recipes.models.dense import DenseConfig

PACKAGE = Path(__file__).resolve().parent
# inside an installed package, or beside it in a checkout
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


@dataclass
class TrainConfig(FairseqConfig):
    """What `python -m mms_recipes.train` takes: fairseq's sections, and where the run lives."""

    name: str = field(default=MISSING, metadata={"help": "name of the run; its folder is <runs>/<name>"})
    runs: str = field(default="outputs", metadata={"help": "folder of all runs; MMS_RECIPES_RUNS sets another default"})
    accept_changes: bool = field(
        default=False, metadata={"help": "go on in a run's folder that was made with another configuration"}
    )


@dataclass
class DecodingConfig:
    """Greedy search, and what all searches have."""

    search: str = field(
        default="greedy", metadata={"help": "greedy, lm (words where there is a lexicon), word_lm or letter_lm"}
    )


@dataclass
class BeamConfig(DecodingConfig):
    """Beam search with an n-gram model. Weights that are null come from <lm>/<lang>/decoding.json, else the default."""

    search: str = field(default="lm", metadata={"help": "lm (words where there is a lexicon), word_lm or letter_lm"})
    lm: str = field(
        default=MISSING,
        metadata={"help": "folder of <lang>/lm.bin and, for words, <lang>/lexicon.txt, as tools/build_lm.py makes it"},
    )
    beam_size: int = field(default=500, metadata={"help": "hypotheses kept per frame, 1 or more"})
    beam_size_token: int = field(default=50, metadata={"help": "units tried per frame, the best ones, 1 or more"})
    beam_threshold: float = field(default=50.0, metadata={"help": "how much worse than the best a hypothesis may be"})
    lm_weight: float | None = field(default=None, metadata={"help": "times the model's log10 score; default 2"})
    word_score: float | None = field(default=None, metadata={"help": "added for each word (word_lm); default -1"})
    unk_score: float = field(
        default=-math.inf, metadata={"help": "added for a word outside the lexicon (word_lm); -inf: never"}
    )
    sil_score: float | None = field(default=None, metadata={"help": "added for each frame of |; default 0"})
    log_add: bool = field(default=False, metadata={"help": "add up hypotheses that meet, else keep the better one"})
    nbest: int = field(default=1, metadata={"help": "hypotheses to write; above 1 into nbest.tsv, with their scores"})
    workers: int = field(default=0, metadata={"help": "processes; 0: one for each core"})
    drop_oov: bool = field(
        default=False, metadata={"help": "leave out lexicon lines with units that the model does not have (word_lm)"}
    )


@dataclass
class IdentificationConfig:
    """What evaluating language identification takes besides; +benchmark=lid and +benchmark=fleurs_lid set it."""

    classes: list[str] = field(
        default_factory=list,
        metadata={"help": "languages to choose the answer from: classes, ids, set names (asr_fl102); empty: all"},
    )
    lengths: list[float] = field(
        default_factory=lambda: [1.0, 3.0, 5.0, 10.0], metadata={"help": "of crops to score besides, seconds"}
    )
    fit_split: str = field(
        default="dev", metadata={"help": "split to fit the temperature on; empty: take the one beside the model"}
    )
    keep_temperature: bool = field(
        default=True, metadata={"help": "write the temperature beside the model, where identify finds it"}
    )
    top: int = field(default=5, metadata={"help": "answers to write for each utterance, 1 or more"})


@dataclass
class ScoringConfig:
    """What evaluate and tune share: a trained model, what it hears, and which of the languages this job takes."""

    checkpoint: str = field(
        default=MISSING,
        metadata={"help": "dense checkpoint (.pt), folder of adapters, or one-file checkpoint with adapters"},
    )
    data: str = field(default=MISSING, metadata={"help": "folder of <lang>/<split>.tsv and .ltr"})
    base: str | None = field(default=None, metadata={"help": "the adapters' base, if it moved since training"})
    langs: list[str] = field(
        default_factory=list, metadata={"help": "ids and set names; empty: every language in data, or of the protocol"}
    )
    num_shards: int = field(default=1, metadata={"help": "split the languages into this many jobs, >= 1"})
    shard: int = field(default=0, metadata={"help": "which of the jobs this is, 0 to num_shards - 1"})
    batch_seconds: float = field(default=160.0, metadata={"help": "audio per batch when padded, seconds"})
    device: str = field(default="auto", metadata={"help": "auto (cuda where it is there), cpu, or cuda:N"})
    count_space: bool = field(default=False, metadata={"help": "count spaces between words as characters of the CER"})


@dataclass
class EvaluateConfig(ScoringConfig):
    """What `python -m mms_recipes.evaluate` takes."""

    corpora: list[str] = field(
        default_factory=list, metadata={"help": "of identification: folders <corpus>/<lang> of data to use; empty: all"}
    )
    out: str = field(default=MISSING, metadata={"help": "folder for the scores"})
    name: str = field(default="model", metadata={"help": "what to call this model in the table"})
    split: str = field(default="test", metadata={"help": "train, dev or test"})
    protocol: str | None = field(
        default=None,
        metadata={"help": "fleurs102, fleurs61 or fleurs54: languages, rates and text rules of the paper's benchmark"},
    )
    word_times: bool = field(default=True, metadata={"help": "write when each word was said and how sure the model is"})
    calibrate: str | None = field(
        default=None,
        metadata={
            "help": "split (dev) to fit first how likely transcripts are right; kept beside the model, where "
            "evaluate and transcribe find it"
        },
    )
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    lid: IdentificationConfig | None = field(
        default=None, metadata={"help": "set where the model identifies languages, see configs/benchmark/lid.yaml"}
    )


@dataclass
class TuneConfig(ScoringConfig):
    """What `python -m mms_recipes.tune` takes."""

    out: str = field(default="outputs/tuning", metadata={"help": "work folder: emissions, all points, pictures"})
    split: str = field(default="dev", metadata={"help": "dev, or train; never what is tested"})
    lm_weight_range: list[float] = field(default_factory=lambda: [0.0, 5.0], metadata={"help": "lowest, highest"})
    word_score_range: list[float] = field(default_factory=lambda: [-3.0, 3.0], metadata={"help": "of word models"})
    sil_score_range: list[float] = field(default_factory=lambda: [-3.0, 3.0], metadata={"help": "of letter models"})
    step: float = field(default=1.0, metadata={"help": "of the coarse grid, above 0"})
    finest: float = field(default=0.25, metadata={"help": "step to refine down to; not below step: the grid alone"})
    decoding: DecodingConfig = field(default_factory=BeamConfig)


def register() -> None:
    """Store the root schemas where Hydra finds them; train.yaml and evaluate.yaml name them first."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="tune_schema", node=TuneConfig)
    store.store(group="model", name="dense_ctc", node=DenseConfig(_name="wav2vec_ctc"))
    store.store(group="decoding", name="greedy_search", node=DecodingConfig)
    store.store(group="decoding", name="beam_search", node=BeamConfig)


def require(cfg: DictConfig, keys: list[str], command: str) -> None:
    """Raise ValueError naming every mandatory key that was not given."""
    missing = [key for key in keys if _missing(cfg, key)]
    if missing:
        given = " ".join(f"{key}=..." for key in missing)
        raise ValueError(f"{command}: not given: {', '.join(missing)}; add {given} to the command")


def refuse_unknown_keys(cfg: DictConfig, prefix: str = "") -> None:
    """Raise ValueError for a key that `+key=value` put where nothing reads it."""
    schema = OmegaConf.get_type(cfg)
    known = {item.name for item in fields(schema)} if is_dataclass(schema) else set(cfg)
    for key in map(str, cfg):
        if key not in known:
            raise ValueError(unknown_key(prefix + key, schema))
        if isinstance(node := cfg._get_node(key), DictConfig) and not (node._is_none() or node._is_missing()):
            refuse_unknown_keys(node, f"{prefix}{key}.")


def first_reference(node: Any) -> str:
    """The first text below `node` that would be read as a reference, or ''."""
    if isinstance(node, (dict, list)):
        return next(filter(None, map(first_reference, node.values() if isinstance(node, dict) else node)), "")
    return node if isinstance(node, str) and "${" in node else ""


def refuse_early_preset(overrides: Sequence[str]) -> None:
    """Raise ValueError for a preset before the experiment, which would undo it: Hydra lets the later one win."""
    names = [override.lstrip("+").partition("=")[0] for override in overrides]
    if "preset" in names and "experiment" in names[names.index("preset") :]:
        raise ValueError("+preset=... stands before +experiment=..., which would undo it; give the experiment first")


def unknown_key(full_key: str, schema: type | None) -> str:
    """Say that there is no such key and name the nearest that there are; `schema` is the dataclass it was sought in."""
    section, _, key = full_key.rpartition(".")
    if schema is DecodingConfig and key in {item.name for item in fields(BeamConfig)}:
        return f"{full_key}: is of a beam search, and this is greedy; add decoding=lm"
    known = [item.name for item in fields(schema)] if schema and is_dataclass(schema) else []
    near = difflib.get_close_matches(key, known, n=3)
    shown = ", ".join(f"{section}.{name}".lstrip(".") for name in near or sorted(known))
    return (
        f"{full_key}: no such key; {'nearest' if near else 'there are'}: {shown or 'none; is +experiment=NAME given?'}"
    )


def _missing(cfg: DictConfig, dotted: str) -> bool:
    node: Any = cfg
    *parents, key = dotted.split(".")
    for parent in parents:
        node = node.get(parent)
        if node is None:
            return False
    return OmegaConf.is_missing(node, key)
