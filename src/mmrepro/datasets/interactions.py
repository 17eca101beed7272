"""The prepared data set: integer interactions with their split, and what is known about items and users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import SPLITS, Columns
from mmrepro.errors import MmreproError
from mmrepro.ops.interactions import Interactions
from mmrepro.records.files import atomic_path, file_sha256, read_object, write_record

INTERACTIONS, ITEMS, USERS, STATISTICS = "interactions.parquet", "items.parquet", "users.parquet", "statistics.json"
LEFT_OUT = "left_out.parquet"
PUBLISHED_ITEMS = "published_items"


@dataclass(frozen=True)
class PreparedDataset:
    """Interactions of a prepared data set.

    Attributes
    ----------
    dataset
        Name of the data set.
    n_users, n_items
        Number of users and items; indices run from 0 and some may have no interaction.
    content_hash
        SHA-256 of the interactions, their split and the key lists.
    item_list_hash
        SHA-256 of the items' keys in their order: what features are made for.
    interactions
        Columns `user`, `item` (int32), `split` (train, valid or test), and `rating`, `timestamp` where known.
    """

    dataset: str
    n_users: int
    n_items: int
    content_hash: str
    interactions: pd.DataFrame
    item_list_hash: str = ""

    @classmethod
    def load(cls, folder: Path) -> PreparedDataset:
        """Read `data/prepared/<dataset>`.

        Parameters
        ----------
        folder
            Folder that `prepare` wrote.

        Raises
        ------
        MmreproError
            When a file is missing, or not the one that was prepared.
        """
        statistics = load_statistics(folder, "dataset", "n_users", "n_items", "content_hash", "item_list_hash")
        frame = _table(folder, INTERACTIONS)
        counts = statistics["dataset"], statistics["n_users"], statistics["n_items"]
        return cls(*counts, statistics["content_hash"], frame, statistics["item_list_hash"])

    def of(self, *splits: str) -> Interactions:
        """Return the interactions of some splits, in the order of the splits and then of the file.

        Parameters
        ----------
        *splits
            Of `train`, `valid` and `test`.

        Raises
        ------
        MmreproError
            For an unknown split.
        """
        if splits not in self._of:
            for split in splits:
                if split not in SPLITS:
                    raise MmreproError(f"unknown split '{split}'; valid are {', '.join(SPLITS)}")
            rows = [self.interactions.loc[self.interactions[Columns.SPLIT] == split] for split in splits]
            users, items = (
                np.concatenate([r[c].to_numpy(np.int64) for r in rows]) for c in (Columns.USER, Columns.ITEM)
            )
            self._of[splits] = Interactions(users, items, self.n_users, self.n_items)
        return self._of[splits]

    def require_held_out(self, *splits: str) -> None:
        """Raise MmreproError unless somebody is held out for each of the splits: a metric is a mean over users."""
        lacking = [split for split in splits if not len(self.of(split).users)]
        if lacking:
            most = int(self.interactions[Columns.USER].value_counts().max())
            raise MmreproError(
                f"data set '{self.dataset}': nobody is held out for {' and '.join(lacking)}, so that nothing can be "
                f"measured: who has fewer than three interactions keeps all for training, and nobody has more than "
                f"{most}; add interactions, or set another `split` in config/datasets"
            )

    @cached_property
    def _of(self) -> dict[tuple[str, ...], Interactions]:
        return {}


def load_items(folder: Path) -> pd.DataFrame:
    """Read the items of a prepared data set.

    Parameters
    ----------
    folder
        Folder that `prepare` wrote.

    Returns
    -------
    pd.DataFrame
        Indexed by `item` (int32, 0 ... n_items - 1); columns `key`, `title`, `text`, `image` (a path relative to the
        raw folder), null where unknown, and `image_reason` (why there is no image; null where there is one).
        `attrs[PUBLISHED_ITEMS]` is the number of items of the publisher's numbering, of which the keys are numbers;
        None where the items were numbered here.
    """
    items = _table(folder, ITEMS)
    numbering = load_statistics(folder, "numbering")["numbering"]
    items.attrs[PUBLISHED_ITEMS] = numbering and numbering["items"]
    return items


def load_users(folder: Path) -> pd.DataFrame:
    """Read the users of a prepared data set.

    Parameters
    ----------
    folder
        Folder that `prepare` wrote.

    Returns
    -------
    pd.DataFrame
        Indexed by `user` (int32, 0 ... n_users - 1); column `key`.
    """
    return _table(folder, USERS)


def load_left_out(folder: Path) -> pd.DataFrame:
    """Read the pairs of a user and an item that the raw data have and no split has.

    Parameters
    ----------
    folder
        Folder that `prepare` wrote.

    Returns
    -------
    pd.DataFrame
        Columns `user`, `item` (int32), by user and item: rows below a minimum rating, of items that a filter removed
        and `catalogue: described` has kept, or of cold users and items.
    """
    return _table(folder, LEFT_OUT)


def load_statistics(folder: Path, *needed: str) -> dict[str, Any]:
    """Read what `prepare` counted.

    Parameters
    ----------
    folder
        Folder that `prepare` wrote.
    *needed
        Keys that must be there.

    Raises
    ------
    MmreproError
        When the file is missing, damaged, or of another version.
    """
    path = _existing(folder, STATISTICS)
    statistics = read_object(path) or {}
    lacking = [key for key in needed if key not in statistics]
    if lacking:
        raise MmreproError(f"{path}: no key '{lacking[0]}'; delete its folder and run the study again")
    return statistics


def write_prepared(folder: Path, tables: Mapping[str, pd.DataFrame], statistics: Mapping[str, Any]) -> None:
    """Write a prepared data set; the statistics come last, with a hash of each table by which it is verified when read.

    Parameters
    ----------
    folder
        Where it is written.
    tables
        `INTERACTIONS`, `ITEMS`, `USERS` and `LEFT_OUT` -> table.
    statistics
        Content of `statistics.json`.
    """
    (folder / STATISTICS).unlink(missing_ok=True)
    for name, table in tables.items():
        with atomic_path(folder / name) as temporary:
            table.to_parquet(temporary)
    files = {name: file_sha256(folder / name) for name in tables}
    write_record(folder / STATISTICS, {**statistics, "files": files})


def _table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a prepared data set, unless it is not the one that was prepared."""
    path = _existing(folder, name)
    if file_sha256(path) != load_statistics(folder, "files")["files"].get(name):
        raise MmreproError(f"{path}: not the file that was prepared; delete its folder and run the study again")
    return pd.read_parquet(path)


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; run `mmrepro prepare` for this data set")
    return path
