"""The filter of interactions that preparing a data set and downloading its images share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mmrepro.columns import Columns

PAIR = [Columns.USER, Columns.ITEM]


def k_core(rows: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return the largest subset in which every user and every item has at least `k` rows.

    Parameters
    ----------
    rows
        Columns `user` and `item`, one row a distinct pair.
    k
        Least number of rows.

    Returns
    -------
    pd.DataFrame
        The rows kept, in their order; perhaps none.
    """
    users, _ = pd.factorize(rows[Columns.USER])
    items, _ = pd.factorize(rows[Columns.ITEM])
    kept = np.arange(len(rows))
    while len(kept):
        enough = (np.bincount(users[kept])[users[kept]] >= k) & (np.bincount(items[kept])[items[kept]] >= k)
        if enough.all():
            break
        kept = kept[enough]
    return rows.iloc[kept].reset_index(drop=True)
