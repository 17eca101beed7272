"""Dense float32 products by oneDNN on the CPU.

PyTorch hands float32 products to MKL; on the processors measured here (AMD EPYC, AVX-512) oneDNN takes half the time
for the sizes of a first layer (benchmarks/README.md). On another device, for another type or without oneDNN, PyTorch
decides.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def product_transposed(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a @ b.T, plus a bias; no gradient of its own.

    Parameters
    ----------
    a, b
        Shapes (n, k) and (m, k); need not be contiguous.
    bias
        Shape (m,).

    Returns
    -------
    Tensor
        Shape (n, m).
    """
    if a.device.type == "cpu" and a.dtype == b.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return F.linear(a, b, bias)


class _Linear(torch.autograd.Function):
    """A linear layer on constant inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return product_transposed(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        return None, product_transposed(gradients[0].T, ctx.saved_tensors[0].T), gradients[0].sum(dim=0)


def linear_of_constant(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x @ weight.T + bias, differentiable in weight and bias but not in x.

    Parameters
    ----------
    x
        Constant inputs such as features, shape (n, k).
    weight, bias
        Shapes (m, k) and (m,).

    Returns
    -------
    Tensor
        Shape (n, m); bfloat16 under autocast.
    """
    if torch.is_autocast_enabled(x.device.type):
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)
