"""Raw data to prepared data: clean, drop what lacks content, k-core, number, split, count, check.

Nothing depends on the order of raw rows nor on the names of users and items: they are numbered as `numbering.py` says.
Data with a published numbering keep it while no filter removes users or items, because feature matrices and the
literature's programs follow it.

Keys are turned into integer codes once, in the order of the sorted keys; every step works on the codes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import IMAGE_REASON, SPLITS, TRAIN, Columns
from mmrepro.config.dataset import DatasetConfig, Expected
from mmrepro.datasets.filters import PAIR, k_core
from mmrepro.datasets.interactions import INTERACTIONS, ITEMS, LEFT_OUT, USERS, write_prepared
from mmrepro.datasets.numbering import numbered
from mmrepro.datasets.raw import ITEM_COLUMNS, RawDataset
from mmrepro.datasets.readers import load_reader
from mmrepro.datasets.remarks import remarks_on
from mmrepro.datasets.splits import Division, split_rows, would_test
from mmrepro.datasets.statistics import Findings, count, count_copies, prepared_statistics
from mmrepro.datasets.times import in_seconds
from mmrepro.errors import MmreproError
from mmrepro.records.files import remove_leftovers

NO_IMAGE = "no image"
OWN = "tabular"
"""Reader of somebody's own tables."""


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
        For an unreadable raw file, contradictory settings, a split without the timestamps it needs, filters that leave
        nothing, or counts that differ from the expected.
    """
    origin = f"data set '{config.dataset}'"
    _refuse_contradictions(config, origin)
    remove_leftovers(output)
    data = load_reader(config).read(raw, config)
    published = data.user_numbering is not None and not (config.k_core or config.drop_items_without)
    interactions, notes = in_seconds(data.interactions, data.time_unit, origin)
    rows, users, items = _coded(interactions, data, published)
    records = _described(data.items, raw)
    found = Findings.of(data, notes)
    had = [(rows[PAIR], users, items), *_disregarded(data)]
    del data, interactions  # the key of every row
    steps = [count("raw", rows)]
    copies = count_copies(rows)
    if config.drop_duplicates:
        rows = _without_duplicates(rows, steps)
    rows = _with_content(rows, items, records, config, raw, steps)
    if config.k_core > 0:
        rows = k_core(rows, config.k_core)
        steps.append(count(f"{config.k_core}-core", rows))
    if rows.empty:
        raise MmreproError(
            f"{origin}: no interaction is left of {steps[0]['interactions']} by the filters; lower k_core"
            + " or ask for less content in drop_items_without" * bool(config.drop_items_without)
        )
    if not published:
        rows, users, items = _renumbered(rows, users, items)
    if config.catalogue == "described":
        items = _with_described(items, records, published, origin)
    rows = rows.take(np.lexsort([rows[name].to_numpy() for name in reversed(PAIR)])).reset_index(drop=True)
    division = split_rows(rows, config, found.time_orders_users)
    frame = _split_frame(rows, division)
    steps.append(count("split", frame))
    _check_expected(config.expected, frame, len(users), len(items), origin)
    kept = _without_cold(config, frame, steps, origin)
    item_table = _item_table(records, items)
    statistics = prepared_statistics(config.dataset, frame, kept, users, item_table, steps, found, copies)
    statistics["decided_by_ties"] = division.decided_by_ties
    if config.reader == OWN:  # of the others, the literature says how they are split
        statistics["split"] = {"kind": config.split.kind, "would": would_test(rows, config, found.time_orders_users)}
    for note in remarks_on(statistics):
        print(f"{origin}: {note}", file=sys.stderr)
    user_table = pd.DataFrame({Columns.KEY: np.asarray(users)}, index=_numbers(users, Columns.USER))
    left_out = _left_out(had, users, items, kept)
    write_prepared(output, {INTERACTIONS: kept, ITEMS: item_table, USERS: user_table, LEFT_OUT: left_out}, statistics)


def _refuse_contradictions(config: DatasetConfig, origin: str) -> None:
    if config.split.kind == "published":
        if config.k_core > 0:
            raise MmreproError(f"{origin}: 'k_core: {config.k_core}' would break the published split; set k_core: 0")
        if config.drop_items_without:
            raise MmreproError(f"{origin}: 'drop_items_without' would break the published split; set it to []")
    elif not config.drop_duplicates:
        raise MmreproError(
            f"{origin}: with 'drop_duplicates: false' a pair could stand in training and in test; set it to true"
        )


def _coded(rows: pd.DataFrame, data: RawDataset, published: bool) -> tuple[pd.DataFrame, pd.Index, pd.Index]:
    """Rows with codes in place of keys, sorted, and the user and item keys by code."""
    if published:
        assert data.user_numbering is not None and data.item_numbering is not None
        users, items = data.user_numbering, data.item_numbering
        user_codes = users.get_indexer(pd.Index(rows[Columns.USER]))
        item_codes = items.get_indexer(pd.Index(rows[Columns.ITEM]))
    else:
        user_codes, users = _sorted_codes(rows[Columns.USER])
        item_codes, items = _sorted_codes(rows[Columns.ITEM])
    codes = {Columns.USER: user_codes.astype(np.int32), Columns.ITEM: item_codes.astype(np.int32)}
    rows = rows.assign(**codes)
    keys = [rows[name].to_numpy() for name in (*PAIR, Columns.TIMESTAMP, Columns.RATING) if name in rows]
    if Columns.SPLIT in rows:
        keys.append(rows[Columns.SPLIT].map({name: code for code, name in enumerate(SPLITS)}).to_numpy())
    return rows.take(np.lexsort(keys[::-1])).reset_index(drop=True), users, items


def _disregarded(data: RawDataset) -> list[tuple[pd.DataFrame, pd.Index, pd.Index]]:
    """Pairs that the reader takes for no interaction, as codes, and the keys of users and items by code."""
    if data.disregarded is None or data.disregarded.empty:
        return []
    codes = {name: _sorted_codes(data.disregarded[name]) for name in PAIR}
    pairs = pd.DataFrame({name: numbers for name, (numbers, _) in codes.items()})
    return [(pairs, codes[Columns.USER][1], codes[Columns.ITEM][1])]


def _left_out(
    had: list[tuple[pd.DataFrame, pd.Index, pd.Index]], users: pd.Index, items: pd.Index, kept: pd.DataFrame
) -> pd.DataFrame:
    """Pairs of users and items that are there, which the raw data have and the prepared data have not."""
    in_kept = kept[Columns.USER].to_numpy(np.int64) * len(items) + kept[Columns.ITEM].to_numpy()
    found = [np.empty(0, np.int64)]
    for pairs, user_keys, item_keys in had:
        pair_users = users.get_indexer(user_keys).astype(np.int64)[pairs[Columns.USER]]
        pair_items = items.get_indexer(item_keys).astype(np.int64)[pairs[Columns.ITEM]]
        present = (pair_users >= 0) & (pair_items >= 0)
        found.append(pair_users[present] * len(items) + pair_items[present])
    left = np.setdiff1d(np.concatenate(found), in_kept)
    return pd.DataFrame(
        {Columns.USER: (left // len(items)).astype(np.int32), Columns.ITEM: (left % len(items)).astype(np.int32)}
    )


def _sorted_codes(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Codes that compare as the values do, and the values by code."""
    codes, values = pd.factorize(column)
    keys = pd.Index(values).astype("str")
    order = keys.argsort()
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[codes], keys[order]


