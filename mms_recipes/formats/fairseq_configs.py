"""The configs inside fairseq checkpoints: today's, and the flat Namespace of files before 2021."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq.dataclass.utils import merge_with_parent
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from omegaconf import DictConfig, OmegaConf

LAST = "checkpoint_last.pt"  # fairseq's name for a run's own checkpoint


def as_config(section: Any) -> DictConfig:
    """A config from a dict, or from the flat Namespace that files before 2021 hold (XLSR-53)."""
    if isinstance(section, Namespace):
        flat = vars(section)
        section = {"model": flat | {"_name": flat.get("arch")}, "task": flat}
    return section if isinstance(section, DictConfig) else OmegaConf.create(section, flags={"allow_objects": True})


def of_checkpoint(checkpoint: Mapping[str, Any], path: str | Path) -> DictConfig:
    """The config inside a checkpoint. Raises ValueError when there is none."""
    section = checkpoint.get("cfg") or checkpoint.get("args")
    if section is None:
        raise ValueError(f"{path}: no 'cfg' or 'args' inside: what architecture it has is not known")
    return as_config(section)


def model_name(cfg: DictConfig) -> str:
    """The name that fairseq's registry has the model under."""
    return str(cfg.model.get("_name") or cfg.model.get("arch"))


def started_from(cfg: DictConfig) -> str | None:
    """The file or folder whose weights a run started from; None when from random ones."""
    checkpoint = cfg.get("checkpoint") or {}
    restored = checkpoint.get("restore_file")
    given = (
        checkpoint.get("finetune_from_model"),  # goes before what the model was built from
        None if restored == LAST else restored,
        cfg.model.get("w2v_path"),
        cfg.model.get("base"),
    )
    return next((str(path) for path in given if path), None)


def of_encoder(model: DictConfig) -> Wav2Vec2Config:
    """The encoder's config without what training it needs (wrapped blocks, adapters of one language)."""
    cfg = merge_with_parent(Wav2Vec2Config(), OmegaConf.create(OmegaConf.to_container(model)), remove_missing=True)
    OmegaConf.set_struct(cfg, False)
    cfg.checkpoint_activations, cfg.layer_type = False, "transformer"
    return cfg


def is_normalized(cfg: DictConfig) -> bool:
    """Whether the model wants audio of zero mean and unit variance; `cfg` is the pretraining's."""
    return bool(cfg.task.get("normalize", cfg.model.get("normalize", False)))
