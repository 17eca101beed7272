"""Users who took the same items: the nearest by number of common items, and the sums of their vectors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from mmrepro.ops.graphs import SparseGraph, from_scipy, product
from mmrepro.ops.interactions import Interactions

BYTES_PER_ENTRY = 16  # of a pair of users in a block: its key, and scipy's index


class UserNeighbours(NamedTuple):
    """Each user's neighbours in order, and the number of items in common; 0 and 0 where there are no more."""

    users: Tensor
    """Shape (n_users, count), int32."""
    counts: Tensor
    """Shape (n_users, count), int32."""


def users_with_common_items(
    users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, count: int, chunk_bytes: int = 64 * 2**20
) -> UserNeighbours:
    """Return for each user the other users with the most items in common (DualGNN; methods, 3.12).

    Parameters
    ----------
    users, items
        Training pairs, shape (n_pairs,); repeated pairs count once.
    n_users, n_items
        Sizes.
    count
        Length of each list, at least 1. Users without a common item are not listed; equal numbers rank by index.
    chunk_bytes
        Memory of one block of users and all they share an item with (at least one user is taken: 16 n_users bytes). A
        block is bounded by its work, the sum over its users' items of the items' users: popular items fill whole rows.
    """
    taken = Interactions(users, items, n_users, n_items).matrix.astype(np.int64)
    takers = taken.T.tocsr()
    work = np.minimum(taken @ np.diff(takers.indptr), n_users)
    takers.data *= -n_users
    keys = np.empty((n_users, count), dtype=np.int64)
    for part in _blocks(work, chunk_bytes // BYTES_PER_ENTRY):
        keys[part] = _smallest_keys(taken[part] @ takers, part.start, count)
    found = torch.from_numpy(keys)
    return UserNeighbours((found % n_users).int(), -(found // n_users).int())


def _blocks(work: np.ndarray, bound: int) -> list[slice]:
    """Consecutive users whose work stays within a bound, at least one each."""
    ends, stops = np.cumsum(work), [0]
    while stops[-1] < len(work):
        before = ends[stops[-1] - 1] if stops[-1] else 0
        stops.append(max(stops[-1] + 1, int(np.searchsorted(ends, before + bound, "right"))))
    return [slice(*bounds) for bounds in itertools.pairwise(stops)]


def _smallest_keys(common: sp.csr_matrix, start: int, count: int) -> np.ndarray:
    """Each row's smallest keys, rising, without its own: a key, index - n_users x number, ranks by both; 0 is
    nobody.
    """
    keys, n_users = common.data, common.shape[1]
    keys += common.indices
    first = np.zeros((common.shape[0], count + 1), dtype=np.int64)
    for row, (begin, end) in enumerate(itertools.pairwise(common.indptr.tolist())):
        own = keys[begin:end]
        first[row, : len(own)] = own if len(own) <= count else np.partition(own, count)[: count + 1]
    first[first % n_users == np.arange(start, start + len(first))[:, None]] = 0
    first.sort(axis=1)
    return first[:, :count]


def repeat_at_random(neighbours: UserNeighbours) -> UserNeighbours:
    """Fill short lists with repeats from PyTorch's generator, as the program does before every epoch (methods, 3.12).

    Each repeat is drawn uniformly from the list as extended so far. Users without neighbours stay without.
    """
    lengths = (neighbours.counts > 0).sum(dim=1)
    width = neighbours.counts.shape[1]
    short = ((lengths > 0) & (lengths < width)).nonzero()[:, 0]
    lengths = lengths[short]
    places = torch.arange(width).repeat(len(short), 1)
    for place in range(1, width):
        drawn = torch.randint(place, (len(short), 1))
        earlier = places.gather(1, drawn)[:, 0]
        places[:, place] = torch.where(lengths <= place, earlier, places[:, place])
    return UserNeighbours(*(whole.index_copy(0, short, whole[short].gather(1, places)) for whole in neighbours))


def count_weights(counts: Tensor) -> Tensor:
    """Return the softmax over each row's numbers of common items, 0 where there is no neighbour; rows sum to 1 or 0.

    Parameters
    ----------
    counts
        Shape (n_users, count), integers at least 0.
    """
    return counts.float().masked_fill(counts == 0, -torch.inf).softmax(dim=1).nan_to_num(0.0)


def neighbour_sum_graph(users: Tensor, weights: Tensor) -> SparseGraph:
    """Build the graph whose product is each user's weighted sum over neighbours; the weights of a repeated one add up.

    Parameters
    ----------
    users, weights
        Neighbours and their weights, shape (n_users, count).

    Returns
    -------
    SparseGraph
        Shape (n_users, n_users), on the CPU; no more than `count` entries a row, none of weight 0.
    """
    n, count = users.shape
    columns, values = users.numpy().ravel(), weights.numpy().ravel()
    graph = sp.csr_matrix((values, columns, np.arange(0, n * count + 1, count)), shape=(n, n), copy=True)
    graph.eliminate_zeros()
    graph.sum_duplicates()
    return from_scipy(graph)


class UserGraph(nn.Module):
    """Adds to each user's vector its neighbours' weighted by the softmax of their common items (methods, 3.12 and
    3.13).

    Parameters
    ----------
    nearest
        Each user's neighbours, from `users_with_common_items`.
    repeat
        Whether `start_epoch` fills short lists with random repeats, for products with `draw` only.
    """

    def __init__(self, nearest: UserNeighbours, repeat: bool) -> None:
        super().__init__()
        self.nearest = self.drawn = nearest
        self.repeat = repeat
        self.graph = self.drawn_graph = neighbour_sum_graph(nearest.users, count_weights(nearest.counts))

    def drawn_neighbours(self) -> Tensor:
        """Return the neighbours drawn for the epoch, (n_users, count)."""
        return self.drawn.users

    def drawn_weights(self) -> Tensor:
        """Return the weights of the drawn neighbours, (n_users, count)."""
        return count_weights(self.drawn.counts)

    def start_epoch(self) -> None:
        """Draw the repeats of an epoch from PyTorch's generator."""
        if self.repeat:
            self.drawn = repeat_at_random(self.nearest)
            graph, like = neighbour_sum_graph(self.drawn_neighbours(), self.drawn_weights()), self.graph.matrix
            self.drawn_graph = graph.apply(lambda part: part.to(like.device, like.dtype))

    def forward(self, users: Tensor, draw: bool = False) -> Tensor:
        """Return vectors (n_users, d) with their neighbours' sums added; a draw takes the lists drawn for the epoch."""
        return users + product(self.drawn_graph if draw else self.graph, users)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> UserGraph:
        """Move and convert the graphs."""
        self.graph, self.drawn_graph = self.graph.apply(fn), self.drawn_graph.apply(fn)
        return self
