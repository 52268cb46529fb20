"""config.json of Hugging Face and the config of fairseq's encoder, each from the other; what has no like is refused."""

from collections.abc import Mapping
from typing import Any

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
# the other way round; the defaults are those of transformers' Wav2Vec2Config
FIXED_THERE = {
    "model_type": "wav2vec2",
    "add_adapter": False,
    "use_weighted_layer_sum": False,
    "feat_extract_activation": "gelu",
    "layer_norm_eps": LAYER_NORM_EPS,
}
DEFAULTS_THERE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "layerdrop": 0.1,
    "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0,
    "do_stable_layer_norm": False,
    "feat_extract_norm": "group",
    "conv_bias": False,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "num_codevectors_per_group": 320,
    "num_codevector_groups": 2,
    "codevector_dim": 256,
    "proj_codevector_dim": 256,
    "contrastive_logits_temperature": 0.1,
    "num_negatives": 100,
    "apply_spec_augment": True,
    "mask_time_prob": 0.05,
    "mask_time_length": 10,
    "mask_feature_prob": 0.0,
    "mask_feature_length": 10,
    "adapter_attn_dim": None,
}


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
        config |= {name: DEFAULTS_THERE[name] for name in names}
    elif not config["mask_time_prob"] and not config["mask_feature_prob"]:
        # without a probability the mask embedding would not be there at all
        config |= {"mask_time_prob": DEFAULTS_THERE["mask_time_prob"], "apply_spec_augment": False}
    return config


def to_fairseq(config: Mapping[str, Any], where: str, quantizer: bool) -> dict[str, Any]:
    """Fields of fairseq's Wav2Vec2Config from config.json. Raises ValueError for what it cannot express."""
    wrong = [field for field, only in FIXED_THERE.items() if config.get(field, only) != only]
    config = DEFAULTS_THERE | dict(config)
    if config["hidden_act"] not in ACTIVATIONS.values():
        wrong.append("hidden_act")
    if config["feat_extract_norm"] not in EXTRACTOR.values():
        wrong.append("feat_extract_norm")
    if wrong:
        raise ValueError(
            f"{where}: {wrong[0]}={config.get(wrong[0])!r}: not a model that fairseq's wav2vec 2.0 can be; "
            f"expected {FIXED_THERE.get(wrong[0], 'one that fairseq knows')!r}"
        )
    layers = [config[name] for name in ("conv_dim", "conv_kernel", "conv_stride")]
    if len({len(row) for row in layers}) != 1:
        raise ValueError(f"{where}: conv_dim, conv_kernel and conv_stride are of different lengths")
    model = {ours: config[theirs] for ours, theirs in SAME.items()}
    masked = config["apply_spec_augment"]
    return model | {
        "_name": "wav2vec2",
        "activation_fn": next(ours for ours, theirs in ACTIVATIONS.items() if theirs == config["hidden_act"]),
        "extractor_mode": next(ours for ours, theirs in EXTRACTOR.items() if theirs == config["feat_extract_norm"]),
        "conv_feature_layers": str(list(zip(*layers, strict=True))),
        "quantize_targets": quantizer,
        "latent_dim": config["codevector_dim"] if quantizer else 0,
        "final_dim": config["proj_codevector_dim"] if quantizer else 0,
        "mask_prob": config["mask_time_prob"] if masked else 0.0,
        "mask_channel_prob": config["mask_feature_prob"] if masked else 0.0,
    }
