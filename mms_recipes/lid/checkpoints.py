"""LID models on disk: ours, stock fairseq's (`wav2vec_classification`) and Hugging Face's look the same from here.

Class ids are positions in a model's own list, which differ from model to model: a list is always read with its model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary

from mms_recipes import checkpoints
from mms_recipes.checkpoints import Base
from mms_recipes.conversion import stock_checkpoints
from mms_recipes.conversion.portable import Kind
from mms_recipes.conversion.stock_checkpoints import LID_MODELS
from mms_recipes.huggingface import reading
from mms_recipes.lid import classes as lid_classes

HEAD = "pooling_layer."
HEAD_TENSORS = ("linear.weight", "linear.bias", "projection.weight", "projection.bias")


@dataclass(frozen=True)
class LIDCheckpoint:
    """A trained LID model: its encoder, the head's tensors, and what each row of the head means."""

    base: Base
    head: dict[str, torch.Tensor]
    activation: str
    classes: list[str]
    adapters: dict[str, torch.Tensor]  # of the encoder's blocks; empty in most models

    @property
    def latent_dim(self) -> int:
        return len(self.head["linear.bias"])


def read_start(path: str | Path) -> LIDCheckpoint | Base:
    """What LID training starts from: a LID model (fairseq file or Hugging Face folder), a CTC or a pretraining file.

    Raises FileNotFoundError or ValueError.
    """
    if _model_name(checkpoints.load_checkpoint(path)) in LID_MODELS:
        return read_lid(path)
    return checkpoints.read_base(path)


def read_start_base(path: str | Path) -> Base:
    """The encoder that LID training starts from, of whatever `read_start` takes."""
    start = read_start(path)
    return start.base if isinstance(start, LIDCheckpoint) else start


def read_lid(path: str | Path, classes: str | Path | None = None) -> LIDCheckpoint:
    """Read a LID model; `classes` (dict.lang.txt or config.json) names the classes of a .pt file that does not.

    Raises FileNotFoundError or ValueError: another kind of model, no class list, or one of another length.
    """
    given = lid_classes.read_classes(Path(classes)) if classes is not None else None
    if Path(path).is_dir():
        if not reading.is_huggingface(path):
            raise FileNotFoundError(f"{path}: no config.json in this folder; give a Hugging Face model or a .pt file")
        found = reading.read(path)
    else:
        checkpoint = checkpoints.load_checkpoint(path)
        if _model_name(checkpoint) in LID_MODELS:
            _require_classes(checkpoint, given, path)
        found = stock_checkpoints.of_checkpoint(checkpoint, path, given)
    if found.kind != Kind.lid:
        raise ValueError(
            f"{path}: holds a model for {found.kind}, expected one for language identification; train one with "
            "+experiment=lid_126 model.base=PATH"
        )
    head = {name.removeprefix(HEAD): tensor for name, tensor in found.head.items()}
    if missing := [name for name in HEAD_TENSORS if name not in head]:
        raise ValueError(f"{path}: no {HEAD}{missing[0]} inside; expected the head of a LID model with pooling 'mean'")
    base = Base(Path(path), found.cfg, found.normalize, found.frozen)
    adapters = {name: tensor for name, tensor in found.encoder.items() if ".adapter_layer." in name}
    return LIDCheckpoint(base, head, found.activation, found.symbols, adapters)


def _require_classes(checkpoint: Mapping[str, Any], given: list[str] | None, path: str | Path) -> None:
    """Raise ValueError when neither the file nor the caller names its classes, or when their number is another."""
    inside = (checkpoint.get("task_state") or {}).get("target_dictionary")
    classes = list(inside.symbols) if given is None and isinstance(inside, Dictionary) else given
    if classes is None:
        raise ValueError(
            f"{path}: no class list inside (task_state.target_dictionary), so what its outputs mean is not known; give "
            "the dict.lang.txt that came with it (identify: --classes)"
        )
    rows = len(checkpoint["model"].get(f"{HEAD}projection.bias", classes))
    if len(classes) != rows:
        raise ValueError(
            f"{path}: {len(classes)} classes, but its head has {rows} rows; a class list belongs to one model: take "
            "the dict.lang.txt or config.json that came with it"
        )


def _model_name(checkpoint: Mapping[str, Any]) -> str:
    model = (checkpoint.get("cfg") or {}).get("model")
    return str(model.get("_name")) if model else ""
