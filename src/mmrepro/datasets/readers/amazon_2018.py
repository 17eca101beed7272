"""Amazon's release of 2018: 5-core reviews and metadata, both as gzipped JSON lines."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path

import pandas as pd

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.amazon import ItemRecord, ReviewFields, read_release, read_reviews, wanted_records, words
from mmrepro.datasets.raw import RawDataset

REVIEW = ReviewFields("reviewerID", "asin", "overall", "unixReviewTime")
IMAGE_FIELDS = ("imageURLHighRes", "imageURL", "image")  # lists of urls; the smaller categories have the last alone


def read(raw: Path, config: DatasetConfig) -> RawDataset:
    """Read reviews, and the metadata of the items in them.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set; its options name the files.

    Returns
    -------
    RawDataset
        Timestamps in seconds; items with title, text and `image_url` (the first, in the highest resolution there is).
        `repairs` counts repeated item records, of which the first is kept.

    Raises
    ------
    MmreproError
        For a missing or damaged file, or a malformed line; names file and line.
    """
    return read_release(raw, config, _reviews, _records)


def _reviews(path: Path) -> pd.DataFrame:
    return read_reviews(path, REVIEW)


def _records(path: Path, wanted: Container[str]) -> Iterator[ItemRecord]:
    for record in wanted_records(path, "asin", wanted, json.loads, "JSON"):
        urls = next((value for name in IMAGE_FIELDS if (value := record.get(name))), None)
        yield ItemRecord(
            key=record["asin"],
            title=words(record.get("title")),
            brand=words(record.get("brand")),
            categories=words(record.get("category")),
            description=words(record.get("description")),
            image_url=words(urls[:1] if isinstance(urls, list) else urls),
        )
