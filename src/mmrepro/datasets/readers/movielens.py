"""MovieLens-100K as released (`u.data`), with a table of titles and overviews and a folder of posters."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.base import Strict
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.delimited import Dialect, read_delimited
from mmrepro.datasets.pictures import pictures_of_keys
from mmrepro.datasets.raw import Pictures, RawDataset, first_of_each, numbers, require_columns
from mmrepro.datasets.raw_folder import raw_file
from mmrepro.errors import MmreproError

RATING_COLUMNS = (Columns.USER, Columns.ITEM, Columns.RATING, Columns.TIMESTAMP)
MOVIE, OVERVIEW = "movie_id", "overview"


class Options(Strict):
    """Settings of the reader."""

    interactions_file: str = "u.data"
    items_file: str = "items.csv"
    images_folder: str = "posters"


def read(raw: Path, config: DatasetConfig) -> RawDataset:
    """Read ratings, titles, overviews and posters.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set; its options may rename the files.

    Returns
    -------
    RawDataset
        The text of an item is its title, a space, its overview; the image `posters/<movie id>.jpg`, null if absent.
        `repairs` counts repeated movies, of which the first row is kept.

    Raises
    ------
    MmreproError
        For a missing file or column, or a value that is no number; names file and line.
    """
    options = validate(Options, config.options, f"config/datasets/{config.dataset}.yaml: options")
    items, repeated, pictures = _items(raw, options)
    ratings = _ratings(raw_file(raw, options.interactions_file))
    return RawDataset(ratings, items, repairs={"repeated_item_records": repeated}, pictures=pictures)


def _ratings(path: Path) -> pd.DataFrame:
    table = read_delimited(path, Dialect.of("\t"), header=None)
    if table.shape[1] != len(RATING_COLUMNS):
        raise MmreproError(f"{path}: {table.shape[1]} columns, expected user, item, rating, timestamp; fetch it again")
    table.columns = pd.Index(RATING_COLUMNS)
    return pd.DataFrame(
        {
            Columns.USER: numbers(path, table[Columns.USER], 1).astype(str),
            Columns.ITEM: numbers(path, table[Columns.ITEM], 1).astype(str),
            Columns.RATING: numbers(path, table[Columns.RATING], 1, integer=False),
            Columns.TIMESTAMP: numbers(path, table[Columns.TIMESTAMP], 1),
        }
    )


def _items(raw: Path, options: Options) -> tuple[pd.DataFrame, int, Pictures | None]:
    path = raw_file(raw, options.items_file)
    table = read_delimited(path, Dialect(quoting="multi-line"))
    require_columns(path, table, (MOVIE, Columns.TITLE, OVERVIEW))
    keys = numbers(path, table[MOVIE], 2).astype(str)
    titles = table[Columns.TITLE].astype("str")
    texts = (titles.fillna("") + " " + table[OVERVIEW].astype("str").fillna("")).str.strip()
    columns = {Columns.KEY: keys, Columns.TITLE: titles, Columns.TEXT: texts, Columns.IMAGE: None}
    items, repeated = first_of_each(pd.DataFrame(columns))
    if not (raw / options.images_folder).is_dir():
        return items, repeated, None
    items[Columns.IMAGE], pictures = pictures_of_keys(raw, options.images_folder, items[Columns.KEY], "exact")
    return items, repeated, pictures
