"""What is counted about a prepared data set, and the hashes that name its content."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import SPLITS, TEST, TRAIN, VALID, Columns


def count(step: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the size of an interaction table after a step: distinct users, distinct items, rows."""
    return {
        "step": step,
        "users": int(rows[Columns.USER].nunique()),
        "items": int(rows[Columns.ITEM].nunique()),
        "interactions": len(rows),
    }


def prepared_statistics(
    dataset: str,
    split: pd.DataFrame,
    kept: pd.DataFrame,
    users: pd.Index,
    items: pd.DataFrame,
    steps: list[dict[str, Any]],
    repairs: dict[str, int],
) -> dict[str, Any]:
    """Return the content of `statistics.json`.

    Parameters
    ----------
    dataset
        Name of the data set.
    split, kept
        Interactions with their split, before and after rows of cold users and items were dropped.
    users, items
        User keys and item table in index order.
    steps, repairs
        Counts after each filter, and of what the reader mended.

    Returns
    -------
    dict
        Values that JSON can hold; density is interactions / (users * items). `cold_users` and `cold_items` count before
        their rows are dropped, `cold_users_kept` and `cold_items_kept` after. `items_dropped` counts those without the
        content that was asked for (`image`, `text`). `user_degrees` and `item_degrees` say how
        many users and items (`count`) have how many of the interactions kept (`degree`, from 0, ascending).
    """
    rows = {step["step"]: step["interactions"] for step in steps}
    duplicates = rows["raw"] - rows.get("repeated pairs dropped", rows["raw"])
    without_cold_users = rows.get("cold users dropped", len(split))
    return {
        "dataset": dataset,
        "n_users": len(users),
        "n_items": len(items),
        "content_hash": _content_hash(kept, users, items[Columns.KEY]),
        "item_list_hash": _keys_hash(items[Columns.KEY]),
        "steps": steps,
        "density": len(kept) / (len(users) * len(items)),
        "interactions": {name: int((kept[Columns.SPLIT] == name).sum()) for name in SPLITS},
        "cold_users": {name: _cold(split, name, Columns.USER) for name in (VALID, TEST)},
        "cold_users_kept": {name: _cold(kept, name, Columns.USER) for name in (VALID, TEST)},
        "cold_user_rows_dropped": len(split) - without_cold_users,
        "cold_items": {name: _cold(split, name, Columns.ITEM) for name in (VALID, TEST)},
        "cold_items_kept": {name: _cold(kept, name, Columns.ITEM) for name in (VALID, TEST)},
        "cold_item_rows_dropped": without_cold_users - len(kept),
        "duplicates_dropped": duplicates,
        "items_without_image": int(items[Columns.IMAGE].isna().sum()),
        "items_without_text": int(items[Columns.TEXT].isna().sum()),
        "items_dropped": _items_dropped(steps),
        "repairs": repairs,
        "user_degrees": _degrees(kept[Columns.USER], len(users)),
        "item_degrees": _degrees(kept[Columns.ITEM], len(items)),
    }


def _items_dropped(steps: list[dict[str, Any]]) -> dict[str, int]:
    """How many items left for want of an image or a text, where any did."""
    without = "items without "
    dropped = {
        after["step"].removeprefix(without).split()[0]: before["items"] - after["items"]
        for before, after in pairwise(steps)
        if after["step"].startswith(without)
    }
    return {kind: count for kind, count in dropped.items() if count}


def _degrees(indices: pd.Series, size: int) -> dict[str, list[int]]:
    """How often each number of interactions occurs among all users or items."""
    degrees, counts = np.unique(np.bincount(indices, minlength=size), return_counts=True)
    return {"degree": degrees.tolist(), "count": counts.tolist()}


def _cold(frame: pd.DataFrame, split: str, column: str) -> int:
    """Number of users or items of a split that training has never seen."""
    seen = frame.loc[frame[Columns.SPLIT] == TRAIN, column]
    held_out = frame.loc[frame[Columns.SPLIT] == split, column]
    return int(held_out[~held_out.isin(seen)].nunique())


def _keys_hash(keys: pd.Index | pd.Series) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _content_hash(frame: pd.DataFrame, users: pd.Index, item_keys: pd.Series) -> str:
    codes = frame[Columns.SPLIT].map({name: code for code, name in enumerate(SPLITS)})
    digest = hashlib.sha256()
    for column in (frame[Columns.USER], frame[Columns.ITEM], codes):
        digest.update(column.to_numpy(np.dtype("<i4")).tobytes())
    digest.update(f"{len(frame)} {_keys_hash(users)} {_keys_hash(item_keys)}".encode())
    return digest.hexdigest()
