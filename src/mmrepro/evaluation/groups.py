"""Groups of items and of users: how much of a result comes from popular items and from users with a long history."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mmrepro.ops.interactions import Interactions

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
    relevant: Interactions, listed: tuple[np.ndarray, np.ndarray], groups: Mapping[int, np.ndarray]
) -> dict[int, float]:
    """Return the share of the relevant pairs of each group of items that is listed.

    Parameters
    ----------
    relevant
        Interactions that were held out.
    listed
        Users and items, each (n,).
    groups
        From `item_groups`.

    Returns
    -------
    dict
        Group -> share in [0, 1]; NaN for a group without a relevant pair.
    """
    # hashed: ten times as fast as sorting
    found = pd.Series(relevant.distinct_codes).isin(relevant.codes(*listed))
    return {group: float(found[inside[relevant.distinct[1]]].mean()) for group, inside in groups.items()}
