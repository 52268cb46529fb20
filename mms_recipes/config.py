"""Typed root configs. A group file under configs/ extends a dataclass that a plug-in registered with fairseq."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairseq.dataclass.configs import FairseqConfig
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

import mms_recipes.plugins  # noqa: F401  (first: it silences what fairseq does on import)

PACKAGE = Path(__file__).resolve().parent
# inside an installed package, or beside it in a checkout
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


@dataclass
class TrainConfig(FairseqConfig):
    """What `python -m mms_recipes.train` takes: fairseq's sections, and where the run lives."""

    name: str = field(default=MISSING, metadata={"help": "name of the run; its folder is <runs>/<name>"})
    runs: str = field(default="outputs", metadata={"help": "folder of all runs; MMS_RECIPES_RUNS sets another default"})


@dataclass
class EvaluateConfig:
    """What `python -m mms_recipes.evaluate` takes."""

    checkpoint: str = field(
        default=MISSING,
        metadata={"help": "dense checkpoint (.pt), folder of adapters, or one-file checkpoint with adapters"},
    )
    data: str = field(default=MISSING, metadata={"help": "folder of <lang>/<split>.tsv and .ltr"})
    out: str = field(default=MISSING, metadata={"help": "folder for the scores"})
    name: str = field(default="model", metadata={"help": "what to call this model in the table"})
    base: str | None = field(default=None, metadata={"help": "the adapters' base, if it moved since training"})
    split: str = field(default="test", metadata={"help": "train, dev or test"})
    langs: list[str] = field(
        default_factory=list, metadata={"help": "ids and set names; empty: every language in data"}
    )
    batch_seconds: float = field(default=160.0, metadata={"help": "audio per batch when padded, seconds"})
    device: str = field(default="auto", metadata={"help": "auto (cuda where it is there), cpu, or cuda:N"})
    count_space: bool = field(default=False, metadata={"help": "count spaces between words as characters of the CER"})


def register() -> None:
    """Store the root schemas where Hydra finds them; train.yaml and evaluate.yaml name them first."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)


def require(cfg: DictConfig, keys: list[str], command: str) -> None:
    """Raise ValueError naming every mandatory key that was not given."""
    missing = [key for key in keys if _missing(cfg, key)]
    if missing:
        given = " ".join(f"{key}=..." for key in missing)
        raise ValueError(f"{command}: not given: {', '.join(missing)}; add {given} to the command")


def _missing(cfg: DictConfig, dotted: str) -> bool:
    node: Any = cfg
    *parents, key = dotted.split(".")
    for parent in parents:
        node = node.get(parent)
        if node is None:
            return False
    return OmegaConf.is_missing(node, key)
