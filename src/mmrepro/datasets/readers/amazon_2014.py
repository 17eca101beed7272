"""Amazon's release of 2014: ratings or 5-core reviews, and metadata as one Python literal a line.

Interactions come as `ratings_<Category>.csv` (user, item, rating, time in seconds; no header) or as
`reviews_<Category>_5.json.gz` (JSON lines).
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from pathlib import Path

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.amazon import ItemRecord, ReviewFields, read_release, read_reviews, wanted_records, words
from mmrepro.datasets.delimited import Dialect, read_delimited
from mmrepro.datasets.raw import RawDataset, keys, numbers
from mmrepro.errors import MmreproError

REVIEW = ReviewFields("reviewerID", "asin", "overall", "unixReviewTime")
RATING_COLUMNS = (Columns.USER, Columns.ITEM, Columns.RATING, Columns.TIMESTAMP)


def read(raw: Path, config: DatasetConfig) -> RawDataset:
    """Read interactions, and the metadata of the items in them.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set; its options name the files. An interactions file with suffix `.csv` holds ratings, any other
        reviews.

    Returns
    -------
    RawDataset
        Timestamps in seconds; items with title, text and `image_url`. `repairs` counts repeated item records, of which
        the first is kept.

    Raises
    ------
    MmreproError
        For a missing or damaged file, or a malformed line; names file and line.
    """
    return read_release(raw, config, _interactions, _records)


def _interactions(path: Path) -> pd.DataFrame:
    return _ratings(path) if path.suffix == ".csv" else read_reviews(path, REVIEW)


def _ratings(path: Path) -> pd.DataFrame:
    table = read_delimited(path, Dialect(), header=None, dtype={0: "str", 1: "str"}, keep_default_na=False)
    if table.shape[1] != len(RATING_COLUMNS):
        raise MmreproError(f"{path}: {table.shape[1]} columns, expected user, item, rating, time; fetch it again")
    table.columns = pd.Index(RATING_COLUMNS)
    return pd.DataFrame(
        {
            Columns.USER: keys(path, table[Columns.USER], 1),
            Columns.ITEM: keys(path, table[Columns.ITEM], 1),
            Columns.RATING: numbers(path, table[Columns.RATING], 1, integer=False),
            Columns.TIMESTAMP: numbers(path, table[Columns.TIMESTAMP], 1),
        }
    )


def _records(path: Path, wanted: Container[str]) -> Iterator[ItemRecord]:
    for record in wanted_records(path, "asin", wanted, ast.literal_eval, "Python literal"):
        categories = record.get("categories")
        yield ItemRecord(
            key=record["asin"],
            title=words(record.get("title")),
            brand=words(record.get("brand")),
            categories=words(categories[0]) if isinstance(categories, list) and categories else "",
            description=words(record.get("description")),
            image_url=words(record.get("imUrl")),
        )