def _without_duplicates(rows: pd.DataFrame, steps: list[dict[str, Any]]) -> pd.DataFrame:
    """Drop repeated (user, item, time) rows, then repeated pairs but the earliest; the order of rows stays."""
    keys = [rows[name].to_numpy() for name in (*PAIR, Columns.TIMESTAMP) if name in rows]
    order = np.lexsort(keys[::-1])
    differs = [np.append(True, key[order[1:]] != key[order[:-1]]) for key in keys]  # from the row before it
    for step, new in [
        ("duplicates dropped", np.logical_or.reduce(differs)),
        ("repeated pairs dropped", differs[0] | differs[1]),
    ]:
        left = rows.take(np.sort(order[new]))
        steps.append(count(step, left))
    return left.reset_index(drop=True)


def _described(items: pd.DataFrame, raw: Path) -> pd.DataFrame:
    """Item records by key: downloaded images filled in, and why an item that was asked for has none."""
    from mmrepro.datasets.image_download import OK, load_images

    records = items.set_index(Columns.KEY).assign(**{IMAGE_REASON: None})
    entries = load_images(raw)
    if entries:
        files = {key: entry.file for key, entry in entries.items()}
        reasons = {key: f"{entry.status}: {entry.reason}" for key, entry in entries.items() if entry.status != OK}
        asked = records.index.isin(list(entries))
        records[Columns.IMAGE] = records[Columns.IMAGE].astype("object").where(~asked, records.index.map(files))
        records[IMAGE_REASON] = records.index.map(reasons)
    return records[[*ITEM_COLUMNS[1:], IMAGE_REASON]]


def _records_of(records: pd.DataFrame, keys: pd.Index) -> pd.DataFrame:
    """Records in the order of keys; empty texts become null."""
    table = records.reindex(keys)
    return table.astype("str").replace(r"^\s*$", None, regex=True).astype("str")


def _with_described(items: pd.Index, records: pd.DataFrame, published: bool, origin: str) -> pd.Index:
    """Items of the interactions, then the others that the files describe, by their keys."""
    if published:
        raise MmreproError(f"{origin}: 'catalogue: described' would break the published numbering; leave it out")
    others = records.index[~records.index.isin(items)].astype("str").sort_values()
    return items.append(others)


