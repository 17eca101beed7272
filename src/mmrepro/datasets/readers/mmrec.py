"""The published folder form of the literature: `<name>.inter` beside feature matrices.

`<name>.inter` is tab-separated with a header: userID, itemID, x_label (0 train, 1 validation, 2 test), and perhaps
rating and timestamp. Ids are integers from 0 and number the rows of the feature matrices; the number of users and items
is the largest id + 1 over the whole file, so that an id without interaction still counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import SPLITS, Columns
from mmrepro.config.base import Strict
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.delimited import Dialect, read_delimited
from mmrepro.datasets.raw import ITEM_COLUMNS, RawDataset, numbers, require_columns
from mmrepro.datasets.raw_folder import raw_file
from mmrepro.errors import MmreproError

USER, ITEM, LABEL = "userID", "itemID", "x_label"
LARGEST_ID = 50_000_000  # a larger one is no dense numbering, and its gaps would fill the memory
FIRST_LINE = 2


class Options(Strict):
    """Settings of the reader."""

    interactions_file: str


def read(raw: Path, config: DatasetConfig) -> RawDataset:
    """Read interactions with their published split.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set; its options name the `.inter` file.

    Returns
    -------
    RawDataset
        Keys are the ids as text; rows in file order; items without title, text or image.

    Raises
    ------
    MmreproError
        For a missing column, a value that is no number, a negative id, or an unknown label; names file and line.
    """
    options = validate(Options, config.options, f"config/datasets/{config.dataset}.yaml: options")
    path = raw_file(raw, options.interactions_file)
    table = read_delimited(path, Dialect.of("\t"))
    require_columns(path, table, (USER, ITEM, LABEL))
    users, items = _ids(path, table[USER]), _ids(path, table[ITEM])
    columns = {Columns.USER: users.astype(str), Columns.ITEM: items.astype(str), Columns.SPLIT: _split(path, table)}
    if Columns.RATING in table:
        columns[Columns.RATING] = numbers(path, table[Columns.RATING], FIRST_LINE, integer=False)
    if Columns.TIMESTAMP in table:
        columns[Columns.TIMESTAMP] = numbers(path, table[Columns.TIMESTAMP], FIRST_LINE)
    user_numbering, item_numbering = _numbering(users), _numbering(items)
    item_table = pd.DataFrame({Columns.KEY: item_numbering}).reindex(columns=list(ITEM_COLUMNS))
    return RawDataset(pd.DataFrame(columns), item_table, user_numbering, item_numbering)


def _ids(path: Path, column: pd.Series) -> pd.Series:
    ids = numbers(path, column, FIRST_LINE)
    wrong = ((ids < 0) | (ids > LARGEST_ID)).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise MmreproError(
            f"{path}: line {row + FIRST_LINE}, column '{column.name}': id {ids.iloc[row]} is not between 0 and "
            f"{LARGEST_ID}; number users and items from 0 without large gaps"
        )
    return ids


def _split(path: Path, table: pd.DataFrame) -> pd.Series:
    labels = numbers(path, table[LABEL], FIRST_LINE)
    wrong = (~labels.isin(range(len(SPLITS)))).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise MmreproError(
            f"{path}: line {row + FIRST_LINE}, column '{LABEL}': {labels.iloc[row]} is none of "
            "0 (train), 1 (validation), 2 (test); mend the line"
        )
    return pd.Series(np.array(SPLITS)[labels.to_numpy()], dtype="str")


def _numbering(ids: pd.Series) -> pd.Index:
    return pd.Index([str(number) for number in range(int(ids.max()) + 1)], dtype="str")
