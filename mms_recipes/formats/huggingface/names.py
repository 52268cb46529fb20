"""Which tensor of fairseq is which of Hugging Face, one by one: a tensor outside the table is an error, not skipped."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

CTC_HEAD = {"proj.weight": "lm_head.weight", "proj.bias": "lm_head.bias"}
LID_HEAD = {
    f"{ours}.{leaf}": f"{theirs}.{leaf}"
    for ours, theirs in (("pooling_layer.linear", "projector"), ("pooling_layer.projection", "classifier"))
    for leaf in ("weight", "bias")
}
PRETRAINING = {"quantizer.vars": "quantizer.codevectors"} | {
    f"{ours}.{leaf}": f"{theirs}.{leaf}"
    for ours, theirs in (
        ("quantizer.weight_proj", "quantizer.weight_proj"),
        ("project_q", "project_q"),
        ("final_proj", "project_hid"),
    )
    for leaf in ("weight", "bias")
}
BLOCK = {
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.out_proj": "attention.out_proj",
    "self_attn_layer_norm": "layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "final_layer_norm": "final_layer_norm",
}
# fairseq keeps one row per language in the first dimension, which Hugging Face has not
ADAPTER = {
    "W_a": "linear_1.weight",
    "b_a": "linear_1.bias",
    "W_b": "linear_2.weight",
    "b_b": "linear_2.bias",
    "ln_W": "norm.weight",
    "ln_b": "norm.bias",
}
# torch's two spellings of a normalised weight, before and since 2.1
WEIGHT_NORM = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}


def old_weight_norm(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Spell normalised weights as fairseq does, whichever torch wrote them."""
    return {_old_spelling(name): tensor for name, tensor in tensors.items()}


def _old_spelling(name: str) -> str:
    for new, old in WEIGHT_NORM.items():
        name = name.removesuffix(new) + old if name.endswith(new) else name
    return name


def encoder(model: Mapping[str, Any], num_convs: int) -> dict[str, str]:
    """Names of an encoder's tensors: fairseq's Wav2Vec2Model -> Hugging Face's Wav2Vec2Model.

    `model` is the encoder's config (fields of Wav2Vec2Config).
    """
    table = {"mask_emb": "masked_spec_embed"}
    for number in range(num_convs):
        ours, theirs = f"feature_extractor.conv_layers.{number}", f"feature_extractor.conv_layers.{number}"
        table[f"{ours}.0.weight"] = f"{theirs}.conv.weight"
        if model["conv_bias"]:
            table[f"{ours}.0.bias"] = f"{theirs}.conv.bias"
        if model["extractor_mode"] == "layer_norm":
            table |= _affine(f"{ours}.2.1", f"{theirs}.layer_norm")
        elif number == 0:
            table |= _affine(f"{ours}.2", f"{theirs}.layer_norm")
    table |= _affine("layer_norm", "feature_projection.layer_norm")
    table |= _affine("post_extract_proj", "feature_projection.projection")
    for leaf in ("weight_g", "weight_v", "bias"):
        table[f"encoder.pos_conv.0.{leaf}"] = f"encoder.pos_conv_embed.conv.{leaf}"
    table |= _affine("encoder.layer_norm", "encoder.layer_norm")
    for number in range(model["encoder_layers"]):
        for ours, theirs in BLOCK.items():
            table |= _affine(f"encoder.layers.{number}.{ours}", f"encoder.layers.{number}.{theirs}")
    return table


def adapters(num_blocks: int) -> dict[str, str]:
    """Names of one language's adapter tensors: fairseq's Wav2Vec2Model -> Hugging Face's Wav2Vec2Model."""
    return dict(_adapters(num_blocks))


def _adapters(num_blocks: int) -> Iterator[tuple[str, str]]:
    for number in range(num_blocks):
        for ours, theirs in ADAPTER.items():
            prefix = f"encoder.layers.{number}.adapter_layer"
            yield f"{prefix}.{ours}", f"{prefix}.{theirs}"


def _affine(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in ("weight", "bias")}


def rename(
    tensors: Mapping[str, torch.Tensor], table: Mapping[str, str], where: str, optional: tuple[str, ...] = ()
) -> dict[str, torch.Tensor]:
    """Give tensors the names that `table` has for theirs, in the table's order.

    Raises ValueError when one is missing (except `optional` ones) or one is left over.
    """
    missing = [name for name in table if name not in tensors and name not in optional]
    left = sorted(tensors.keys() - table.keys())
    if missing or left:
        fault = f"{missing[0]!r} is missing" if missing else f"{left[0]!r} is not known"
        more = len(missing) + len(left) - 1
        raise ValueError(
            f"{where}: {fault}{f' (and {more} more tensors do not fit)' if more else ''}; expected the tensors of a "
            "wav2vec 2.0 model of the architecture that its config names"
        )
    return {new: tensors[old] for old, new in table.items() if old in tensors}
