"""Neighbours of items by co-occurrence and by popularity, and how many of the former a list of others recovers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmrepro.evaluation.ranking import NO_ITEM

CHUNK_BYTES = 256 * 2**20
BYTES_PER_ENTRY = 64  # of a block of co-occurrences: the product, its coordinates, and what sorting them needs


def cf_neighbours(interactions: Any, k: int, chunk_bytes: int = CHUNK_BYTES) -> np.ndarray:
    """Return the items most similar to each item by who interacted with them.

    The similarity of items i and j with users U_i and U_j is the cosine of their columns,
    |U_i and U_j| / sqrt(|U_i| |U_j|) (Sarwar et al. 2001, binary). The item itself is left out, and so is an item
    without a user in common; among equal cosines the lower index comes first, also where rounding would tell them
    apart.

    Parameters
    ----------
    interactions
        Binary user-item matrix, `Interactions.matrix`.
    k
        Length of the lists, at least 0.
    chunk_bytes
        Memory of the co-occurrences held at once; those of one item are held whole, at most 64 bytes an item.
        Time grows with the sum of the squared numbers of items a user has.

    Returns
    -------
    np.ndarray
        Shape (n_items, k), int64, by falling cosine, then `NO_ITEM`.
    """
    of_item = interactions.T.tocsr()
    n_items = of_item.shape[0]
    n_users_of = np.diff(of_item.indptr)
    bounds = np.minimum(of_item @ np.diff(interactions.indptr), n_items)
    neighbours = np.full((n_items, k), NO_ITEM, dtype=np.int64)
    for rows in _blocks(bounds, chunk_bytes // BYTES_PER_ENTRY):
        common = (of_item[rows] @ interactions).tocoo()
        items, others, counts = common.row + rows.start, common.col, common.data
        apart = items != others
        items, others, counts = items[apart], others[apart], counts[apart]
        # the squared cosine times |U_i|: one quotient of whole numbers, so that equal cosines are equal floats
        order = np.lexsort((others, -(counts.astype(np.float64) ** 2) / n_users_of[others], items))
        items, others = items[order], others[order]
        ranks = np.arange(len(items)) - np.searchsorted(items, items)
        first = ranks < k
        neighbours[items[first], ranks[first]] = others[first]
    return neighbours


def _blocks(bounds: np.ndarray, limit: int) -> Iterator[slice]:
    """Consecutive rows whose bounds sum to at most `limit`, at least one row each."""
    ends, start = np.cumsum(bounds), 0
    while start < len(bounds):
        before = ends[start] - bounds[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield slice(start, stop)
        start = stop


def popular_neighbours(popularity: np.ndarray, k: int) -> np.ndarray:
    """Return the most popular other items of each item, ties by index.

    Parameters
    ----------
    popularity
        Shape (n_items,).
    k
        Length of the lists, at most n_items - 1.

    Returns
    -------
    np.ndarray
        Shape (n_items, k), int64.
    """
    best = np.argsort(-popularity, kind="stable")[: k + 1]
    lists = np.tile(best[:k], (len(popularity), 1))
    for rank, item in enumerate(best[:k]):  # an item gives up its place in its own list
        lists[item, rank:] = best[rank + 1 :]
    return lists


def neighbour_recall(wanted: np.ndarray, lists: np.ndarray, k: int) -> float | None:
    """Return the share of wanted neighbours that stand in the lists, both cut at k, as a mean over items.

    Parameters
    ----------
    wanted
        Shape (n_items, >= k), best first, then `NO_ITEM`; items without any are left out of the mean.
    lists
        Shape (n_items, >= k), none twice in a row.
    k
        Where both are cut.

    Returns
    -------
    float or None
        In [0, 1]; none where no item wants a neighbour.
    """
    wanted, lists = wanted[:, :k], lists[:, :k]
    there = wanted != NO_ITEM
    n_wanted = there.sum(axis=1)
    rows = np.arange(len(wanted))[:, None] * np.int64(len(wanted))
    found = (np.isin(rows + wanted, rows + lists) & there).sum(axis=1)
    shares = found[n_wanted > 0] / n_wanted[n_wanted > 0]
    return float(shares.mean()) if len(shares) else None
