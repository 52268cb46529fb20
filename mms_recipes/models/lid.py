"""Language identification: wav2vec 2.0, the mean over frames, linear classes (MMS paper section 6.1).

Parameters have the names of fairseq:models/wav2vec/wav2vec2_classification.py with pooling 'mean'.

Shapes: B batch, S samples, T frames, C channels of the encoder, D width of the latent layer, L languages.
"""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from omegaconf import MISSING, OmegaConf
from torch import nn

from mms_recipes.formats.portable import fitting
from mms_recipes.lid import checkpoints
from mms_recipes.lid.checkpoints import LIDCheckpoint

logger = logging.getLogger(__name__)


class Activation(StrEnum):
    linear = "linear"
    relu = "relu"
    gelu = "gelu"
    gelu_accurate = "gelu_accurate"
    tanh = "tanh"


@dataclass
class LIDConfig(FairseqDataclass):
    base: str = field(
        default=MISSING, metadata={"help": "pretraining, CTC or LID checkpoint (.pt), or a Hugging Face LID folder"}
    )
    latent_dim: int | None = field(
        default=None, metadata={"help": "width between encoder and classes; null: the LID base's, else the encoder's"}
    )
    activation: Activation | None = field(
        default=None, metadata={"help": "on the mean; null: the LID base's, else linear, as Hugging Face has it"}
    )
    freeze_encoder: bool = field(default=False, metadata={"help": "train the head alone"})
    freeze_updates: int = field(default=0, metadata={"help": "updates in which only the head learns"})
    freeze_features: bool = field(default=True, metadata={"help": "keep the convolutions as they are in the base"})
    mask_prob: float = field(default=0.0, metadata={"help": "share of frames that spans of masks aim at, 0 to 1"})
    mask_length: int = field(default=10, metadata={"help": "length of a time mask, frames of 20 ms"})
    mask_channel_prob: float = field(default=0.0, metadata={"help": "share of channels that masks aim at, 0 to 1"})
    mask_channel_length: int = field(default=64, metadata={"help": "length of a channel mask, channels"})
    dropout: float = field(default=0.0, metadata={"help": "in the blocks, 0 to 1"})
    attention_dropout: float = field(default=0.0, metadata={"help": "on attention weights, 0 to 1"})
    activation_dropout: float = field(default=0.0, metadata={"help": "inside the feed-forward parts, 0 to 1"})
    layerdrop: float = field(default=0.0, metadata={"help": "probability of leaving out a block, 0 to 1"})
    final_dropout: float = field(default=0.0, metadata={"help": "dropout before the head, 0 to 1"})
    checkpoint_activations: bool = field(default=False, metadata={"help": "recompute blocks in the backward pass"})
    w2v_args: Any = field(default=None, metadata={"help": "the base's architecture; filled in, for the checkpoint"})


class LIDHead(nn.Module):
    """Mean over frames, C -> D, activation, D -> L.

    fairseq and Hugging Face take the mean after C -> D, which is the same: the layer is linear.
    """

    def __init__(self, dim: int, latent_dim: int, num_classes: int, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, latent_dim)
        self.projection = nn.Linear(latent_dim, num_classes)
        self.activation_fn = utils.get_activation_fn(activation)
        for layer in (self.linear, self.projection):  # as fairseq's Linear
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_BTC: torch.Tensor, padded_BT: torch.Tensor | None) -> torch.Tensor:
        """Logits (B, L) in float32; padded_BT is True where a frame does not count."""
        if padded_BT is None:
            mean_BC = x_BTC.mean(1)
        else:
            sum_BC = x_BTC.masked_fill(padded_BT.unsqueeze(2), 0).sum(1, dtype=torch.float32)
            mean_BC = (sum_BC / (~padded_BT).sum(1, keepdim=True)).to(x_BTC.dtype)
        return self.projection(self.activation_fn(self.linear(mean_BC))).float()


