"""What is counted about a prepared data set, and the hashes that name its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import SPLITS, TEST, TRAIN, VALID, Columns
from mmrepro.datasets.item_keys import alike
from mmrepro.datasets.raw import Pictures, RawDataset
from mmrepro.datasets.times import time_range

EXAMPLES = 5
LISTED = 1000
"""Names of pictures that a report lists at most."""


@dataclass(frozen=True)
class Findings:
    """What was found in raw files beside their rows.

    Attributes
    ----------
    repairs
        Counts of what the reader mended.
    notes
        What was guessed, a sentence each.
    record_keys
        Keys of the items that the files describe.
    never_had
        Those of them that no interaction names, sorted.
    time_orders_users
        Whether times compare between users.
    numbering
        Number of users and items of a published numbering; none: there is none.
    pictures
        What files a folder of pictures has, where there is one.
    """

    repairs: Mapping[str, int]
    notes: tuple[str, ...] = ()
    record_keys: pd.Index = field(default_factory=lambda: pd.Index([], dtype="str"))
    never_had: tuple[str, ...] = ()
    time_orders_users: bool = True
    numbering: tuple[int, int] | None = None
    pictures: Pictures | None = None

    @classmethod
    def of(cls, data: RawDataset, notes: Sequence[str]) -> Findings:
        """Return the findings of a reader, and more notes."""
        numberings = data.user_numbering, data.item_numbering
        sizes = None if numberings[0] is None or numberings[1] is None else (len(numberings[0]), len(numberings[1]))
        keys = pd.Index(data.items[Columns.KEY])
        never_had = tuple(sorted(keys[~keys.isin(data.interactions[Columns.ITEM].unique())]))
        return cls(data.repairs, (*data.notes, *notes), keys, never_had, data.time_orders_users, sizes, data.pictures)


def count(step: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the size of an interaction table after a step: distinct users, distinct items, rows."""
    return {
        "step": step,
        "users": int(rows[Columns.USER].nunique()),
        "items": int(rows[Columns.ITEM].nunique()),
        "interactions": len(rows),
    }


def count_copies(rows: pd.DataFrame) -> dict[str, int]:
    """Count what interactions say more than once.

    Parameters
    ----------
    rows
        Columns `user` and `item`, and perhaps `timestamp`, `rating` and `split`, sorted by all of them in this order.

    Returns
    -------
    dict
        `rows`: repetitions of an interaction at one time; `pairs`: further interactions of a user with an item at
        another time; `contradictory_ratings` and `pairs_in_several_splits`: pairs that have more than one.
    """

    def new(*names: str) -> np.ndarray:
        """Where a row differs from the row before it."""
        changes = [np.append(True, rows[n].to_numpy()[1:] != rows[n].to_numpy()[:-1]) for n in names if n in rows]
        return np.asarray(np.logical_or.reduce(changes))

    def several(name: str) -> int:
        """Pairs with more than one value of a column."""
        if name not in rows:
            return 0
        values = rows.drop_duplicates([Columns.USER, Columns.ITEM, name])
        return int(values.duplicated([Columns.USER, Columns.ITEM], keep="first").sum()) if len(values) else 0

    pair = new(Columns.USER, Columns.ITEM)
    at_one_time = new(Columns.USER, Columns.ITEM, Columns.TIMESTAMP)
    return {
        "rows": int((~at_one_time).sum()),
        "pairs": int((at_one_time & ~pair).sum()),
        "contradictory_ratings": several(Columns.RATING),
        "pairs_in_several_splits": several(Columns.SPLIT),
    }


def prepared_statistics(
    dataset: str,
    split: pd.DataFrame,
    kept: pd.DataFrame,
    users: pd.Index,
    items: pd.DataFrame,
    steps: list[dict[str, Any]],
    found: Findings,
    copies: Mapping[str, int],
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
    steps
        Counts after each filter.
    found
        What was found in the raw files beside their rows.
    copies
        From `count_copies`.

    Returns
    -------
    dict
        Values that JSON can hold; density is interactions / (users * items). `cold_users` and `cold_items` count before
        their rows are dropped, `cold_users_kept` and `cold_items_kept` after. `items_dropped` counts those without the
        content that was asked for (`image`, `text`). `user_degrees` and `item_degrees` say how
        many users and items (`count`) have how many of the interactions kept (`degree`, from 0, ascending).
        `numbering` has the sizes of a published numbering that items are still known by; null without one.
    """
    rows = {step["step"]: step["interactions"] for step in steps}
    duplicates = rows["raw"] - rows.get("repeated pairs dropped", rows["raw"])
    without_cold_users = rows.get("cold users dropped", len(split))
    numbering = None if found.numbering is None else dict(zip(("users", "items"), found.numbering, strict=True))
    return {
        "dataset": dataset,
        "n_users": len(users),
        "n_items": len(items),
        "content_hash": _content_hash(kept, users, items[Columns.KEY]),
        "item_list_hash": _keys_hash(items[Columns.KEY]),
        "numbering": numbering,
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
        "copies": dict(copies),
        "times": time_range(kept, found.time_orders_users),
        "records": _records(items[Columns.KEY], found),
        "without": {name: _without(items, name) for name in (Columns.TITLE, Columns.TEXT, Columns.IMAGE)},
        "distinct_texts": int(items[Columns.TEXT].nunique()),
        "pictures": _pictures(found.pictures),
        "items_without_image": int(items[Columns.IMAGE].isna().sum()),
        "items_without_text": int(items[Columns.TEXT].isna().sum()),
        "items_dropped": _items_dropped(steps),
        "users_with_every_item": _with_every_item(kept, users, len(items)),
        "keys_alike": {"users": _alike(users), "items": _alike(pd.Index(items[Columns.KEY]))},
        "repairs": dict(found.repairs),
        "notes": list(found.notes),
        "user_degrees": _degrees(kept[Columns.USER], len(users)),
        "item_degrees": _degrees(kept[Columns.ITEM], len(items)),
    }


def _with_every_item(kept: pd.DataFrame, users: pd.Index, n_items: int) -> list[str]:
    """Keys of users for whom no item is left that training does not have."""
    train = kept.loc[kept[Columns.SPLIT] == TRAIN].drop_duplicates([Columns.USER, Columns.ITEM])
    return users[np.flatnonzero(np.bincount(train[Columns.USER], minlength=len(users)) == n_items)].tolist()


def _records(items: pd.Series, found: Findings) -> dict[str, Any]:
    """How many items the files describe, how many described ones nobody has had, and keys of those that are left."""
    known = items.isin(found.record_keys)
    return {
        "described": int(known.sum()),
        "not_described": items[~known].head(EXAMPLES).tolist(),
        "never_had": len(found.never_had),
        "examples": list(found.never_had[:EXAMPLES]),
    }


def _without(items: pd.DataFrame, column: str) -> dict[str, Any]:
    """Items that lack something, and some of their keys."""
    lacking = items.loc[items[column].isna(), Columns.KEY]
    return {"items": len(lacking), "examples": lacking.head(EXAMPLES).tolist()}


def _alike(keys: pd.Index) -> dict[str, Any]:
    """Keys that differ by zeros in front, `.0` or case alone, which may be one user or item written in two ways."""
    found = alike(keys)
    return {"count": len(found), "examples": [" and ".join(f"'{key}'" for key in pair) for pair in found[:EXAMPLES]]}


def _pictures(pictures: Pictures | None) -> dict[str, Any] | None:
    if pictures is None:
        return None
    listed = list(pictures.unmatched[:LISTED])
    return {"found": pictures.found, "unmatched": len(pictures.unmatched), "listed": listed}


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
