"""Groups of items: how much of a result comes from popular items."""

from __future__ import annotations

import numpy as np

N_DECILES = 10
GROUP_CUTOFF = 20
"""Length of the lists in which a group's items are looked for."""


def popularity_deciles(popularity: np.ndarray) -> np.ndarray:
    """Cut the items into ten groups as equal as possible; where that is not exact, the first ones have an item more.

    Parameters
    ----------
    popularity
        Training interactions of each item, shape (n_items,); of two equally popular items the lower index comes first.

    Returns
    -------
    ndarray
        Shape (n_items,), int8: 1 for the least popular items to 10 for the most popular; negative for an item without
        a training interaction.
    """
    deciles = np.empty(len(popularity), dtype=np.int8)
    for decile, items in enumerate(np.array_split(np.argsort(popularity, kind="stable"), N_DECILES), start=1):
        deciles[items] = decile
    return np.where(popularity == 0, -deciles, deciles)


def count_by_group(deciles: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Count items, pairs or hits by the group of their items.

    Parameters
    ----------
    deciles
        As `popularity_deciles` has them, any shape; 0 is none.
    weights
        Of each, in the same shape; none: one.

    Returns
    -------
    ndarray
        Shape (11,), int64: 0 for the cold items, which are in a decile, too; 1 to 10.
    """
    flat = deciles.ravel()
    each = np.ones(len(flat), dtype=np.int64) if weights is None else weights.ravel()
    counts = np.bincount(np.abs(flat), weights=each, minlength=N_DECILES + 1)
    counts[0] = each[flat < 0].sum()
    return counts.astype(np.int64)


def group_sizes(popularity: np.ndarray, held_out: np.ndarray) -> dict[str, np.ndarray]:
    """Return how many items, training interactions and test pairs each group has.

    Parameters
    ----------
    popularity, held_out
        Training interactions and test pairs of each item, shapes (n_items,).

    Returns
    -------
    dict
        `items`, `interactions`, `pairs` -> shape (11,), as `count_by_group`.
    """
    deciles = popularity_deciles(popularity)
    weights = {"items": None, "interactions": popularity, "pairs": held_out}
    return {name: count_by_group(deciles, weight) for name, weight in weights.items()}
