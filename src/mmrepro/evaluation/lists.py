"""Ranked lists of users, in memory and as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmrepro.columns import Columns

if TYPE_CHECKING:
    import pandas as pd

NO_ITEM = -1
TIE_SEED = 0


@dataclass(frozen=True)
class RankedLists:
    """Items of each user by decreasing score, equal scores as drawn; `NO_ITEM` where candidates ran out."""

    users: np.ndarray
    """Shape (n,), int64."""
    items: np.ndarray
    """Shape (n, k), int64."""
    scores: np.ndarray
    """Shape (n, k), float32."""


def tie_order(n_items: int) -> np.ndarray:
    """Return the items in the order in which equal scores are listed, shape (n_items,)."""
    return np.random.default_rng([TIE_SEED, n_items]).permutation(n_items)


def lists_frame(lists: Mapping[str, RankedLists]) -> pd.DataFrame:
    """Return the lists of all splits as rows (split, user, rank, item, score), ranks from 1."""
    import pandas as pd

    frames = []
    for split, ranked in lists.items():
        n, k = ranked.items.shape
        frame = pd.DataFrame(
            {
                Columns.SPLIT: split,
                Columns.USER: np.repeat(ranked.users.astype(np.int32), k),
                Columns.RANK: np.tile(np.arange(1, k + 1, dtype=np.int16), n),
                Columns.ITEM: ranked.items.ravel().astype(np.int32),
                Columns.SCORE: ranked.scores.ravel(),
            }
        )
        frames.append(frame[frame[Columns.ITEM] != NO_ITEM])
    return pd.concat(frames, ignore_index=True)


def lists_of_rows(rows: pd.DataFrame, users: np.ndarray) -> RankedLists:
    """Return the lists of one split from its rows.

    Parameters
    ----------
    rows
        Columns user, rank, item and score, as `lists_frame` returns them.
    users
        Users of the split, rising; one without a row has an empty list, and rows of other users are left out.
    """
    ranks, known = rows[Columns.RANK].to_numpy(np.int64), rows[Columns.USER].to_numpy(np.int64)
    places = np.searchsorted(users, known)
    kept = (places < len(users)) & (users[np.minimum(places, len(users) - 1)] == known) if len(users) else known < 0
    items = np.full((len(users), int(ranks.max(initial=0))), NO_ITEM, dtype=np.int64)
    scores = np.full(items.shape, -np.inf, dtype=np.float32)
    items[places[kept], ranks[kept] - 1] = rows[Columns.ITEM].to_numpy()[kept]
    scores[places[kept], ranks[kept] - 1] = rows[Columns.SCORE].to_numpy()[kept]
    return RankedLists(users, items, scores)
