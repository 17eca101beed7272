"""MicroLens as released: who watched what, titles, and a folder of covers.

Interactions come in one of the two published forms: `*_pairs.tsv` (a line a user: the user, a tab, the items in order
of time, separated by spaces) or `*_pairs.csv` (columns user, item, timestamp). In the first form the position in a
user's list stands for time, which orders the interactions of a user but says nothing between users.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from mmrepro.columns import Columns
from mmrepro.config.base import Strict
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.delimited import Dialect, read_delimited
from mmrepro.datasets.item_keys import Matching, as_interacted
from mmrepro.datasets.pictures import pictures_of_keys
from mmrepro.datasets.raw import ITEM_COLUMNS, Pictures, RawDataset, first_of_each, keys, numbers, require_columns
from mmrepro.datasets.raw_folder import raw_file
from mmrepro.errors import MmreproError


class Options(Strict):
    """Settings of the reader."""

    interactions_file: str
    titles_file: str
    covers_folder: str | None = None
    item_keys: Matching | None = Field(
        None, description="exact or normalised, as of own data; none: keys that differ by their writing are an error"
    )


def read(raw: Path, config: DatasetConfig) -> RawDataset:
    """Read interactions, titles and covers.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set; its options name the files.

    Returns
    -------
    RawDataset
        The text of an item is its title; the image is that of the covers which is named after it, null if absent.

    Raises
    ------
    MmreproError
        For a missing file or column, or a value that is no number; names file and line.
    """
    options = validate(Options, config.options, f"config/datasets/{config.dataset}.yaml: options")
    path = raw_file(raw, options.interactions_file)
    listed = path.suffix == ".tsv"
    interactions = _user_lists(path) if listed else _pairs(path)
    items, repeated, pictures = _items(raw, options, pd.Index(interactions[Columns.ITEM].unique()).sort_values())
    repairs = {"repeated_item_records": repeated}
    return RawDataset(interactions, items, repairs=repairs, time_orders_users=not listed, pictures=pictures)


def _user_lists(path: Path) -> pd.DataFrame:
    table = read_delimited(path, Dialect.of("\t"), header=None, dtype="str")
    if table.shape[1] != 2:
        raise MmreproError(f"{path}: {table.shape[1]} columns, expected a user and a list of items; fetch it again")
    lists = [text.split() if isinstance(text, str) else [] for text in table[1]]
    lengths = np.array([len(items) for items in lists])
    if (lengths == 0).any():
        line = int((lengths == 0).argmax()) + 1
        raise MmreproError(f"{path}: line {line} names no item; mend the line or fetch the file again")
    doubled = table[0].duplicated().to_numpy()
    if doubled.any():
        line = int(doubled.argmax())
        raise MmreproError(
            f"{path}: line {line + 1}: user '{table[0].iloc[line]}' has a line already; write one a user"
        )
    starts = np.cumsum(lengths) - lengths
    items = pd.Series([item for items in lists for item in items], dtype="str")
    return pd.DataFrame(
        {
            Columns.USER: pd.Series(np.repeat(keys(path, table[0], 1).to_numpy(), lengths), dtype="str"),
            Columns.ITEM: items,
            Columns.TIMESTAMP: np.arange(len(items)) - np.repeat(starts, lengths),
        }
    )


def _pairs(path: Path) -> pd.DataFrame:
    table = read_delimited(
        path, Dialect(), dtype={Columns.USER: "str", Columns.ITEM: "str"}, keep_default_na=False, na_values=[""]
    )
    require_columns(path, table, (Columns.USER, Columns.ITEM, Columns.TIMESTAMP))
    time = numbers(path, table[Columns.TIMESTAMP], 2)
    pair = {column: keys(path, table[column], 2) for column in (Columns.USER, Columns.ITEM)}
    return pd.DataFrame({**pair, Columns.TIMESTAMP: time})


def _items(raw: Path, options: Options, wanted: pd.Index) -> tuple[pd.DataFrame, int, Pictures | None]:
    path = raw_file(raw, options.titles_file)
    table = read_delimited(path, Dialect(), dtype="str", keep_default_na=False, na_values=[""])  # "None" is a title
    require_columns(path, table, (Columns.ITEM, Columns.TITLE))
    columns = {
        Columns.KEY: keys(path, table[Columns.ITEM], 2),
        Columns.TITLE: table[Columns.TITLE],
        Columns.TEXT: table[Columns.TITLE],
    }
    items, repeated = first_of_each(pd.DataFrame(columns).reindex(columns=list(ITEM_COLUMNS)))
    items[Columns.KEY] = as_interacted(items[Columns.KEY], wanted, path, options.item_keys)
    if options.covers_folder is None or not (raw / options.covers_folder).is_dir():
        return items, repeated, None
    items[Columns.IMAGE], pictures = pictures_of_keys(raw, options.covers_folder, items[Columns.KEY], options.item_keys)
    return items, repeated, pictures
