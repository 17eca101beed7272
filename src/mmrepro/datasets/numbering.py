"""Numbers of users and items that follow from who interacted with what, and from no name.

A number decides what is drawn for a user or an item. It must say nothing of popularity, which the order of appearance
does, and nothing of names: with other keys, or rows in another order, the same data have the same numbers, and every
figure is the same.

The numbers are the order of colours by colour refinement (Weisfeiler and Leman 1968): a user's colour is a hash of the
colours of the user's items, an item's one of the colours of its users, over and again. Those that it cannot tell apart,
such as two users with one and the same history, are ordered by their keys.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mmrepro.columns import Columns

ROUNDS = 4
"""After which colours differ, where they ever do, in all but made-up data."""
LABELS = (Columns.TIMESTAMP, Columns.RATING)


def numbered(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the users and the items of interactions in the order of their numbers.

    Parameters
    ----------
    rows
        Columns `user` and `item`: codes that compare as the keys do; perhaps `timestamp` and `rating`. One row a
        distinct pair.

    Returns
    -------
    tuple
        Codes of the users, and of the items, each once.
    """
    users, user_codes = pd.factorize(rows[Columns.USER], sort=True)
    items, item_codes = pd.factorize(rows[Columns.ITEM], sort=True)
    edges = np.zeros(len(rows), dtype=np.uint64)
    for label in (name for name in LABELS if name in rows):
        edges = _mixed(edges ^ _mixed(rows[label].to_numpy(np.float64).view(np.uint64)))
    of_users = np.zeros(len(user_codes), dtype=np.uint64)
    of_items = np.zeros(len(item_codes), dtype=np.uint64)
    for _ in range(ROUNDS):
        of_users, of_items = (
            _gathered(of_users, users, of_items[items], edges),
            _gathered(of_items, items, of_users[users], edges + np.uint64(1)),
        )
    return np.asarray(user_codes)[_order(of_users)], np.asarray(item_codes)[_order(of_items)]


def _gathered(colours: np.ndarray, owners: np.ndarray, others: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """New colours: of the old one and of all neighbours', in whatever order."""
    sums = np.zeros(len(colours), dtype=np.uint64)
    np.add.at(sums, owners, _mixed(others ^ edges))
    return _mixed(_mixed(colours) + sums)


def _order(colours: np.ndarray) -> np.ndarray:
    return np.argsort(colours, kind="stable")


def _mixed(values: np.ndarray) -> np.ndarray:
    """Scatter 64-bit values (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
