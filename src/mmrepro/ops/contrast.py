"""Losses over all pairs of a batch's rows, computed on the distinct rows with their counts.

A batch names popular items and active users many times. Equal rows have equal products, so sums over all pairs of the
batch are sums over pairs of distinct rows, each weighted by its counts: the same numbers from a fraction of the products.
No more than CHUNK_ROWS x distinct entries exist at a time; all in float32 also under autocast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmrepro.ops.dense import product_transposed
from mmrepro.ops.losses import CHUNK_ROWS


def info_nce(a: Tensor, b: Tensor, counts: Tensor, temperature: float) -> Tensor:
    """Contrast each row of a with all rows of b, its own being the right one (van den Oord et al. 2018; methods, NCE).

    Parameters
    ----------
    a, b
        Unit rows of the distinct members of a batch, shape (distinct, d); row r of one belongs to row r of the other.
    counts
        How often each occurs in the batch, shape (distinct,), the type of `a`; their sum is the batch.
    temperature
        Above 0.

    Returns
    -------
    Tensor
        Mean over the batch of -log(exp(a_r.b_r / t) / sum_s exp(a_r.b_s / t)), s over the batch, where a repeated
        member is its own false negative; a scalar in [log(batch) - 2 / t, log(batch) + 2 / t], and at least 0.
    """
    with torch.autocast(a.device.type, enabled=False):
        return _InfoNCE.apply(a, b, counts, temperature)


class _InfoNCE(torch.autograd.Function):
    """The loss and its gradient in one pass over blocks of rows: the softmax of a block needs no other."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, counts: Tensor, temperature: float) -> Tensor:
        scaled, log_counts, columns = a / temperature, counts.log(), b.T
        gradients = -counts[:, None] * b, -counts[:, None] * a
        total = -(counts * torch.linalg.vecdot(scaled, b)).sum()
        for start in range(0, len(a), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            weight = product_transposed(scaled[rows], b).add_(log_counts)
            largest = weight.amax(dim=1, keepdim=True)
            sums = weight.sub_(largest).exp_().sum(dim=1)
            total += (counts[rows] * (largest[:, 0] + sums.log())).sum()
            weight.mul_((counts[rows] / sums)[:, None])
            gradients[0][rows] += product_transposed(weight, columns)
            gradients[1].add_(product_transposed(weight.T, a[rows].T))
        batch = counts.sum()
        ctx.save_for_backward(*(g.div_(temperature * batch) for g in gradients))
        return total / batch

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return *(outputs[0] * g for g in ctx.saved_tensors), None, None


def similarity_gap(vectors: Tensor, content: Tensor, counts: Tensor) -> Tensor:
    """How far inner products of vectors are from the cosines of the items' content (AlignRec, similarity regulariser).

    Parameters
    ----------
    vectors
        Rows of the distinct members of a batch, of any length, shape (distinct, d).
    content
        Unit rows of their content, shape (distinct, e); no gradient.
    counts
        How often each occurs in the batch, shape (distinct,), the type of `vectors`; their sum is the batch.

    Returns
    -------
    Tensor
        || V V^T - C C^T ||_F / batch over all pairs of the batch (the norm is not squared); a scalar, at least 0.
    """
    weights = counts.sqrt()[:, None]
    with torch.autocast(vectors.device.type, enabled=False):
        return _GramDistance.apply(vectors * weights, content * weights) / counts.sum()


class _GramDistance(torch.autograd.Function):
    """|| X X^T - Y Y^T ||_F and its gradient in X; the matrix is symmetric, each block above the diagonal is visited once.

    Products of widths d and e instead of a matrix of pairs would be fewer, but their difference loses the digits.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        left, right = torch.cat([x, y], dim=1), torch.cat([x, -y], dim=1)
        gradient, square = torch.zeros_like(x), x.new_zeros(())
        for start in range(0, len(x), CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, len(x))
            gap = product_transposed(left[start:stop], right[start:])
            beside = gap[:, stop - start :]
            square += gap.square().sum() + beside.square().sum()
            gradient[start:stop] += product_transposed(gap, x[start:].T)
            gradient[stop:] += product_transposed(beside.T, x[start:stop].T)
        norm = square.sqrt()
        ctx.save_for_backward(gradient.mul_(2 / norm.clamp_min(torch.finfo(x.dtype).tiny)))
        return norm

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        return outputs[0] * ctx.saved_tensors[0], None
