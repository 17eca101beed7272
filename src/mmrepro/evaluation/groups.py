"""Groups of items and of users: how much of a result comes from popular items and from users with a long history."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mmrepro.columns import TRAIN
from mmrepro.datasets.interactions import PreparedDataset

N_DECILES = 10


def popularity_deciles(popularity: np.ndarray) -> np.ndarray:
    """Cut the items into ten groups as equal as possible; where that is not exact, the first ones have an item more.

    Parameters
    ----------
    popularity
        Training interactions of each item, shape (n_items,); of two equally popular items the lower index comes first.

    Returns
    -------
    ndarray
        Shape (n_items,), int64: 1 for the least popular items to 10 for the most popular.
    """
    deciles = np.empty(len(popularity), dtype=np.int64)
    for decile, items in enumerate(np.array_split(np.argsort(popularity, kind="stable"), N_DECILES), start=1):
        deciles[items] = decile
    return deciles


def item_groups(popularity: np.ndarray) -> dict[int, np.ndarray]:
    """Return the items of each decile of popularity, and under 0 those without a training interaction.

    Parameters
    ----------
    popularity
        As for `popularity_deciles`.

    Returns
    -------
    dict
        0 to 10 -> mask of items, shape (n_items,), bool. Items of group 0 are in a decile, too.
    """
    deciles = popularity_deciles(popularity)
    return {0: popularity == 0, **{decile: deciles == decile for decile in range(1, N_DECILES + 1)}}


def recall_by_group(
    relevant: tuple[np.ndarray, np.ndarray], listed: tuple[np.ndarray, np.ndarray], groups: Mapping[int, np.ndarray]
) -> dict[int, float]:
    """Return the share of the relevant pairs of each group of items that is listed.

    Parameters
    ----------
    relevant, listed
        Users and items, each (n,), no pair twice.
    groups
        From `item_groups`.

    Returns
    -------
    dict
        Group -> share in [0, 1]; NaN for a group without a relevant pair.
    """
    n_items = len(groups[0])
    found = pd.Series(_codes(relevant, n_items)).isin(_codes(listed, n_items))  # hashed: ten times as fast as sorting
    return {group: float(found[inside[relevant[1]]].mean()) for group, inside in groups.items()}


def distinct_pairs(dataset: PreparedDataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items of a split, each pair once, by user and item."""
    codes = np.unique(_codes(dataset.pairs(split), dataset.n_items))
    return codes // dataset.n_items, codes % dataset.n_items


def history_lengths(dataset: PreparedDataset) -> np.ndarray:
    """Return the number of different training items of each user, shape (n_users,), int64."""
    return np.bincount(distinct_pairs(dataset, TRAIN)[0], minlength=dataset.n_users)


def _codes(pairs: tuple[np.ndarray, np.ndarray], n_items: int) -> np.ndarray:
    """One number a pair of user and item."""
    return pairs[0].astype(np.int64) * n_items + pairs[1]
