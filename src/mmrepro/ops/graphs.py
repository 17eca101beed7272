"""Sparse graphs in CSR form, built once, and their products with dense matrices."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mmrepro.ops.interactions import Interactions

GRAPH_EPSILON = 1e-7  # added to every degree by LightGCN's normalisation (methods, G_sym7 and K_bin)
PAIR_BYTES = 2**25  # float64 rows of neighbours gathered at once


@dataclass(frozen=True)
class SparseGraph:
    """A CSR matrix and its transpose (the same tensor when it is symmetric)."""

    matrix: Tensor
    transpose: Tensor

    def apply(self, function: Callable[[Tensor], Tensor]) -> SparseGraph:
        """Return the graph with both matrices moved or converted by `function`."""
        matrix = function(self.matrix)
        return SparseGraph(matrix, matrix if self.transpose is self.matrix else function(self.transpose))

    def dense(self) -> Tensor:
        """Return the dense matrix (for tests and small data)."""
        return self.matrix.to_dense()


class _Product(torch.autograd.Function):
    """A graph product with its gradient, the product with the transpose."""

    @staticmethod
    def forward(ctx: Any, graph: SparseGraph, dense: Tensor) -> Tensor:
        ctx.graph = graph
        return _times(graph.matrix, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, _times(ctx.graph.transpose, gradients[0].contiguous())


def _times(matrix: Tensor, dense: Tensor) -> Tensor:
    """The product; `@` would fill its result with zeros first and copy it, for half as long again."""
    return dense.new_empty(matrix.shape[0], dense.shape[1]).addmm_(matrix, dense, beta=0)


def product(graph: SparseGraph, dense: Tensor) -> Tensor:
    """Multiply a sparse graph (n, m) with a dense matrix (m, d), in float32 also under autocast.

    Returns
    -------
    Tensor
        Shape (n, d); differentiable in `dense`.
    """
    with torch.autocast(dense.device.type, enabled=False):
        return _Product.apply(graph, dense.to(graph.matrix.dtype))


class _LayerSum(torch.autograd.Function):
    """sum_l graph^l x by Horner's rule, x + G (x + G (x + ..)), and its gradient, the same with the transpose.

    PyTorch's own gradient of a CSR product would build a dense matrix.
    """

    @staticmethod
    def forward(ctx: Any, graph: SparseGraph, start: Tensor, layers: int) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        return _horner(graph.matrix, start, layers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        return None, _horner(ctx.graph.transpose, gradients[0].contiguous(), ctx.layers), None


def _horner(matrix: Tensor, start: Tensor, layers: int) -> Tensor:
    total = start
    for _ in range(layers):
        total = torch.addmm(start, matrix, total)
    return total


def layer_sum(graph: SparseGraph, start: Tensor, layers: int) -> Tensor:
    """Return sum over l = 0..layers of graph^l @ start (methods, lgcn_sum), in float32 also under autocast.

    Parameters
    ----------
    graph
        Square graph over n nodes.
    start
        Layer 0, shape (n, d); differentiable.
    layers
        Number of products, at least 0.
    """
    with torch.autocast(start.device.type, enabled=False):
        return _LayerSum.apply(graph, start.to(graph.matrix.dtype), layers)


def layer_mean(graph: SparseGraph, start: Tensor, layers: int) -> Tensor:
    """Return `layer_sum` divided by layers + 1 (LightGCN, eq. 7-8)."""
    return layer_sum(graph, start, layers) / (layers + 1)


def from_scipy(matrix: Any, symmetric: bool = False) -> SparseGraph:
    """Turn a scipy sparse matrix into a float32 CSR graph with sorted indices."""

    def convert(part: Any) -> Tensor:
        csr = sp.csr_matrix(part, dtype=np.float32, copy=True)
        csr.sort_indices()
        index = [torch.from_numpy(a.astype(np.int32)) for a in (csr.indptr, csr.indices)]  # faster than int64
        with warnings.catch_warnings():  # CSR tensors call themselves beta
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(
                index[0], index[1], torch.from_numpy(csr.data), size=csr.shape, check_invariants=False
            )

    first = convert(matrix)
    return SparseGraph(first, first if symmetric else convert(matrix.T))


def user_item_graph(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> SparseGraph:
    """Build LightGCN's symmetrically normalised graph over users and items (methods, G_sym7).

    Parameters
    ----------
    users, items
        Training pairs, shape (n_pairs,); repeated pairs count once.
    n_users, n_items
        Numbers of nodes; items are nodes n_users .. n_users + n_items - 1.

    Returns
    -------
    SparseGraph
        Shape (n_users + n_items,) * 2; the edge (x, y) has the value ((deg_x + 1e-7)(deg_y + 1e-7))^-1/2, no self
        loops.
    """
    rows, columns = Interactions(users, items, n_users, n_items).distinct
    n = n_users + n_items
    adjacency = sp.coo_matrix((np.ones(len(rows)), (rows, columns + n_users)), shape=(n, n))
    adjacency = (adjacency + adjacency.T).tocsr()
    scale = sp.diags(np.power(np.asarray(adjacency.sum(axis=1)).ravel() + GRAPH_EPSILON, -0.5))
    return from_scipy(scale @ adjacency @ scale, symmetric=True)


def interaction_graph(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> SparseGraph:
    """Build the un-normalised matrix of users and items, (n_users, n_items); a repeated pair counts as often as it
    occurs.
    """
    pairs = sp.coo_matrix((np.ones(len(users)), (users, items)), shape=(n_users, n_items))
    return from_scipy(pairs)


def random_walk_graph(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, self_loops: bool = False
) -> SparseGraph:
    """Build the graph whose rows average over a node's neighbours (methods, G_row1 with self loops, D^-1 A without).

    Parameters
    ----------
    users, items
        Training pairs, shape (n_pairs,); a repeated pair weighs as often as it occurs.
    n_users, n_items
        Numbers of nodes; items are nodes n_users .. n_users + n_items - 1.
    self_loops
        Every node is a neighbour of its own.

    Returns
    -------
    SparseGraph
        Shape (n_users + n_items,) * 2, directed: rows sum to 1, those of isolated nodes are empty.
    """
    n = n_users + n_items
    pairs = sp.coo_matrix((np.ones(len(users)), (users, items + n_users)), shape=(n, n)).tocsr()
    adjacency = pairs + pairs.T + (sp.identity(n) if self_loops else sp.csr_matrix((n, n)))
    sums = np.asarray(adjacency.sum(axis=1)).ravel()
    return from_scipy(sp.diags(np.divide(1.0, sums, out=np.zeros(n), where=sums > 0)) @ adjacency)


def bipartite_graphs(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int
) -> tuple[SparseGraph, SparseGraph]:
    """Build the symmetrically normalised graph without an epsilon, and its block of users and items (methods, G_sym0).

    Parameters
    ----------
    users, items
        Training pairs, shape (n_pairs,); a repeated pair weighs as often as it occurs.
    n_users, n_items
        Numbers of nodes; items are nodes n_users .. n_users + n_items - 1.

    Returns
    -------
    tuple of SparseGraph
        The graph, shape (n_users + n_items,) * 2: the edge (x, y) has the value weight_xy (deg_x deg_y)^-1/2, degrees
        being sums of weights; no self loops, rows of isolated nodes are empty. And its block R_sym, (n_users, n_items).
    """
    pairs = sp.coo_matrix((np.ones(len(users)), (users, items)), shape=(n_users, n_items)).tocsr()
    scales = [_inverse_root(np.asarray(pairs.sum(axis=axis)).ravel()) for axis in (1, 0)]
    block = sp.diags(scales[0]) @ pairs @ sp.diags(scales[1])
    return from_scipy(sp.bmat([[None, block], [block.T, None]]), symmetric=True), from_scipy(block)


def _inverse_root(sums: np.ndarray) -> np.ndarray:
    """x^-1/2, and 0 where x is not above 0."""
    return np.power(sums, -0.5, out=np.zeros_like(sums), where=sums > 0)


def neighbour_mean_graph(neighbours: dict[str, Tensor], weights: dict[str, float]) -> SparseGraph:
    """Build the weighted sum of binary k-nearest-neighbour graphs, one a modality (methods, K_bin and its mixture).

    Parameters
    ----------
    neighbours
        Modality to neighbour indices, shape (n_items, k), the item itself included.
    weights
        Modality to its weight in the sum; not re-normalised.

    Returns
    -------
    SparseGraph
        Shape (n_items, n_items), directed: each row averages over its neighbours (row sums are k, hence values 1 / k
        but for the epsilon).
    """
    total: Any = None
    for modality, indices in neighbours.items():
        n, k = indices.shape
        columns = indices.cpu().numpy().ravel()
        values = np.full(n * k, weights[modality] / (k + GRAPH_EPSILON))
        part = sp.csr_matrix((values, columns, np.arange(0, n * k + 1, k)), shape=(n, n))
        total = part if total is None else total + part
    return from_scipy(total)


def weighted_neighbour_graph(features: Tensor, neighbours: Tensor) -> SparseGraph:
    """Build the k-nearest-neighbour graph that keeps the cosines, normalised by row sums on both sides (methods, K_w).

    Parameters
    ----------
    features
        Shape (n_items, dim), finite; a row of zeros has the cosine 0 to every item (the reference: NaN).
    neighbours
        Indices, shape (n_items, k), the item itself included.

    Returns
    -------
    SparseGraph
        Shape (n_items, n_items), directed: r_i^-1/2 cos_ij r_j^-1/2 with r_i = sum_j cos_ij over the kept pairs, in
        float64 until stored. Where r_i is not above 0, r_i^-1/2 counts as 0 (the reference: NaN below 0): nothing flows
        to or from such an item. Memory: 2^25 bytes of gathered rows, or those of one item.
    """
    n, k = neighbours.shape
    cosines = _cosines(features, neighbours)
    scale = _inverse_root(cosines.sum(axis=1))
    columns = neighbours.cpu().numpy()
    values = scale[:, None] * cosines * scale[columns]
    return from_scipy(sp.csr_matrix((values.ravel(), columns.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n)))


def _cosines(features: Tensor, neighbours: Tensor) -> np.ndarray:
    """Cosines of the kept pairs in float64, (n_items, k)."""
    lengths = torch.cat([torch.linalg.vector_norm(part.double(), dim=1) for part in features.split(4096)])
    divisors = torch.where(lengths > 0, lengths, 1.0)
    rows = max(1, PAIR_BYTES // (8 * features.shape[1] * neighbours.shape[1]))
    parts = []
    for own, near in zip(features.split(rows), neighbours.split(rows), strict=True):
        others = features.index_select(0, near.flatten()).double().view(*near.shape, -1)
        parts.append(others.mul_(own.double()[:, None]).sum(dim=2))
    return (torch.cat(parts) / (divisors[:, None] * divisors[neighbours])).cpu().numpy()