@register_model("mms_lid", dataclass=LIDConfig)
class LIDModel(BaseFairseqModel):
    """The encoder of the base and a head over the task's classes."""

    def __init__(self, cfg: LIDConfig, encoder: Wav2Vec2Model, head: LIDHead) -> None:
        super().__init__()
        self.cfg = cfg
        self.w2v_encoder = nn.ModuleDict({"w2v_model": encoder})  # fairseq's names
        self.pooling_layer = head
        self.dropout = nn.Dropout(cfg.final_dropout)
        self.num_updates = 0
        if cfg.freeze_encoder:
            encoder.requires_grad_(False)

    @classmethod
    def build_model(cls, cfg: LIDConfig, task: Any) -> "LIDModel":
        """Read the base, and give its classes that task.classes has too their old weights."""
        start = checkpoints.read_start(cfg.base)
        trained = start if isinstance(start, LIDCheckpoint) else None
        base = start.base if isinstance(start, LIDCheckpoint) else start
        encoder = build_encoder(base.cfg, cfg)
        encoder.load_state_dict(fitting(encoder.state_dict(), base.encoder_state, cfg.base))
        latent_dim = cfg.latent_dim or (trained.latent_dim if trained else base.cfg.encoder_embed_dim)
        activation = Activation(cfg.activation or (trained.activation if trained else "linear"))
        head = LIDHead(base.cfg.encoder_embed_dim, latent_dim, len(task.classes), activation)
        if trained:
            keep_classes(head, task.classes, str(activation), trained)
        architecture: Any = OmegaConf.to_container(base.cfg, resolve=False, enum_to_str=True)
        cfg.w2v_args = {
            "model": architecture | {"_name": "wav2vec2"},
            "task": {"_name": "audio_pretraining", "data": "", "normalize": base.normalize},
        }
        cfg.latent_dim, cfg.activation = latent_dim, activation
        return cls(cfg, encoder, head)

    def set_num_updates(self, num_updates: int) -> None:
        super().set_num_updates(num_updates)
        self.num_updates = num_updates

    def train(self, mode: bool = True) -> "LIDModel":
        """Keep a frozen encoder in evaluation mode: no dropout in what is not trained."""
        super().train(mode)
        if self.cfg.freeze_encoder:
            self.w2v_encoder.eval()
        return self

    def forward(self, source: torch.Tensor, padding_mask: torch.Tensor) -> torch.Tensor:
        """Logits (B, L) in float32 of source (B, S), padded where padding_mask (B, S) is True."""
        frozen = self.cfg.freeze_encoder or self.num_updates < self.cfg.freeze_updates
        masked = self.training and not self.cfg.freeze_encoder
        masked = masked and (self.cfg.mask_prob > 0 or self.cfg.mask_channel_prob > 0)
        with torch.no_grad() if frozen else contextlib.nullcontext():
            found = self.w2v_encoder["w2v_model"].extract_features(source, padding_mask, mask=masked)
        return self.pooling_layer(self.dropout(found["x"]), found["padding_mask"])


def build_encoder(base: Wav2Vec2Config, cfg: LIDConfig) -> Wav2Vec2Model:
    """The base's architecture with the dropout and the masks of this run."""
    changes = {
        "dropout": cfg.dropout,
        "attention_dropout": cfg.attention_dropout,
        "activation_dropout": cfg.activation_dropout,
        "encoder_layerdrop": cfg.layerdrop,
        "dropout_input": 0.0,
        "dropout_features": 0.0,
        "feature_grad_mult": 0.0 if cfg.freeze_features else 1.0,
        "mask_prob": cfg.mask_prob,
        "mask_length": cfg.mask_length,
        "mask_channel_prob": cfg.mask_channel_prob,
        "mask_channel_length": cfg.mask_channel_length,
        "require_same_masks": False,  # a short utterance must not lessen the masks of its batch
        "checkpoint_activations": cfg.checkpoint_activations,
    }
    model = Wav2Vec2Model(OmegaConf.merge(base, changes))
    model.remove_pretraining_modules()
    return model


@torch.no_grad()
def keep_classes(head: LIDHead, classes: Sequence[str], activation: str, trained: LIDCheckpoint) -> None:
    """Copy the latent layer and, by name, the rows of the classes that were trained; say how many.

    Raises ValueError when width or activation are not those that the rows were trained with.
    """
    path = trained.base.path
    if (head.linear.out_features, activation) != (trained.latent_dim, trained.activation):
        raise ValueError(
            f"{path}: trained with model.latent_dim={trained.latent_dim} model.activation={trained.activation}, but "
            f"{head.linear.out_features} and {activation} are asked for; leave both null to keep the base's"
        )
    head.linear.weight.copy_(trained.head["linear.weight"])
    head.linear.bias.copy_(trained.head["linear.bias"])
    old_rows = {name: row for row, name in enumerate(trained.classes)}
    kept = [(row, old_rows[name]) for row, name in enumerate(classes) if name in old_rows]
    for row, old in kept:
        head.projection.weight[row] = trained.head["projection.weight"][old]
        head.projection.bias[row] = trained.head["projection.bias"][old]
    logger.info(
        "head of %d classes from %s: %d kept, %d new, %d dropped",
        len(classes),
        path,
        len(kept),
        len(classes) - len(kept),
        len(trained.classes) - len(kept),
    )
