"""LID models on disk: ours, stock fairseq's (`wav2vec_classification`) and Hugging Face's look the same from here.

Class ids are positions in a model's own list, which differ from model to model: a list is always read with its model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mms_recipes import checkpoints
from mms_recipes.checkpoints import Base
from mms_recipes.formats import fairseq_configs, stock_checkpoints
from mms_recipes.formats.portable import Kind
from mms_recipes.formats.stock_checkpoints import LID_MODELS
from mms_recipes.lid import classes as lid_classes
from mms_recipes.models.adapters import ENCODER

HEAD = "pooling_layer."


@dataclass(frozen=True)
class LIDCheckpoint:
    """A trained LID model: its encoder, the head's tensors, and what each row of the head means."""

    base: Base
    head: dict[str, torch.Tensor]
    activation: str
    classes: list[str]
    adapters: dict[str, torch.Tensor]  # of the blocks, under the names of released checkpoints; empty in most models

    @property
    def latent_dim(self) -> int:
        return len(self.head["linear.bias"])


def read_start(path: str | Path) -> LIDCheckpoint | Base:
    """What LID training starts from: a LID model (fairseq file or Hugging Face folder), a CTC or a pretraining file.

    Raises FileNotFoundError or ValueError.
    """
    checkpoint = checkpoints.load_checkpoint(path)
    if fairseq_configs.model_name(fairseq_configs.of_checkpoint(checkpoint, path)) in LID_MODELS:
        return _of_checkpoint(checkpoint, path)
    return checkpoints.base_of(checkpoint, path)


def read_start_base(path: str | Path) -> Base:
    """The encoder that LID training starts from, of whatever `read_start` takes."""
    start = read_start(path)
    return start.base if isinstance(start, LIDCheckpoint) else start


def read_lid(path: str | Path, classes: str | Path | None = None) -> LIDCheckpoint:
    """Read a LID model; `classes` (dict.lang.txt or config.json) names the classes of a .pt file that does not.

    Raises FileNotFoundError or ValueError: another kind of model, no class list, or one of another length.
    """
    given = lid_classes.read_classes(Path(classes)) if classes is not None else None
    return _of_checkpoint(checkpoints.load_checkpoint(path), path, given)


def _of_checkpoint(
    checkpoint: Mapping[str, Any], path: str | Path, classes: Sequence[str] | None = None
) -> LIDCheckpoint:
    found = stock_checkpoints.of_checkpoint(checkpoint, path, classes)
    if found.kind != Kind.lid:
        raise ValueError(
            f"{path}: holds a model for {found.kind}, expected one for language identification; train one with "
            "+experiment=lid_126 model.base=PATH"
        )
    base = Base(Path(path), found.cfg, found.normalize, found.frozen)
    head = {name.removeprefix(HEAD): tensor for name, tensor in found.head.items()}
    adapters = {ENCODER + name: tensor for name, tensor in found.encoder.items() if ".adapter_layer." in name}
    return LIDCheckpoint(base, head, found.activation, found.symbols, adapters)
