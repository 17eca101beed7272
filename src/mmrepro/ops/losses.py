"""Losses as pure functions; each bound in a docstring is a property test."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmrepro.ops.dense import product_transposed

NORM_EPSILON = 1e-12
COSINE_EPSILON = 1e-8
BPR_EPSILON = 1e-10
PAIR_TEMPERATURE = 4.0  # exp(-2 ||a - b||^2) = exp(4 (cos - 1)) on the unit sphere
CHUNK_ROWS = 256  # rows of the pair matrix held at once: 256 x batch floats stay in the cache


class _Unit(torch.autograd.Function):
    """Rows over their norms, with the gradient in closed form: PyTorch's own passes over the matrix three times as
    often.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(NORM_EPSILON)
        rows = x / norms
        ctx.save_for_backward(rows, norms)
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rows, norms = ctx.saved_tensors
        along = torch.linalg.vecdot(gradients[0], rows).unsqueeze(-1)
        along = along.masked_fill_(norms <= NORM_EPSILON, 0.0)  # a clamped norm is a constant
        return torch.addcmul(gradients[0], rows, along, value=-1).div_(norms)


def unit(x: Tensor) -> Tensor:
    """Divide each row by its norm, clamped from below at 1e-12; computed in float32 also under autocast.

    Parameters
    ----------
    x
        Shape (..., d).

    Returns
    -------
    Tensor
        Same shape; float32 for bfloat16, otherwise the type of `x`.
    """
    return _Unit.apply(x.float() if x.dtype == torch.bfloat16 else x)


def bpr(difference: Tensor) -> Tensor:
    """Bayesian personalised ranking: -mean log(1e-10 + sigmoid(difference)) (Rendle et al. 2009; methods, BPR_eps).

    Parameters
    ----------
    difference
        Score of the positive minus score of the negative item, shape (batch,).

    Returns
    -------
    Tensor
        A scalar in [0, -log(1e-10)], but for rounding.
    """
    return -torch.log(BPR_EPSILON + torch.sigmoid(difference)).mean()


def bpr_log_sigmoid(difference: Tensor) -> Tensor:
    """Bayesian personalised ranking, stabilised: -mean log sigmoid(difference) (Rendle et al. 2009; methods, BPR_ls).

    Parameters
    ----------
    difference
        Score of the positive minus score of the negative item, shape (batch,).

    Returns
    -------
    Tensor
        A scalar, at least 0, finite for every finite difference.
    """
    return -F.logsigmoid(difference).mean()


def embedding_norm(*embeddings: Tensor) -> Tensor:
    """Sum of un-squared Frobenius norms divided by the rows of the last argument (methods, Emb); at least 0."""
    return torch.stack([torch.linalg.vector_norm(e) for e in embeddings]).sum() / embeddings[-1].shape[0]


def half_squared_norm(*embeddings: Tensor, rows: int) -> Tensor:
    """Half the sum of squared Frobenius norms divided by a fixed number of rows (methods, Reg_half); at least 0."""
    return torch.stack([e.square().sum() for e in embeddings]).sum() / (2 * rows)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """One minus the mean cosine of matching rows (AlignRec, user-item alignment).

    Parameters
    ----------
    a, b
        Shape (batch, d); lengths are clamped from below at 1e-8 (methods, cos_eps).

    Returns
    -------
    Tensor
        A scalar in [0, 2].
    """
    return 1 - F.cosine_similarity(a, b, dim=1, eps=COSINE_EPSILON).mean()


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance between matching unit rows (CM3, alignment term).

    Parameters
    ----------
    a, b
        Unit rows, shape (batch, d).

    Returns
    -------
    Tensor
        A scalar in [0, 4].
    """
    return (a - b).square().sum(dim=-1).mean()


def uniformity(x: Tensor) -> Tensor:
    """Log of the mean Gaussian potential over all pairs of rows (CM3, uniformity of users).

    Parameters
    ----------
    x
        Unit rows, shape (batch, d).

    Returns
    -------
    Tensor
        ln mean_{a<b} exp(-2 ||x_a - x_b||^2), a scalar in [-8, 0]; 0 for a single row, which has no pair.
    """
    return _PairLogMean.apply(x, None, 0.0, 1.0)


def calibrated_uniformity(x: Tensor, content: Tensor, min_similarity: float, max_similarity: float) -> Tensor:
    """Uniformity whose repulsion is calibrated by content similarity (CM3, calibrated uniformity of items).

    Parameters
    ----------
    x
        Unit rows, shape (batch, d).
    content
        Unit rows of the fused content vectors of the same items, shape (batch, e).
    min_similarity, max_similarity
        The similarity s_ab of a pair is the cosine of their contents clamped to this range; no gradient where clamped.

    Returns
    -------
    Tensor
        ln mean_{a<b} exp(-2 (||x_a - x_b||^2 - 2 + 2 s_ab)). With s in [0, 1] it lies between `uniformity(x)` (all s
        equal to 1) and `uniformity(x)` + 4; 0 for a single row.
    """
    return _PairLogMean.apply(x, content, min_similarity, max_similarity)


class _PairLogMean(torch.autograd.Function):
    """ln mean_{a<b} exp(4 (cos_ab - s_ab)), s_ab = 1 or the clamped content cosine, with its gradient in one pass.

    The pair matrix is symmetric: each block above the diagonal is visited once, and value and gradients are summed
    while it is in the cache. No more than CHUNK_ROWS x batch entries exist at a time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, content: Tensor | None, low: float, high: float) -> Tensor:
        inputs = [x] if content is None else [x, content]
        half = torch.is_autocast_enabled(x.device.type)
        operands = [t.detach().to(torch.bfloat16) if half else t.detach() for t in inputs]
        scaled = [t * PAIR_TEMPERATURE for t in operands]
        gradients = [torch.zeros_like(t) for t in inputs]
        n = x.shape[0]
        if n < 2:
            ctx.save_for_backward(*gradients)
            return x.new_zeros(())
        total = x.new_zeros(())
        for start in range(0, n, CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, n))
            weight, *similarity = (
                _products(s[rows], t[start:], x.dtype) for s, t in zip(scaled, operands, strict=True)
            )
            if similarity:
                clamped = similarity[0].clamp(low * PAIR_TEMPERATURE, high * PAIR_TEMPERATURE)
                weight.sub_(clamped).exp_()
            else:
                weight.sub_(PAIR_TEMPERATURE).exp_()
            weight[:, : rows.stop - start].triu_(1)
            total += weight.sum()
            _add_gradient(gradients[0], weight, operands[0], rows)
            if similarity:
                inside = torch.eq(clamped, similarity[0], out=clamped)
                _add_gradient(gradients[1], inside.mul_(weight).neg_(), operands[1], rows)
        ctx.save_for_backward(*(g.mul_(PAIR_TEMPERATURE / total) for g in gradients))
        return torch.log(total / (n * (n - 1) / 2))

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        return outputs[0] * saved[0], outputs[0] * saved[1] if len(saved) == 2 else None, None, None


def _products(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """All inner products of two sets of rows."""
    with torch.autocast(a.device.type, enabled=False):
        return product_transposed(a, b).to(dtype)


def _add_gradient(gradient: Tensor, weight: Tensor, x: Tensor, rows: slice) -> None:
    """Add weight @ x to the block's rows and weight^T @ x to its columns (pairs above the diagonal only)."""
    with torch.autocast(x.device.type, enabled=False):
        weight = weight.to(x.dtype)
        gradient[rows] += product_transposed(weight, x[rows.start :].T)
        gradient[rows.start :] += product_transposed(weight.T, x[rows].T)
