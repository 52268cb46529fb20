"""config.json of Hugging Face and the config of fairseq's encoder, each from the other; what has no like is refused."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from mms_recipes import parsing
from mms_recipes.formats.encoder_fields import MAX_HOP
from mms_recipes.formats.encoder_fields import conv_layers as conv_layers

LAYER_NORM_EPS = 1e-5  # fixed in fairseq
# the same numbers under two names; with fairseq's default, which old checkpoints leave out
SAME = {
    "encoder_embed_dim": "hidden_size",
    "encoder_layers": "num_hidden_layers",
    "encoder_attention_heads": "num_attention_heads",
    "encoder_ffn_embed_dim": "intermediate_size",
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "encoder_layerdrop": "layerdrop",
    "dropout_input": "feat_proj_dropout",
    "dropout_features": "feat_quantizer_dropout",
    "layer_norm_first": "do_stable_layer_norm",
    "conv_bias": "conv_bias",
    "conv_pos": "num_conv_pos_embeddings",
    "conv_pos_groups": "num_conv_pos_embedding_groups",
    "latent_vars": "num_codevectors_per_group",
    "latent_groups": "num_codevector_groups",
    "logit_temp": "contrastive_logits_temperature",
    "num_negatives": "num_negatives",
    "mask_length": "mask_time_length",
    "mask_channel_prob": "mask_feature_prob",
    "mask_channel_length": "mask_feature_length",
}
EXTRACTOR = {"default": "group", "layer_norm": "layer"}
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "tanh": "tanh"}
# what Hugging Face's model cannot do: field and the one value that it can express
FIXED = {
    "quantize_input": False,
    "target_glu": False,
    "quantizer_depth": 1,
    "crop_seq_to_multiple": 1,
    "pos_conv_depth": 1,
    "conv_pos_batch_norm": False,
}
Width = Annotated[int, pydantic.Field(ge=1, le=262_144)]
Few = Annotated[int, pydantic.Field(ge=1, le=10_000)]
Rate = Annotated[float, pydantic.Field(ge=0, le=1)]
Each = Annotated[list[Width], pydantic.Field(min_length=1, max_length=64)]
Line = Annotated[str, pydantic.Field(max_length=10_000, pattern=r"^[^\x00-\x1f\x7f]*$")]  # goes into cards and logs


class Config(parsing.Schema):
    """What is read of config.json, with the defaults of transformers' Wav2Vec2Config."""

    model_type: Literal["wav2vec2"] = "wav2vec2"
    architectures: list[Line] | None = None
    add_adapter: Literal[False] = False
    use_weighted_layer_sum: Literal[False] = False
    feat_extract_activation: Literal["gelu"] = "gelu"
    layer_norm_eps: Annotated[float, pydantic.Field(ge=LAYER_NORM_EPS, le=LAYER_NORM_EPS)] = LAYER_NORM_EPS
    hidden_size: Width = 768
    num_hidden_layers: Annotated[int, pydantic.Field(ge=1, le=1_000)] = 12
    num_attention_heads: Annotated[int, pydantic.Field(ge=1, le=1_024)] = 12
    intermediate_size: Width = 3072
    hidden_act: Literal["gelu", "relu", "tanh"] = "gelu"
    hidden_dropout: Rate = 0.1
    attention_dropout: Rate = 0.1
    activation_dropout: Rate = 0.1
    layerdrop: Rate = 0.1
    feat_proj_dropout: Rate = 0.0
    feat_quantizer_dropout: Rate = 0.0
    do_stable_layer_norm: bool = False
    feat_extract_norm: Literal["group", "layer"] = "group"
    conv_bias: bool = False
    conv_dim: Each = pydantic.Field(default=[512] * 7)
    conv_kernel: Each = pydantic.Field(default=[10, 3, 3, 3, 3, 2, 2])
    conv_stride: Each = pydantic.Field(default=[5, 2, 2, 2, 2, 2, 2])
    num_conv_pos_embeddings: Few = 128
    num_conv_pos_embedding_groups: Few = 16
    num_codevectors_per_group: Few = 320
    num_codevector_groups: Few = 2
    codevector_dim: Width = 256
    proj_codevector_dim: Width = 256
    contrastive_logits_temperature: Annotated[float, pydantic.Field(gt=0, le=1_000)] = 0.1
    num_negatives: Annotated[int, pydantic.Field(ge=0, le=1_000_000)] = 100
    apply_spec_augment: bool = True
    mask_time_prob: Rate = 0.05
    mask_time_length: Few = 10
    mask_feature_prob: Rate = 0.0
    mask_feature_length: Few = 10
    adapter_attn_dim: Width | None = None
    classifier_proj_size: Width = 256
    vocab_size: Width | None = None
    id2label: dict[str, Line] | None = None
    licence: Line | None = None  # as our own export writes it
    provenance: list[Line] | None = None
    name_or_path: Line | None = pydantic.Field(default=None, alias="_name_or_path")


