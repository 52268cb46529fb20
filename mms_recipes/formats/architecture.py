"""The tensors that a configuration names for a frozen encoder, compared with those of a file before anything is built.

The size of what is built is thus bounded by that of the file, whatever numbers its configuration has.
"""

from collections.abc import Mapping

import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config

from mms_recipes.formats.encoder_fields import conv_layers
from mms_recipes.formats.tensors import require_sound

Shapes = dict[str, tuple[int, ...]]


def require_encoder(state: Mapping[str, torch.Tensor], cfg: Wav2Vec2Config, where: str) -> None:
    """Raise ValueError unless `state` holds the tensors that `cfg` names and no others, of its shapes, all numbers."""
    blocks = {name.split(".")[2] for name in state if name.startswith("encoder.layers.")}
    if len(blocks) != cfg.encoder_layers:
        named = f"encoder.layers.{min(cfg.encoder_layers, len(blocks))}"
        raise ValueError(
            f"{where}: {named}: the configuration names {cfg.encoder_layers} blocks (encoder_layers), and there are "
            f"tensors of {len(blocks)}; configuration and weights are not of one model"
        )
    expected = _shapes(cfg)
    for name in [*expected, *sorted(state.keys() - expected.keys())]:
        found = tuple(state[name].shape) if name in state else "nothing"
        if found != expected.get(name):
            raise ValueError(
                f"{where}: {name}: found {found}, expected {expected.get(name, 'no tensor of that name')}; another "
                "architecture than the configuration's"
            )
    require_sound(state, where)


def _shapes(cfg: Wav2Vec2Config) -> Shapes:
    """Names and shapes of a Wav2Vec2Model's tensors without those of pretraining (fairseq: wav2vec2.py)."""
    dim, inner = cfg.encoder_embed_dim, cfg.encoder_ffn_embed_dim
    convolutions = conv_layers(cfg.conv_feature_layers)
    last = convolutions[-1][0]
    shapes: Shapes = {"mask_emb": (dim,)} | _affine("layer_norm", last)
    before = 1
    for number, (channels, kernel, _) in enumerate(convolutions):
        prefix = f"feature_extractor.conv_layers.{number}."
        shapes[prefix + "0.weight"] = (channels, before, kernel)
        if cfg.conv_bias:
            shapes[prefix + "0.bias"] = (channels,)
        if cfg.extractor_mode == "layer_norm":
            shapes |= _affine(prefix + "2.1", channels)
        elif number == 0:
            shapes |= _affine(prefix + "2", channels)
        before = channels
    if last != dim:
        shapes |= {"post_extract_proj.weight": (dim, last), "post_extract_proj.bias": (dim,)}
    shapes |= _positions(cfg, dim) | _affine("encoder.layer_norm", dim)
    for number in range(cfg.encoder_layers):
        prefix = f"encoder.layers.{number}."
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= {f"{prefix}self_attn.{name}.weight": (dim, dim), f"{prefix}self_attn.{name}.bias": (dim,)}
        shapes |= {prefix + "fc1.weight": (inner, dim), prefix + "fc1.bias": (inner,)}
        shapes |= {prefix + "fc2.weight": (dim, inner), prefix + "fc2.bias": (dim,)}
        shapes |= _affine(prefix + "self_attn_layer_norm", dim) | _affine(prefix + "final_layer_norm", dim)
    return shapes


def _positions(cfg: Wav2Vec2Config, dim: int) -> Shapes:
    width = dim // cfg.conv_pos_groups
    if cfg.pos_conv_depth == 1:
        weights: Shapes = {"weight_g": (1, 1, cfg.conv_pos), "weight_v": (dim, width, cfg.conv_pos), "bias": (dim,)}
        return {f"encoder.pos_conv.0.{leaf}": shape for leaf, shape in weights.items()}
    kernel = max(3, cfg.conv_pos // cfg.pos_conv_depth)
    weights = {"weight": (dim, width, kernel), "bias": (dim,)}
    return {
        f"encoder.pos_conv.{number}.0.{leaf}": shape
        for number in range(cfg.pos_conv_depth)
        for leaf, shape in weights.items()
    }


def _affine(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
