"""Raw data to prepared data: clean, k-core, re-index, split, count, check.

Nothing depends on the order of raw rows: they are sorted by user key, item key and time first, and users and items are
numbered in order of appearance in those sorted rows. Data with a published numbering keep it, and their rows keep file
order, because feature matrices and the literature's programs follow both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import SPLITS, TEST, TRAIN, VALID, Columns
from mmrepro.config import DatasetConfig, Expected, Split
from mmrepro.datasets.interactions import INTERACTIONS, ITEMS, STATISTICS, USERS
from mmrepro.datasets.raw import ITEM_COLUMNS, RawDataset
from mmrepro.datasets.readers import load_reader
from mmrepro.datasets.statistics import count, prepared_statistics
from mmrepro.errors import MmreproError
from mmrepro.provenance import atomic_path, write_json

PAIR = [Columns.USER, Columns.ITEM]


def prepare(config: DatasetConfig, raw: Path, output: Path) -> None:
    """Make the prepared data set.

    Parameters
    ----------
    config
        Filters, split and expected counts.
    raw
        Folder that `fetch` filled.
    output
        Folder to fill, `data/prepared/<dataset>`; `statistics.json` is written last.

    Raises
    ------
    MmreproError
        For an unreadable raw file, contradictory settings, an empty k-core, or counts that differ from the expected.
    """
    origin = f"data set '{config.dataset}'"
    if config.split.kind == "published" and config.k_core > 0:
        raise MmreproError(f"{origin}: 'k_core: {config.k_core}' would break the published split; set k_core: 0")
    data = load_reader(config).read(raw, config)
    published = data.user_numbering is not None and config.k_core == 0
    rows = data.interactions if published else _sorted(data.interactions)
    steps = [count("raw", rows)]
    if config.drop_duplicates:
        rows = _without_duplicates(rows, steps)
    if config.k_core > 0:
        rows = k_core(rows, config.k_core)
        steps.append(count(f"{config.k_core}-core", rows))
    if rows.empty:
        raise MmreproError(
            f"{origin}: no interaction is left of {steps[0]['interactions']} by the filters; lower k_core"
        )
    users = data.user_numbering if published else pd.Index(rows[Columns.USER].unique())
    items = data.item_numbering if published else pd.Index(rows[Columns.ITEM].unique())
    frame = _split_frame(config, _indexed(rows, users, items), origin)
    _check_expected(config.expected, frame, len(users), len(items), origin)
    kept = _without_cold_users(frame) if config.cold_users == "drop" else frame
    steps.append(count("split", kept))
    item_table = _item_table(data, items)
    statistics = prepared_statistics(config.dataset, frame, kept, users, item_table, steps, data.repairs)
    _write(output, kept, item_table, users, statistics)


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


def split_per_user(users: np.ndarray, split: Split) -> np.ndarray:
    """Divide the interactions of each user at random.

    A user with n < `few` interactions gives one to valid and one to test; otherwise v = floor(holdout * n) are held
    out, floor(v / 2) for valid and the rest for test (the rule of the literature's preparation program). A user with
    fewer than three keeps all for training, because nobody could be trained otherwise.

    Parameters
    ----------
    users
        User indices (rows,). The result is a function of their order: sort the rows first.
    split
        Seed, share and threshold.

    Returns
    -------
    np.ndarray
        `train`, `valid` or `test` for each row.
    """
    counts = np.bincount(users)
    few = counts < split.few
    held_out = np.where(few, 2, np.floor(split.holdout * counts + 1e-9).astype(np.int64))  # 0.29 * 100 is below 29
    held_out[counts < 3] = 0
    n_valid = held_out // 2
    order = np.lexsort((np.random.default_rng(split.seed).random(len(users)), users))
    rank = np.empty(len(users), np.int64)
    rank[order] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.select([rank < n_valid[users], rank < held_out[users]], [VALID, TEST], TRAIN)


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    order = [column for column in (*PAIR, Columns.TIMESTAMP, Columns.RATING, Columns.SPLIT) if column in rows]
    return rows.sort_values(order, kind="stable", ignore_index=True)


def _without_duplicates(rows: pd.DataFrame, steps: list[dict[str, Any]]) -> pd.DataFrame:
    """Drop repeated (user, item, time) rows, then repeated pairs but the earliest."""
    timed = [Columns.TIMESTAMP] if Columns.TIMESTAMP in rows else []
    rows = rows.drop_duplicates([*PAIR, *timed])
    steps.append(count("duplicates dropped", rows))
    earliest = rows.sort_values(timed, kind="stable") if timed else rows
    rows = rows.loc[earliest.drop_duplicates(PAIR).index.sort_values()]
    steps.append(count("repeated pairs dropped", rows))
    return rows.reset_index(drop=True)


def _indexed(rows: pd.DataFrame, users: pd.Index, items: pd.Index) -> pd.DataFrame:
    user_index = users.get_indexer(pd.Index(rows[Columns.USER])).astype(np.int32)
    item_index = items.get_indexer(pd.Index(rows[Columns.ITEM])).astype(np.int32)
    return rows.assign(**{Columns.USER: user_index, Columns.ITEM: item_index})


def _split_frame(config: DatasetConfig, frame: pd.DataFrame, origin: str) -> pd.DataFrame:
    """Return the frame with its split and the columns in their fixed order."""
    if config.split.kind == "published" and Columns.SPLIT not in frame:
        raise MmreproError(
            f"{origin}: reader '{config.reader}' finds no published split; set split.kind: random-per-user"
        )
    if config.split.kind == "random-per-user":
        ordered = frame.sort_values(PAIR, kind="stable")
        values = pd.Series(split_per_user(ordered[Columns.USER].to_numpy(), config.split), index=ordered.index)
        frame = frame.assign(**{Columns.SPLIT: values.astype("str")})
    if not (frame[Columns.SPLIT] == TRAIN).any():
        raise MmreproError(f"{origin}: no interaction is in the training split; check the split's settings")
    columns = (*PAIR, Columns.SPLIT, Columns.RATING, Columns.TIMESTAMP)
    return frame[[column for column in columns if column in frame]]


def _check_expected(expected: Expected, frame: pd.DataFrame, n_users: int, n_items: int, origin: str) -> None:
    """Compare before rows of cold users are dropped: published counts include them."""
    found = {"users": n_users, "items": n_items}
    found |= {split: int((frame[Columns.SPLIT] == split).sum()) for split in SPLITS}
    for name, wanted in expected.model_dump(exclude_none=True).items():
        if found[name] != wanted:
            raise MmreproError(
                f"{origin}: {found[name]} {name}, expected {wanted}; the raw files are others than those the "
                f"configuration was written for: fetch them again or correct 'expected' in config/datasets"
            )


def _without_cold_users(frame: pd.DataFrame) -> pd.DataFrame:
    trained = frame.loc[frame[Columns.SPLIT] == TRAIN, Columns.USER].unique()
    return frame.loc[frame[Columns.USER].isin(trained)].reset_index(drop=True)


def _item_table(data: RawDataset, items: pd.Index) -> pd.DataFrame:
    """Records of the items in index order; empty texts become null."""
    table = data.items.set_index(Columns.KEY).reindex(items)
    table = table.astype("str").replace(r"^\s*$", None, regex=True).astype("str")
    table.insert(0, Columns.KEY, items)
    table.index = pd.Index(np.arange(len(items), dtype=np.int32), name=Columns.ITEM)
    return table[list(ITEM_COLUMNS)]


def _write(output: Path, frame: pd.DataFrame, items: pd.DataFrame, users: pd.Index, statistics: dict[str, Any]) -> None:
    user_index = pd.Index(np.arange(len(users), dtype=np.int32), name=Columns.USER)
    tables = {
        INTERACTIONS: frame,
        ITEMS: items,
        USERS: pd.DataFrame({Columns.KEY: np.asarray(users)}, index=user_index),
    }
    (output / STATISTICS).unlink(missing_ok=True)
    for name, table in tables.items():
        with atomic_path(output / name) as temporary:
            table.to_parquet(temporary)
    write_json(output / STATISTICS, statistics)
