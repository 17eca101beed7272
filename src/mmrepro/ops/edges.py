"""Learned weights on the edges of a fixed sparse graph: products of end nodes, softmax, weighted sums of neighbours.

An edge leads from a source to a target: the entry (target, source) of a sparse matrix. Every function is a CSR product
or products sampled at the edges, so that no (edges, d) tensor ever exists; nothing is scattered, so that all results
and gradients are the same in every run and for any number of threads, on the CPU and under PyTorch's deterministic
mode. All compute in the pattern's type (float32) also under autocast.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor

from mmrepro.ops.graphs import SparseGraph, from_scipy


@dataclass(frozen=True)
class EdgePattern(SparseGraph):
    """Where the entries of a sparse matrix stand; as a graph, each is 1.

    Edges are numbered by target, then source. `order` gives the edges' numbers by source, then target, and `rank` each
    edge's place in that order.
    """

    order: Tensor
    rank: Tensor

    def apply(self, function: Callable[[Tensor], Tensor]) -> EdgePattern:
        """Return the pattern with all its tensors moved or converted by `function`."""
        return EdgePattern(*(function(t) for t in (self.matrix, self.transpose, self.order, self.rank)))

    @property
    def reverse(self) -> EdgePattern:
        """The same edges led the other way; their values there are those of `reverse_values`."""
        return EdgePattern(self.transpose, self.matrix, self.rank, self.order)


def edge_pattern(targets: Tensor, sources: Tensor, n_targets: int, n_sources: int) -> EdgePattern:
    """Build the pattern (n_targets, n_sources) of edges given by their ends.

    Parameters
    ----------
    targets, sources
        Integers, shape (n_pairs,); a repeated pair counts once.
    n_targets, n_sources
        Numbers of nodes. Memory: 24 bytes an edge and 4 a node stay.
    """
    edges = (targets.long() * n_sources + sources).unique()
    rows, columns = edges // n_sources, edges % n_sources
    order = columns.argsort(stable=True)
    matrix = _ones(rows, columns, (n_targets, n_sources))
    transpose = _ones(columns[order], rows[order], (n_sources, n_targets))
    return EdgePattern(matrix, transpose, order.int(), order.argsort().int())


def _ones(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix of ones from sorted pairs, with 32-bit indices, which are faster."""
    pointers = torch.searchsorted(rows, torch.arange(shape[0] + 1, device=rows.device))
    ones = torch.ones(len(rows), device=rows.device)
    with warnings.catch_warnings():  # CSR tensors call themselves beta, once
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(pointers.int(), columns.int(), ones, size=shape, check_invariants=False)


def edge_products(pattern: EdgePattern, targets: Tensor, sources: Tensor) -> Tensor:
    """Return the inner product of the two end nodes of every edge.

    Parameters
    ----------
    pattern
        Shape (n, m).
    targets, sources
        Vectors of the nodes, shapes (n, d) and (m, d), d >= 1; differentiable.

    Returns
    -------
    Tensor
        Shape (edges,).
    """
    return _call(_Products, pattern, targets, sources)


def edge_softmax(pattern: EdgePattern, values: Tensor) -> Tensor:
    """Return the softmax of the edges' values over all edges with the same target.

    Parameters
    ----------
    pattern
        Shape (n, m).
    values
        Finite, shape (edges,); differentiable.

    Returns
    -------
    Tensor
        Shape (edges,), in [0, 1]; those of a target sum to 1.
    """
    return _call(_Softmax, pattern, values)


def edge_sum(pattern: EdgePattern, values: Tensor, sources: Tensor) -> Tensor:
    """Return each target's sum of its sources, weighted by the edges' values.

    Parameters
    ----------
    pattern
        Shape (n, m).
    values
        Shape (edges,); differentiable.
    sources
        Vectors of the nodes, shape (m, d); differentiable.

    Returns
    -------
    Tensor
        Shape (n, d); 0 for a target without edges.
    """
    return _call(_Sum, pattern, values, sources)


