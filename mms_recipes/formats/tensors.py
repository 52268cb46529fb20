"""Tensors of files of others: of a type that weights have, of the right shape, and every value a number."""

import math
from collections.abc import Mapping

import torch

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def require_sound(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Raise ValueError for the first tensor that holds something else than finite numbers of floating point."""
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS or tensor.layout != torch.strided or tensor.is_quantized:
            kind = tensor.dtype if tensor.layout == torch.strided else tensor.layout
            raise ValueError(
                f"{where}: {name}: found {kind}, expected {', '.join(map(str, FLOATS))}; get the file again"
            )
        if tensor.device.type != "cpu":
            raise ValueError(f"{where}: {name}: has no values ({tensor.device}); get the file again")
        if tensor.numel() and not all(math.isfinite(end) for end in torch.aminmax(tensor)):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"{where}: {name}: {bad} of {tensor.numel()} values are NaN or infinite; the model diverged, or the "
                "file is damaged"
            )


def require_shapes(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise ValueError for the first tensor whose shape is not the one expected of its name."""
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != tuple(expected[name]):
            raise ValueError(
                f"{where}: {name}: found {tuple(tensor.shape)}, expected {tuple(expected[name])}; weights and "
                "configuration are not of one model"
            )
