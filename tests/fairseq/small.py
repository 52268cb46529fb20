"""Small models in fairseq's own classes, for comparing with ours."""

from dataclasses import dataclass
from pathlib import Path

from fairseq.data import Dictionary
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from omegaconf import OmegaConf

import mms_recipes.plugins  # noqa: F401


def small_config(**changes: object) -> Wav2Vec2Config:
    """A wav2vec 2.0 of 3 blocks of 32 channels, MMS's kind (layer-norm extractor, pre-norm)."""
    fields = {
        "extractor_mode": "layer_norm",
        "conv_bias": True,
        "layer_norm_first": True,
        "conv_feature_layers": "[(16, 20, 10)] + [(16, 4, 4)] + [(24, 4, 4)] + [(24, 2, 2)]",
        "encoder_layers": 3,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 64,
        "encoder_attention_heads": 4,
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "final_dim": 16,
        "latent_vars": 8,
        "quantize_targets": True,
        "num_negatives": 10,
        "encoder_layerdrop": 0.0,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    cfg = OmegaConf.structured(Wav2Vec2Config(**(fields | changes)))  # type: ignore[arg-type]
    OmegaConf.set_struct(cfg, False)
    return cfg


@dataclass
class Pretrained:
    path: Path
    model: Wav2Vec2Model


def dictionary(letters: str) -> Dictionary:
    result = Dictionary()
    for letter in letters:
        result.add_symbol(letter)
    return result
