"""LSAH (MMS paper section 5.1): a frozen dense model, and per language an adapter in every block and a head.

Shapes: B batch, S samples, T frames, C channels, V letters of the largest head in the batch.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.models import BaseFairseqModel, register_model
from omegaconf import II, MISSING

from mms_recipes import checkpoints, letters, licences
from mms_recipes.formats.portable import Setting
from mms_recipes.manifest import SPECIAL_TOKENS
from mms_recipes.models.adapters import AdapterStack
from mms_recipes.models.encoder import FrozenEncoder
from mms_recipes.sampling import span_mask

logger = logging.getLogger(__name__)

BASE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class AdapterInit(StrEnum):
    kaiming = "kaiming"
    zero = "zero"


class HeadInit(StrEnum):
    random = "random"
    dense = "dense"


class BaseDtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass
class LSAHConfig(FairseqDataclass):
    base: str = field(default=MISSING, metadata={"help": "dense CTC or pretraining checkpoint (.pt) to adapt; frozen"})
    adapter_dim: int = field(default=16, metadata={"help": "inner width of the adapters, channels"})
    adapter_init: AdapterInit = field(
        default=AdapterInit.kaiming, metadata={"help": "kaiming (as released) or zero (start at the base)"}
    )
    head_init: HeadInit = field(
        default=HeadInit.random,
        metadata={"help": "random (paper), or dense: copy the base's rows of the letters it knows"},
    )
    mask_prob: float = field(default=0.0, metadata={"help": "share of frames that spans of masks aim at, 0 to 1"})
    mask_length: int = field(default=10, metadata={"help": "length of a time mask, frames of 20 ms"})
    mask_channel_prob: float = field(default=0.0, metadata={"help": "share of channels that masks aim at, 0 to 1"})
    mask_channel_length: int = field(default=64, metadata={"help": "length of a channel mask, channels"})
    final_dropout: float = field(default=0.0, metadata={"help": "dropout before the head, 0 to 1"})
    base_dtype: BaseDtype = field(
        default=BaseDtype.float32, metadata={"help": "float32, or bfloat16 for base and activations"}
    )
    cache_gb: float = field(default=1.0, metadata={"help": "memory for the frozen front's output, GB; 0 keeps nothing"})
    checkpoint_activations: bool = field(default=False, metadata={"help": "recompute blocks in the backward pass"})
    seed: int = II("common.seed")


@register_model("mms_lsah", dataclass=LSAHConfig)
class LSAHModel(BaseFairseqModel):
    """A frozen base, and adapters and heads of the job's languages. Its state is what is trained, not the base."""

    def __init__(
        self, cfg: LSAHConfig, encoder: FrozenEncoder, langs: Sequence[str], head_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.cfg = cfg
        self.encoder = encoder
        self.adapters = AdapterStack(langs, head_sizes, len(encoder.layers), encoder.dim, cfg.adapter_dim)
        self.dropout = torch.nn.Dropout(cfg.final_dropout)
        self.base_hash, self.origin = "", licences.Origin()
        self.base_settings: dict[str, Setting] = {}

    @classmethod
    def build_model(cls, cfg: LSAHConfig, task: Any) -> "LSAHModel":
        """Read the base, then initialise adapters and heads for task.langs with task.dictionaries."""
        base = checkpoints.read_base(cfg.base)
        # without masks in between, the first block is as fixed as the convolutions, and kept with them
        deep_front = cfg.cache_gb > 0 and cfg.mask_prob == 0 and cfg.mask_channel_prob == 0
        encoder = FrozenEncoder(base.cfg, int(cfg.cache_gb * 1e9), deep_front)
        encoder.load(base.encoder_state, BASE_DTYPES[cfg.base_dtype])
        model = cls(cfg, encoder, task.langs, [len(dictionary) for dictionary in task.dictionaries])
        model.base_hash, model.base_settings, model.origin = base.hash, base.settings, base.origin
        model.adapters.reset(cfg.seed, cfg.adapter_init)
        if cfg.head_init == "dense":
            model._copy_dense_head(base, task.dictionaries)
        return model

    @torch.no_grad()
    def _copy_dense_head(self, base: checkpoints.Base, dictionaries: Sequence[Any]) -> None:
        weight, bias, symbols = base.require_head()
        heads = self.adapters.heads
        for index, (lang, dictionary) in enumerate(zip(self.adapters.langs, dictionaries, strict=True)):
            own = letters.written(symbols, Counter(dictionary.symbols))
            known = {letter: row for row, letter in enumerate(own)}
            start = heads.rows(index).start
            for row, letter in enumerate(dictionary.symbols):
                if letter in known:
                    heads.weight[start + row] = weight[known[letter]]
                    heads.bias[start + row] = bias[known[letter]]
            wanted = [letter for letter in dictionary.symbols if letter not in SPECIAL_TOKENS]
            absent = [letter for letter in wanted if letter not in known]
            level = logging.WARNING if len(absent) > len(wanted) / 2 else logging.INFO
            logger.log(
                level,
                "%s: %d of the %d letters of the dictionary are among the base's%s%s",
                lang,
                len(wanted) - len(absent),
                len(wanted),
                ", whose capitals stand for small letters" if own != symbols else "",
                f"; random at first: {letters.shown(absent)}" if absent else "",
            )

    def forward(
        self,
        source: torch.Tensor,
        padding_mask: torch.Tensor,
        langs: torch.Tensor,
        keys: list[str] | None = None,
        mask_seeds: Sequence[tuple[int, ...]] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Logits (T, B, V) and frame padding_mask (B, T) of source (B, S); `langs` (B,) index the job's languages.

        In training each utterance is masked by a generator of its own, seeded by mask_seeds[b].
        """
        lengths = (~padding_mask).sum(1)
        features, frames = self.encoder.features(source, lengths, keys)
        if self.training and mask_seeds is not None:
            features = self._mask(features, frames.tolist(), mask_seeds)
        langs = langs.to(features.device)
        autocast = self.encoder.dtype != torch.float32
        with torch.autocast(features.device.type, dtype=torch.bfloat16, enabled=autocast):
            x_BTC = self.encoder.context(
                features,
                frames,
                after_block=lambda number, x_BTC: self.adapters.blocks[number](x_BTC, langs),
                recompute=self.cfg.checkpoint_activations and self.training,
            )
            logits_BTV = self.adapters.heads(self.dropout(x_BTC), langs)
        padded = torch.arange(features.shape[1], device=features.device) >= frames.unsqueeze(1)
        return {"encoder_out": logits_BTV.transpose(0, 1), "padding_mask": padded}

    def _mask(
        self, features_BTC: torch.Tensor, frames: Sequence[int], seeds: Sequence[tuple[int, ...]]
    ) -> torch.Tensor:
        """Replace spans of frames by the base's mask embedding and set spans of channels to zero (SpecAugment)."""
        cfg, (_, time, channels) = self.cfg, features_BTC.shape
        for row, (length, seed) in enumerate(zip(frames, seeds, strict=True)):
            generator = np.random.default_rng(seed)
            spans = span_mask(length, cfg.mask_prob, cfg.mask_length, generator)
            masked = torch.zeros(time, dtype=torch.bool)
            masked[:length] = torch.from_numpy(spans)
            features_BTC[row, masked.to(features_BTC.device)] = self.encoder.w2v.mask_emb
            silenced = span_mask(channels, cfg.mask_channel_prob, cfg.mask_channel_length, generator)
            features_BTC[row, :, torch.from_numpy(silenced).to(features_BTC.device)] = 0
        return features_BTC

    def get_normalized_probs(
        self, net_output: dict[str, torch.Tensor], log_probs: bool, sample: Any = None
    ) -> torch.Tensor:
        """Log-probabilities or probabilities (T, B, V) in float32."""
        logits = net_output["encoder_out"].float()
        return logits.log_softmax(-1) if log_probs else logits.softmax(-1)

    def max_positions(self) -> None:
        return None

    # ---- state: the trained part only; the base stays in its own file

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.adapters.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Any, strict: bool = True, model_cfg: Any = None, args: Any = None) -> Any:
        return self.adapters.load_state_dict(state_dict, strict=strict)
