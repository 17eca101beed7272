"""Contrastive losses over all pairs of a batch's rows, or of a batch's rows and a whole table's.

A batch names popular items and active users many times. Equal rows have equal products, so sums over the batch are sums
over its distinct rows, each weighted by its count: the same numbers from a fraction of the products. Products exist
for a few rows at a time (BLOCK_ROWS, CHUNK_ROWS); all in float32 also under autocast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrepro.ops.dense import product_transposed
from mmrepro.ops.losses import CHUNK_ROWS, unit

BLOCK_ROWS = 64  # rows whose products with all others exist at once: they stay in the cache for 20,000 others


def info_nce(a: Tensor, b: Tensor, counts: Tensor, temperature: float) -> Tensor:
    """Contrast each row of a with all rows of b, its own being the right one (van den Oord et al. 2018; methods, NCE).

    Parameters
    ----------
    a, b
        Rows of the distinct members of a batch, of any length, shape (distinct, d); row r of one belongs to row r of
        the other.
    counts
        How often each occurs in the batch, shape (distinct,), the type of `a`; their sum is the batch.
    temperature
        Above 0.

    Returns
    -------
    Tensor
        Mean over the batch of -log(exp(a_r.b_r / t) / sum_s exp(a_r.b_s / t)), s over the batch, where a repeated
        member is its own false negative; a scalar, at least 0; of unit rows in [log(batch) - 2 / t, log(batch) +
        2 / t].
    """
    with torch.autocast(a.device.type, enabled=False):
        own = (counts * torch.linalg.vecdot(a, b)).sum() / temperature
        return (_LogSums.apply(a, b, counts, counts.log(), temperature) - own) / counts.sum()


def content_id_alignment(contents: Tensor, identities: Tensor, groups: Sequence[Tensor], temperature: float) -> Tensor:
    """Contrast the content vectors of a batch's members with their ID vectors (AlignRec, CCA; MGCN, contrast).

    Parameters
    ----------
    contents, identities
        Vectors of nodes, shape (n, d).
    groups
        Nodes of the batch, int64, shape (batch,), with repetitions; each group, such as users or items, on its own.
    temperature
        Above 0.

    Returns
    -------
    Tensor
        Sum over the groups of `info_nce` of the unit rows; a scalar, at least 0.
    """
    members, counts = zip(*(group.unique(return_counts=True) for group in groups), strict=True)
    rows, sizes = torch.cat(members), [len(nodes) for nodes in members]
    sides = (unit(vectors.index_select(0, rows)).split(sizes) for vectors in (contents, identities))
    terms = [info_nce(a, b, n.to(a.dtype), temperature) for a, b, n in zip(*sides, counts, strict=True)]
    return torch.stack(terms).sum()


def contrast_with_all(vectors: Tensor, others: Tensor, members: Tensor, temperature: float) -> Tensor:
    """Contrast a batch's rows of one table with all rows of another, their own being the right ones (methods, NCS).

    Parameters
    ----------
    vectors, others
        Tables whose rows belong together, shape (n, d).
    members
        Rows of the batch, int64, shape (batch,), with repetitions.
    temperature
        Above 0.

    Returns
    -------
    Tensor
        SUM over the batch of -log(exp(v_r.o_r / t) / sum_s exp(v_r.o_s / t)) of unit rows, s over the whole table; a
        scalar in batch x [log(n) - 2 / t, log(n) + 2 / t], and at least 0. Memory: BLOCK_ROWS x n floats.
    """
    rows, counts = members.unique(return_counts=True)
    with torch.autocast(vectors.device.type, enabled=False):
        a, b = unit(vectors.index_select(0, rows)), unit(others)
        weights = counts.to(a.dtype)
        own = (weights * torch.linalg.vecdot(a, b.index_select(0, rows))).sum() / temperature
        return _LogSums.apply(a, b, weights, None, temperature) - own


class _LogSums(torch.autograd.Function):
    """sum_r counts_r log sum_s exp(a_r.b_s / t + offset_s), and its gradient in one pass over blocks of rows."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, counts: Tensor, offsets: Tensor | None, temperature: float) -> Tensor:
        scaled, total = a / temperature, a.new_zeros(())
        gradient, transposed = torch.empty_like(a), b.new_zeros(b.shape[::-1])
        for start in range(0, len(a), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            weight = F.linear(scaled[rows], b, offsets)
            largest = weight.amax(dim=1, keepdim=True)
            sums = weight.sub_(largest).exp_().sum(dim=1)
            total += (counts[rows] * (largest[:, 0] + sums.log())).sum()
            weight.mul_((counts[rows] / sums)[:, None])
            gradient[rows] = weight @ b
            transposed.addmm_(a[rows].T, weight)
        ctx.save_for_backward(gradient.div_(temperature), transposed.div_(temperature).T)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return *(outputs[0] * g for g in ctx.saved_tensors), None, None, None


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
    """|| X X^T - Y Y^T ||_F and its gradient in X; the matrix is symmetric, each block above the diagonal is visited
    once.

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
