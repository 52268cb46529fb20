"""Which tensor of fairseq is which of Hugging Face, one by one: a tensor outside the table is an error, not skipped."""

from collections.abc import Iterator, Mapping, Sequence
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


def shapes(model: Mapping[str, Any], layers: Sequence[tuple[int, int, int]]) -> dict[str, tuple[int, ...]]:
    """Shapes of an encoder's tensors, under fairseq's names; `layers` are its convolutions."""
    dim, inner, last = model["encoder_embed_dim"], model["encoder_ffn_embed_dim"], layers[-1][0]
    found: dict[str, tuple[int, ...]] = {"mask_emb": (dim,)}
    before = 1
    for number, (channels, kernel, _) in enumerate(layers):
        block = f"feature_extractor.conv_layers.{number}"
        found |= {f"{block}.0.weight": (channels, before, kernel), f"{block}.0.bias": (channels,)}
        for norm in ("2", "2.1"):
            found |= {f"{block}.{norm}.{leaf}": (channels,) for leaf in ("weight", "bias")}
        before = channels
    found |= _linear("post_extract_proj", dim, last)
    found |= {f"layer_norm.{leaf}": (last,) for leaf in ("weight", "bias")}
    found |= {f"encoder.layer_norm.{leaf}": (dim,) for leaf in ("weight", "bias")}
    kernel = model["conv_pos"]
    grouped = (dim, dim // model["conv_pos_groups"], kernel)
    found |= {f"encoder.pos_conv.0.{leaf}": shape for leaf, shape in _normed(grouped).items()}
    for number in range(model["encoder_layers"]):
        block = f"encoder.layers.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= _linear(f"{block}.self_attn.{name}", dim, dim)
        found |= _linear(f"{block}.fc1", inner, dim) | _linear(f"{block}.fc2", dim, inner)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            found |= {f"{block}.{name}.{leaf}": (dim,) for leaf in ("weight", "bias")}
    if model["quantize_targets"]:
        words, final = model["latent_groups"] * model["latent_vars"], model["final_dim"]
        found["quantizer.vars"] = (1, words, model["latent_dim"] // model["latent_groups"])
        found |= _linear("quantizer.weight_proj", words, last)
        found |= _linear("project_q", final, model["latent_dim"]) | _linear("final_proj", final, dim)
    return found


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _normed(weight: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Of a convolution with a normalised weight (fairseq: weight_norm with dim=2)."""
    return {"weight_g": (1, 1, weight[2]), "weight_v": weight, "bias": (weight[0],)}


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
