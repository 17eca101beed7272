"""An item graph that comes with a data set: a table of pairs of items, by their keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.features import NeighboursFile
from mmrepro.datasets.delimited import Dialect, guess_separator, read_delimited
from mmrepro.datasets.item_keys import match_keys
from mmrepro.datasets.parquet import read_parquet, require_columns_of
from mmrepro.datasets.raw import numbers
from mmrepro.errors import MmreproError
from mmrepro.features.vectors import REMEDY, find_file

ITEM, NEIGHBOUR, SCORE = "item", "neighbour", "score"


def read_neighbours(
    source: NeighboursFile, items: pd.DataFrame, raw: Path, k: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Read the neighbours of each item.

    Parameters
    ----------
    source
        The table, and the names of its columns. Rows may come in any order where there is a column of scores; without
        one, those of an item come best first. Pairs of an item the data set does not have are left out, as is an item's
        pair with itself; of a pair that stands twice the first counts.
    items
        The items of the prepared data set, in item order.
    raw
        Folder of the raw files.
    k
        Length of a list, the item itself included.

    Returns
    -------
    tuple
        Indices (n_items, k), int32: the item itself, then its neighbours, best first; an item with fewer has itself in
        their place. Scores (n_items, k), float32: 1 for the item itself, and for neighbours without a score. How many
        pairs were left out because the data set lacks one of their items.

    Raises
    ------
    MmreproError
        When the file is missing or malformed, or no pair is of two items of the data set; names keys.
    """
    path = find_file(raw, source.file)
    pairs = _pairs(path, source)
    keys = pd.Index(items[Columns.KEY].astype("str"))
    if pairs.empty:
        raise MmreproError(f"{path}: the file has no rows; fill it")
    for name in (ITEM, NEIGHBOUR):  # each by itself: a key that one column writes well may be written ill in the other
        match_keys(keys, pd.Index(pairs[name].unique()), str(path), "pair", None, REMEDY)
    first, second = keys.get_indexer(pd.Index(pairs[ITEM])), keys.get_indexer(pd.Index(pairs[NEIGHBOUR]))
    known = (first >= 0) & (second >= 0)
    if not known.any():
        raise MmreproError(
            f"{path}: no pair is of items of the data set: '{pairs[ITEM].iloc[0]}' here against '{keys[0]}' there"
        )
    inside = known & (first != second)
    table = pd.DataFrame({ITEM: first, NEIGHBOUR: second, SCORE: pairs[SCORE]})[inside]
    if source.score_column is not None:
        table = table.sort_values([ITEM, SCORE, NEIGHBOUR], ascending=[True, False, True])
    table = table.drop_duplicates([ITEM, NEIGHBOUR])
    ranks = table.groupby(ITEM).cumcount().to_numpy() + 1
    table, ranks = table[ranks < k], ranks[ranks < k]
    indices = np.repeat(np.arange(len(keys), dtype=np.int32)[:, None], k, axis=1)
    scores = np.ones((len(keys), k), dtype=np.float32)
    indices[table[ITEM], ranks] = table[NEIGHBOUR]
    scores[table[ITEM], ranks] = table[SCORE]
    return indices, scores, int((~known).sum())


def _pairs(path: Path, source: NeighboursFile) -> pd.DataFrame:
    """Columns item, neighbour (keys) and score, as the file has them."""
    columns = [name for name in (source.item_column, source.neighbour_column, source.score_column) if name]
    if path.suffix == ".parquet":
        table, first_line = read_parquet(path, columns), 1
    else:
        usual = "\t" if ".tsv" in path.suffixes else ","
        dialect = Dialect.of(guess_separator(path, usual, columns))
        table, first_line = read_delimited(path, dialect, dtype="str", keep_default_na=False), 2
        require_columns_of(path, list(table.columns), columns)
    scored = source.score_column
    return pd.DataFrame(
        {
            ITEM: table[source.item_column].astype("str"),
            NEIGHBOUR: table[source.neighbour_column].astype("str"),
            SCORE: 1.0 if scored is None else numbers(path, table[scored], first_line, integer=False),
        }
    )
