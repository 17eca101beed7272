"""EASE^R: Embarrassingly Shallow Autoencoders for Sparse Data (Steck, WWW 2019)."""

from __future__ import annotations

import psutil
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from mmrepro.errors import MmreproError
from mmrepro.models.base import Model, ModelParameters
from mmrepro.ops.cooccurrence import cooccurrence_blocks
from mmrepro.ops.interactions import Interactions

BYTES_PER_PAIR = 12  # of items: float64 while the matrix is inverted in place, float32 for the weights
BLOCK_BYTES = 256 * 2**20  # of co-occurrences


class EASEParameters(ModelParameters):
    """Parameters of EASE."""

    regularisation: float = Field(300.0, gt=0, description="lambda, added to the diagonal of X^T X")


class EASE(Model):
    """A linear model from a user's history to all items, whose weights B have a zero diagonal, in closed form.

    With the histories X, P = (X^T X + lambda I)^-1 and B_ij = -P_ij / P_jj off the diagonal (Steck, eq. 8). The matrix
    is dense: fitting needs 12 bytes a pair of items and 256 MiB, on the CPU and in float64, and is refused where they
    are not to be had. Scores need the 4 bytes a pair of the weights, which no file of the run holds.
    """

    Parameters = EASEParameters
    closed_form = True
    weights: Tensor

    def __init__(self, interactions: Interactions, parameters: EASEParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.history = interactions.matrix
        self.register_buffer("weights", torch.empty(0), persistent=False)

    def fit(self) -> None:
        """Compute the weights.

        Raises
        ------
        MmreproError
            When the memory that is free does not hold the matrix, or lambda is too small for float64.
        """
        n_items = self.history.shape[1]
        _require_memory(n_items)
        matrix = torch.zeros(n_items, n_items, dtype=torch.float64)
        for part, block in cooccurrence_blocks(self.history, BLOCK_BYTES):
            matrix[part] = torch.from_numpy(block.toarray())
        matrix.diagonal().add_(self.parameters_.regularisation)
        _invert(matrix)
        weights = matrix.div_(-matrix.diagonal().clone()).float()
        self.weights = weights.fill_diagonal_(0).to(self.weights.device)

    def score(self, users: Tensor) -> Tensor:
        """Return each user's row of X B: the sum of the weights' rows of the items in the history."""
        rows = self.history[users.cpu().numpy()]
        items, starts = (torch.from_numpy(a).to(users.device) for a in (rows.indices, rows.indptr[:-1]))
        return F.embedding_bag(items, self.weights, starts, mode="sum")

    def score_history(self, items: Tensor) -> Tensor:
        """Return the sum of the weights' rows of the items."""
        return self.weights.index_select(0, items).sum(dim=0)


def _require_memory(n_items: int) -> None:
    """Refuse to start where the matrix would not fit."""
    needed, free = (b / 1e6 for b in (BYTES_PER_PAIR * n_items**2 + BLOCK_BYTES, psutil.virtual_memory().available))
    if needed > free:
        raise MmreproError(
            f"model 'ease': {n_items} items need {needed:,.0f} MB of memory and {free:,.0f} MB are free;"
            " use a larger machine, or leave ease out of `models` for this data set"
        )


def _invert(matrix: Tensor) -> None:
    """Replace a symmetric positive definite matrix by its inverse, in place."""
    columns = matrix.T  # LAPACK's order, without which each step would take a copy
    info = torch.zeros((), dtype=torch.int32)
    torch.linalg.cholesky_ex(columns, out=(columns, info))
    if int(info):
        raise MmreproError("model 'ease': X^T X + lambda I is not positive definite in float64; raise `regularisation`")
    torch.cholesky_inverse(columns, out=columns)