def source_values(pattern: EdgePattern, numbers: Tensor) -> Tensor:
    """Return the number of every edge's source, (edges,), of numbers (m,); differentiable."""
    ones = torch.ones((pattern.matrix.shape[0], 1), device=numbers.device)
    return edge_products(pattern, ones, numbers[:, None])


def reverse_values(pattern: EdgePattern, values: Tensor) -> Tensor:
    """Return the edges' values (edges,) in the order in which `pattern.reverse` numbers them; differentiable."""
    return _call(_Reverse, pattern, values)


def constant_graph(parts: Sequence[tuple[SparseGraph, Tensor]]) -> SparseGraph:
    """Return the sum of graphs of one shape (n, m) as a single graph without gradient.

    Parameters
    ----------
    parts
        Graphs with the values (edges,) that their entries get.

    Returns
    -------
    SparseGraph
        On the parts' device; 16 bytes an entry of the union.
    """
    total = sum(
        sp.csr_matrix(
            tuple(x.detach().cpu().numpy() for x in (values, graph.matrix.col_indices(), graph.matrix.crow_indices())),
            shape=graph.matrix.shape,
        )
        for graph, values in parts
    )
    return from_scipy(total).apply(lambda x: x.to(parts[0][1].device))


def _call(function: Any, pattern: EdgePattern, *inputs: Tensor) -> Tensor:
    with torch.autocast(inputs[0].device.type, enabled=False):
        return function.apply(pattern, *(x.to(pattern.matrix.dtype) for x in inputs))


def _dots(matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Inner products at the entries of a CSR matrix, row by row."""
    return torch.sparse.sampled_addmm(matrix, rows.contiguous(), columns.contiguous().T, beta=0.0).values()


def _times(matrix: Tensor, values: Tensor, dense: Tensor) -> Tensor:
    """Product of a dense matrix with the CSR matrix that has these values instead of its own."""
    crow, column = matrix.crow_indices(), matrix.col_indices()
    weighted = torch.sparse_csr_tensor(crow, column, values, size=matrix.shape, check_invariants=False)
    result = dense.new_empty(matrix.shape[0], dense.shape[1])
    return result.addmm_(
        weighted, dense.contiguous(), beta=0
    )  # `@` fills and copies the result, at the same cost again


def _row_sums(matrix: Tensor, values: Tensor) -> Tensor:
    return _times(matrix, values, values.new_ones(matrix.shape[1], 1))


def _of_rows(matrix: Tensor, numbers: Tensor) -> Tensor:
    """The number of each entry's row, from (n, 1)."""
    return _dots(matrix, numbers, numbers.new_ones(matrix.shape[1], 1))


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: EdgePattern, targets: Tensor, sources: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(targets, sources)
        return _dots(pattern.matrix, targets, sources)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pattern, (targets, sources) = ctx.pattern, ctx.saved_tensors
        of_targets = _times(pattern.matrix, gradients[0], sources) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[2]:
            return None, of_targets, None
        return None, of_targets, _times(pattern.transpose, gradients[0].index_select(0, pattern.order), targets)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: EdgePattern, values: Tensor) -> Tensor:
        matrix = pattern.matrix
        largest = torch.segment_reduce(values, "max", offsets=matrix.crow_indices().long(), unsafe=True)
        weights = (values - _of_rows(matrix, largest[:, None])).exp_()
        weights /= _of_rows(matrix, _row_sums(matrix, weights))
        ctx.pattern = pattern
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        matrix, (weights,) = ctx.pattern.matrix, ctx.saved_tensors
        weighted = weights * gradients[0]
        return None, weighted.addcmul(weights, _of_rows(matrix, _row_sums(matrix, weighted)), value=-1)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: EdgePattern, values: Tensor, sources: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(values, sources)
        return _times(pattern.matrix, values, sources)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pattern, (values, sources) = ctx.pattern, ctx.saved_tensors
        of_values = _dots(pattern.matrix, gradients[0], sources) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[2]:
            return None, of_values, None
        return None, of_values, _times(pattern.transpose, values.index_select(0, pattern.order), gradients[0])


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: EdgePattern, values: Tensor) -> Tensor:
        ctx.rank = pattern.rank
        return values.index_select(0, pattern.order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0].index_select(0, ctx.rank)
