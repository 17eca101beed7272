"""Amazon's release of 2023: gzipped JSON lines of reviews and metadata; variants of an item share a parent key."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.amazon import ItemRecord, ReviewFields, read_release, read_reviews, wanted_records, words
from mmrepro.datasets.raw import RawDataset

REVIEW = ReviewFields("user_id", "parent_asin", "rating", "timestamp", unit="ms")
IMAGE_SIZES = ("hi_res", "large", "thumb")


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
        Items are parent keys. Timestamps in seconds, rounded down; items with title, text (the store stands for the
        brand) and `image_url` (the main image in the highest resolution there is). `repairs` counts repeated item
        records, of which the first is kept.

    Raises
    ------
    MmreproError
        For a missing or damaged file, or a malformed line; names file and line.
    """
    return read_release(raw, config, _reviews, _records)


def _reviews(path: Path) -> pd.DataFrame:
    return read_reviews(path, REVIEW)


def _records(path: Path, wanted: Container[str]) -> Iterator[ItemRecord]:
    for record in wanted_records(path, "parent_asin", wanted, json.loads, "JSON"):
        yield ItemRecord(
            key=record["parent_asin"],
            title=words(record.get("title")),
            brand=words(record.get("store")),
            categories=words(record.get("categories")),
            description=words(record.get("description")),
            image_url=_image_url(record.get("images")),
        )


def _image_url(images: Any) -> str:
    """Address of the main image, else of the first."""
    found = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    main = next((image for image in found if image.get("variant") == "MAIN"), found[0] if found else {})
    return next((url for size in IMAGE_SIZES if (url := words(main.get(size)))), "")
