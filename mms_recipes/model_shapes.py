"""Names and shapes of the tensors of a run's model, without memory for its weights."""

import contextlib
import io
from collections.abc import Mapping, Sequence

import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from omegaconf import DictConfig

from mms_recipes import checkpoints, fairseq_compat
from mms_recipes.lid import checkpoints as lid_checkpoints
from mms_recipes.models.adapters import CTC_HEAD, ENCODER, AdapterStack

Shapes = dict[str, tuple[int, ...]]


def read_base(cfg: DictConfig) -> checkpoints.Base | None:
    """The checkpoint that the model of `cfg` is built on; None for pretraining."""
    if "base" not in cfg.model:
        return None
    read = lid_checkpoints.read_start_base if cfg.model._name == "mms_lid" else checkpoints.read_base
    return read(cfg.model.base)


def shapes(cfg: DictConfig, base: checkpoints.Base | None, heads: Mapping[str, Sequence[str]]) -> Shapes:
    """Name and shape of every tensor of the model that `cfg` describes on `base`; `heads` says what their rows are."""
    if base is None:
        return _shapes(pretraining_model(cfg))
    sizes = [len(symbols) for symbols in heads.values()]
    dim = base.cfg.encoder_embed_dim
    if cfg.model._name == "mms_lsah":
        with torch.device("meta"):
            return _shapes(AdapterStack(list(heads), sizes, base.cfg.encoder_layers, dim, cfg.model.adapter_dim))
    with fairseq_compat.shapes_only(), contextlib.redirect_stdout(io.StringIO()):
        encoder = Wav2Vec2Model(base.cfg)
        encoder.remove_pretraining_modules()
    found = {ENCODER + name: shape for name, shape in _shapes(encoder).items()}
    if cfg.model._name == "mms_lid":
        start = lid_checkpoints.read_start(cfg.model.base)
        kept = start.latent_dim if isinstance(start, lid_checkpoints.LIDCheckpoint) else dim
        latent = cfg.model.latent_dim or kept
        head = {"linear": (latent, dim), "projection": (sizes[0], latent)}
        prefix = lid_checkpoints.HEAD
    else:
        head, prefix = {"": (sizes[0], dim)}, CTC_HEAD
    for name, shape in head.items():
        name = f"{prefix}{name}.".replace("..", ".")
        found |= {f"{name}weight": shape, f"{name}bias": shape[:1]}
    return found


def pretraining_model(cfg: DictConfig) -> torch.nn.Module:
    """The model of a pretraining run without memory for its weights."""
    with fairseq_compat.shapes_only(), contextlib.redirect_stdout(io.StringIO()):
        model: torch.nn.Module = Wav2Vec2Model(cfg.model)
    return model


def _shapes(model: torch.nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
