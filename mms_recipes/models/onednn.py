"""Products with frozen weights on the CPU by oneDNN: MKL, torch's choice there, is half as fast on AMD's processors."""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

# what torch.compile calls for a linear layer on the CPU; the name is torch's own, so do without where it is missing
AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def takes(x: torch.Tensor) -> bool:
    """Whether `product` is there for it: float32 on the CPU, and a torch with oneDNN."""
    return AVAILABLE and x.device.type == "cpu" and x.dtype == torch.float32


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """x W^T + b, of which nothing is kept for a backward pass."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return result


class FrozenProduct(torch.autograd.Function):
    """x W^T + b with frozen W and b; only W is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return product(grad, weight.t(), None), None, None


def linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """Frozen layer(x), by oneDNN where it takes x."""
    if not takes(x) or layer.weight.dtype != x.dtype:
        return layer(x)
    return (FrozenProduct.apply if torch.is_grad_enabled() else product)(x, layer.weight, layer.bias)