def to_huggingface(model: Mapping[str, Any], where: str, fine_tuned: bool) -> dict[str, Any]:
    """config.json's account of an encoder (fields of Wav2Vec2Config). Raises ValueError for what it cannot express."""
    wrong = [field for field, only in FIXED.items() if model.get(field, only) != only]
    if model["activation_fn"] not in ACTIVATIONS:
        wrong.append("activation_fn")
    if wrong:
        raise ValueError(
            f"{where}: {wrong[0]}={model[wrong[0]]!r} has no counterpart in Hugging Face's Wav2Vec2Model; "
            "keep this model in fairseq's form"
        )
    channels, kernels, strides = zip(*conv_layers(model["conv_feature_layers"]), strict=True)
    final_dim = model["final_dim"] if model["final_dim"] > 0 else model["encoder_embed_dim"]
    config = {"model_type": "wav2vec2"} | {theirs: model[ours] for ours, theirs in SAME.items()}
    config |= {
        "hidden_act": ACTIVATIONS[model["activation_fn"]],
        "feat_extract_activation": "gelu",
        "feat_extract_norm": EXTRACTOR[model["extractor_mode"]],
        "layer_norm_eps": LAYER_NORM_EPS,
        "conv_dim": list(channels),
        "conv_kernel": list(kernels),
        "conv_stride": list(strides),
        "codevector_dim": model["latent_dim"] if model["latent_dim"] > 0 else final_dim,
        "proj_codevector_dim": final_dim,
        "mask_time_prob": model["mask_prob"],
        "apply_spec_augment": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if fine_tuned:  # masks of fine-tuning are the trainer's choice; these are the library's own values
        names = ("mask_time_prob", "mask_time_length", "mask_feature_prob", "mask_feature_length")
        config |= {name: Config.model_fields[name].default for name in names}
    elif not config["mask_time_prob"] and not config["mask_feature_prob"]:
        # without a probability the mask embedding would not be there at all
        config |= {"mask_time_prob": Config.model_fields["mask_time_prob"].default, "apply_spec_augment": False}
    return config


def read(path: Path) -> Config:
    """Read config.json. Raises FileNotFoundError, or ValueError: the key, what was found, what is expected."""
    config = parsing.read_json(Config, path)
    layers = {name: len(getattr(config, name)) for name in ("conv_dim", "conv_kernel", "conv_stride")}
    if len(set(layers.values())) != 1:
        found = ", ".join(f"{name} {count}" for name, count in layers.items())
        raise ValueError(f"{path}: conv_dim, conv_kernel and conv_stride are of different lengths ({found})")
    if math.prod(config.conv_stride) > MAX_HOP:
        raise ValueError(f"{path}: conv_stride: found {config.conv_stride}, expected a product of {MAX_HOP} at most")
    for part in ("num_attention_heads", "num_conv_pos_embedding_groups"):
        _require_divisor(config, part, "hidden_size", path)
    return config


def _require_divisor(config: Config, part: str, whole: str, path: Path) -> None:
    if getattr(config, whole) % getattr(config, part):
        raise ValueError(
            f"{path}: {part}: found {getattr(config, part)}, expected a number that divides {whole} "
            f"({getattr(config, whole)}) evenly"
        )


def to_fairseq(config: Config, path: Path, quantizer: bool) -> dict[str, Any]:
    """Fields of fairseq's Wav2Vec2Config from config.json. Raises ValueError for a quantizer that cannot be."""
    if quantizer:
        _require_divisor(config, "num_codevector_groups", "codevector_dim", path)
    layers = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    model = {ours: getattr(config, theirs) for ours, theirs in SAME.items()}
    masked = config.apply_spec_augment
    return model | {
        "_name": "wav2vec2",
        "activation_fn": next(ours for ours, theirs in ACTIVATIONS.items() if theirs == config.hidden_act),
        "extractor_mode": next(ours for ours, theirs in EXTRACTOR.items() if theirs == config.feat_extract_norm),
        "conv_feature_layers": str(list(layers)),
        "quantize_targets": quantizer,
        "latent_dim": config.codevector_dim if quantizer else 0,
        "final_dim": config.proj_codevector_dim if quantizer else 0,
        "mask_prob": config.mask_time_prob if masked else 0.0,
        "mask_channel_prob": config.mask_feature_prob if masked else 0.0,
    }