def _with_content(
    rows: pd.DataFrame,
    items: pd.Index,
    records: pd.DataFrame,
    config: DatasetConfig,
    raw: Path,
    steps: list[dict[str, Any]],
) -> pd.DataFrame:
    """Drop the rows of items without the content that the data set asks for."""
    for kind in config.drop_items_without:
        present = rows[Columns.ITEM].unique()
        values = _records_of(records, items[present])[kind]
        usable = _usable_images(values, config, raw) if kind == Columns.IMAGE else values.notna().to_numpy()
        rows = rows.loc[rows[Columns.ITEM].isin(present[usable])].reset_index(drop=True)
        steps.append(count(f"items without {kind} dropped", rows))
    return rows


def _usable_images(files: pd.Series, config: DatasetConfig, raw: Path) -> np.ndarray:
    """Whether each file is an image; those of a download were looked at when they came."""
    from mmrepro.datasets.image_download import OK, check_image, load_images

    checked = {entry.file for entry in load_images(raw).values()}
    smallest_side = config.images.smallest_side if config.images else 1
    return np.array(
        [
            known and (file in checked or check_image(raw / file, smallest_side)[0] == OK)
            for file, known in zip(files, files.notna(), strict=True)
        ],
        dtype=bool,
    )


def _renumbered(rows: pd.DataFrame, users: pd.Index, items: pd.Index) -> tuple[pd.DataFrame, pd.Index, pd.Index]:
    """Number those users and items that are left."""
    kept_users, kept_items = numbered(rows)
    user_numbers, item_numbers = np.empty(len(users), np.int32), np.empty(len(items), np.int32)
    user_numbers[kept_users] = np.arange(len(kept_users), dtype=np.int32)
    item_numbers[kept_items] = np.arange(len(kept_items), dtype=np.int32)
    numbers = {
        Columns.USER: user_numbers[rows[Columns.USER]], Columns.ITEM: item_numbers[rows[Columns.ITEM]],
    }  # fmt: skip
    return rows.assign(**numbers), users[kept_users], items[kept_items]


def _split_frame(rows: pd.DataFrame, division: Division) -> pd.DataFrame:
    """Return the rows with their split and the columns in their fixed order."""
    frame = rows.assign(**{Columns.SPLIT: division.splits})
    columns = (*PAIR, Columns.SPLIT, Columns.RATING, Columns.TIMESTAMP)
    return frame[[column for column in columns if column in frame]]


def _check_expected(expected: Expected, frame: pd.DataFrame, n_users: int, n_items: int, origin: str) -> None:
    """Compare before rows of cold users and items are dropped: published counts include them."""
    found = {"users": n_users, "items": n_items}
    found |= {split: int((frame[Columns.SPLIT] == split).sum()) for split in SPLITS}
    for name, wanted in expected.model_dump(exclude_none=True).items():
        if found[name] != wanted:
            raise MmreproError(
                f"{origin}: {found[name]} {name}, expected {wanted}; the raw files are others than those the "
                f"configuration was written for: fetch them again or correct 'expected' in config/datasets"
            )


def _without_cold(config: DatasetConfig, frame: pd.DataFrame, steps: list[dict[str, Any]], origin: str) -> pd.DataFrame:
    """Drop rows of users, and of items, that training has never seen, as the data set asks."""
    train = frame.loc[frame[Columns.SPLIT] == TRAIN]
    kept = frame
    for column, name, policy in zip(PAIR, ("users", "items"), (config.cold_users, config.cold_items), strict=True):
        if policy == "drop":
            kept = kept.loc[kept[column].isin(train[column].unique())]
            steps.append(count(f"cold {name} dropped", kept))
    emptied = sorted(set(frame[Columns.SPLIT].unique()) - set(kept[Columns.SPLIT].unique()))
    if emptied:
        raise MmreproError(
            f"{origin}: every interaction of {emptied[0]} is of a user or item that training has never seen, "
            "and all are dropped; set cold_users: keep (or cold_items: keep), or choose another split.kind"
        )
    return kept.reset_index(drop=True)


def _item_table(records: pd.DataFrame, items: pd.Index) -> pd.DataFrame:
    """Records of the items in index order, and why an item has no image."""
    table = _records_of(records, items)
    without = table[Columns.IMAGE].isna()
    table[IMAGE_REASON] = table[IMAGE_REASON].fillna(NO_IMAGE).where(without, None)
    table.insert(0, Columns.KEY, items)
    table.index = _numbers(items, Columns.ITEM)
    return table


def _numbers(keys: pd.Index, name: str) -> pd.Index:
    return pd.Index(np.arange(len(keys), dtype=np.int32), name=name)
