"""Item-based nearest neighbours (Sarwar et al., WWW 2001; Deshpande and Karypis, TOIS 2004)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from mmrepro.models.base import Model, ModelParameters
from mmrepro.ops.cooccurrence import cooccurrence_blocks
from mmrepro.ops.interactions import Interactions

SPARSE_BYTES = 2**25  # of scores before they are made dense
BYTES_PER_SCORE = 8  # of a sparse score with its position


class ItemKNNParameters(ModelParameters):
    """Parameters of item-based nearest neighbours."""

    neighbours_per_item: int = Field(100, ge=1, description="items an item is scored through, itself not counted")
    shrinkage: float = Field(10.0, ge=0, description="added to the denominator: rare items are trusted less")
    similarity: Literal["cosine", "jaccard"] = Field("cosine", description="of the sets of users of two items")


class ItemKNN(Model):
    """An item's score is the sum of its similarities to the items that the user has had.

    With n_i users of item i and n_ij users of both, the similarity is n_ij / (sqrt(n_i n_j) + shrinkage), or
    n_ij / (n_i + n_j - n_ij + shrinkage). Each item that may be recommended keeps its most similar items and is scored
    through these, equal ones by increasing index; items without a common user are never neighbours. Cold items score 0.
    (Deshpande and Karypis keep the neighbours of the items in the history instead.) Fitting holds blocks of at most
    256 MiB, and the result 8 bytes a neighbour.
    """

    Parameters = ItemKNNParameters
    closed_form = True

    def __init__(self, interactions: Interactions, parameters: ItemKNNParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.history = interactions.matrix
        self.similarity = sp.csr_matrix((interactions.n_items,) * 2, dtype=np.float32)

    def fit(self) -> None:
        """Find each item's neighbours; column i of the similarity matrix holds those of item i."""
        users = np.bincount(self.history.indices, minlength=self.history.shape[1])
        rows = [self._neighbours(part, block, users) for part, block in cooccurrence_blocks(self.history)]
        self.similarity = sp.vstack(rows).T.tocsr()

    def _neighbours(self, part: slice, block: Any, users: np.ndarray) -> Any:
        """Rows of the block's items: the largest similarities of each, in float32 so that equal ones tie."""
        p, pairs = self.parameters_, block.tocoo()
        own = pairs.row + part.start
        both, first, second = pairs.data.astype(np.float64), users[own], users[pairs.col]
        total = np.sqrt(first * second) if p.similarity == "cosine" else first + second - both
        values = (both / (total + p.shrinkage)).astype(np.float32)
        values[own == pairs.col] = -np.inf  # ranks last, and is dropped below
        order = np.lexsort((pairs.col, -values, pairs.row))
        starts = np.searchsorted(pairs.row[order], np.arange(block.shape[0]))
        place = np.arange(len(order)) - starts[pairs.row[order]]
        kept = order[(place < p.neighbours_per_item) & (values[order] > 0)]
        return sp.csr_matrix((values[kept], (pairs.row[kept], pairs.col[kept])), shape=block.shape)

    def score(self, users: Tensor) -> Tensor:
        """Return the sums of similarities, on the device of `users`."""
        scores = torch.empty(len(users), self.history.shape[1])
        rows = max(1, SPARSE_BYTES // (BYTES_PER_SCORE * scores.shape[1]))
        for dense, part in zip(scores.split(rows), users.cpu().split(rows), strict=True):
            dense.copy_(torch.from_numpy((self.history[part.numpy()] @ self.similarity).toarray()))
        return scores.to(users.device)

    def score_history(self, items: Tensor) -> Tensor:
        """Return the sums of similarities to the items."""
        rows = self.similarity[items.cpu().numpy()]
        return torch.from_numpy(np.asarray(rows.sum(axis=0), dtype=np.float32)[0]).to(items.device)
