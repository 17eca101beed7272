"""Miniature data sets: generated in the form of raw files, then read like any others.

The files are review records and item records as gzipped JSON lines and one PNG image an item. They come from a planted
model (`miniature_world.py`). Every item has a latent taste: a vector of four dimensions around the centre of one of up
to six clusters. Its image (colours of ground and figure, shape and size of the figure) and the words of its title are
drawn from that vector with noise. A user has a few interests, each a point in the same space, and chooses items near
one of them, popular ones more often. Tastes vary continuously and most items have few interactions, so that much of
what decides a choice shows in images and titles but not in who chose what. Image noise and text noise differ from one
data set to another.

Keys, words and pictures are invented. Some records are to be cleaned: exact duplicates, repeated pairs, users and items
below a 5-core; one item has no image and another no text.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.raw import ITEM_COLUMNS, RawDataset, first_of_each, json_lines, numbers
from mmrepro.datasets.raw_folder import raw_file
from mmrepro.datasets.readers.miniature_world import Options, World, make_world, pictures, titles
from mmrepro.errors import MmreproError
from mmrepro.records.files import atomic_path

REVIEWS, ITEMS, IMAGES = "reviews.jsonl.gz", "items.jsonl.gz", "images"
EPOCH = 1_000_000_000  # seconds; invented, as every later time is
DAY = 86_400
PAUSE = 30 * DAY  # between two choices of a user: old and new users meet in any month
DUPLICATES = 12


def generate(config: DatasetConfig, output: Path) -> list[str]:
    """Write the raw files of a miniature data set.

    Parameters
    ----------
    config
        The data set; its options are the planted model's.
    output
        Folder to fill.

    Returns
    -------
    list of str
        Names of the files written.
    """
    options = _options(config)
    world = make_world(options)
    names = [f"{options.prefix}-I{item:05d}" for item in range(options.items)]
    _write_json_lines(output / REVIEWS, _reviews(world, options, names))
    _write_json_lines(output / ITEMS, _items(world, options, names))
    return [REVIEWS, ITEMS, *_write_images(world, options, names, output)]


def read(raw: Path, config: DatasetConfig) -> RawDataset:
    """Read review and item records.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set.

    Returns
    -------
    RawDataset
        The text of an item is its title, a space, its description; the image is null where the record names none.

    Raises
    ------
    MmreproError
        For a truncated archive, a record without a key, or an image that is named but absent.
    """
    _options(config)
    reviews = pd.DataFrame(list(json_lines(raw_file(raw, REVIEWS), ("reviewer", "item", "rating", "time"))))
    if reviews.empty:
        raise MmreproError(f"{raw / REVIEWS}: no records; fetch the data set again")
    names = {"reviewer": Columns.USER, "item": Columns.ITEM, "rating": Columns.RATING, "time": Columns.TIMESTAMP}
    interactions = reviews.rename(columns=names)[list(names.values())].astype({Columns.USER: str, Columns.ITEM: str})
    for column in (Columns.RATING, Columns.TIMESTAMP):
        interactions[column] = numbers(raw / REVIEWS, interactions[column], 1)
    records = [_item_row(raw, record) for record in json_lines(raw_file(raw, ITEMS), ("item",))]
    items, repeated = first_of_each(pd.DataFrame(records, columns=list(ITEM_COLUMNS)))
    return RawDataset(interactions, items, repairs={"repeated_item_records": repeated})


def _options(config: DatasetConfig) -> Options:
    return validate(Options, config.options, f"config/datasets/{config.dataset}.yaml: options")


def _item_row(raw: Path, record: dict[str, Any]) -> tuple[str, str, str, str | None]:
    title = record.get("title") or ""
    image = record.get("image")
    if image is not None and not (raw / image).is_file():
        raise MmreproError(f"{raw / image}: image of item '{record['item']}' is missing; fetch the data set again")
    return record["item"], title, f"{title} {record.get('description') or ''}".strip(), image


def _reviews(world: World, options: Options, names: list[str]) -> list[dict[str, Any]]:
    """One record a choice; a few are repeated as they are, a few again a year later."""
    generator = np.random.default_rng([options.seed, 3])
    start = EPOCH + DAY * generator.integers(0, 365, size=options.users)
    position = pd.Series(world.users).groupby(world.users).cumcount().to_numpy()
    times = start[world.users] + PAUSE * position + generator.integers(0, DAY, size=len(world.users))
    ratings = generator.integers(3, 6, size=len(world.users))
    records = [
        {"reviewer": f"{options.prefix}-U{user:05d}", "item": names[item], "rating": int(rating), "time": int(time)}
        for user, item, rating, time in zip(world.users, world.items, ratings, times, strict=True)
    ]
    chosen = [records[row] for row in generator.choice(len(records), size=DUPLICATES, replace=False)]
    later = [{**record, "time": record["time"] + 365 * DAY} for record in chosen[: DUPLICATES // 3]]
    records += chosen + later
    return [records[row] for row in generator.permutation(len(records))]


def _items_with_gaps(world: World) -> tuple[int, int]:
    """One item without image and one without text, both well enough liked to survive a 5-core."""
    by_popularity = np.argsort(-np.bincount(world.items, minlength=len(world.clusters)), kind="stable")
    return int(by_popularity[len(by_popularity) // 4]), int(by_popularity[len(by_popularity) // 3])


def _items(world: World, options: Options, names: list[str]) -> list[dict[str, Any]]:
    """One record an item; the description repeats the words of the title in a sentence."""
    without_image, without_text = _items_with_gaps(world)
    records: list[dict[str, Any]] = []
    for item, (name, title) in enumerate(zip(names, titles(world, options), strict=True)):
        described = {"title": title, "description": f"This {title.split()[-1]} is {', '.join(title.split()[:-1])}."}
        record = {"item": name, **({} if item == without_text else described)}
        records.append(record if item == without_image else {**record, "image": f"{IMAGES}/{name}.png"})
    return records


def _write_images(world: World, options: Options, names: list[str], output: Path) -> list[str]:
    from PIL import Image

    written = []
    without_image, _ = _items_with_gaps(world)
    for item, (name, pixels) in enumerate(zip(names, pictures(world, options), strict=True)):
        if item != without_image:
            with atomic_path(output / IMAGES / f"{name}.png") as temporary:
                Image.fromarray(pixels).save(temporary)
            written.append(f"{IMAGES}/{name}.png")
    return written


def _write_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    """Gzip without name and time, so that equal records make equal files."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
