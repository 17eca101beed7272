"""What the readers of Amazon's releases share: reviews, the records of the items in them, and the text of an item.

The text follows the literature: title, brand, categories and description joined by a space, where a missing part is one
space and line breaks are removed.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from mmrepro.columns import IMAGE_URL, Columns
from mmrepro.config.base import Strict
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.raw import (
    ITEM_COLUMNS,
    RawDataset,
    TimeUnit,
    first_of_each,
    gzip_lines,
    json_lines,
    parse_line,
    require_visible_differences,
)
from mmrepro.datasets.raw_folder import raw_file
from mmrepro.datasets.texts import Markup, plain_text, whole_characters
from mmrepro.datasets.times import in_seconds, units_of
from mmrepro.errors import MmreproError

NO_KEY = re.compile("[\t\r\n\0\ud800-\udfff]")
LINE_BREAKS = str.maketrans("", "", "\r\n")


class Options(Strict):
    """Settings of the readers: files in the folder of the raw files; without metadata items are keys alone."""

    interactions_file: str
    metadata_file: str | None = None
    markup: Markup = Field("strip", description="strip: HTML tags and entities are taken out of titles and texts")


@dataclass(frozen=True)
class ReviewFields:
    """How a release names the parts of a review, and the unit of its times."""

    user: str
    item: str
    rating: str
    time: str
    unit: TimeUnit = "s"


@dataclass(frozen=True)
class ItemRecord:
    """What is known of an item; empty where unknown."""

    key: str
    title: str
    brand: str
    categories: str
    description: str
    image_url: str

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """What the text is made of."""
        return self.title, self.brand, self.categories, self.description

    @property
    def text(self) -> str:
        """The text of the literature."""
        return " ".join(part or " " for part in self.parts).translate(LINE_BREAKS)

    def through(self, change: Callable[[str], str]) -> ItemRecord:
        """Return the record with each part of its text changed."""
        title, brand, categories, description = map(change, self.parts)
        return ItemRecord(self.key, title, brand, categories, description, self.image_url)


def read_release(
    raw: Path,
    config: DatasetConfig,
    interactions_of: Callable[[Path], pd.DataFrame],
    records_of: Callable[[Path, Container[str]], Iterator[ItemRecord]],
) -> RawDataset:
    """Read interactions, and the metadata of the items in them.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set; its options name the files.
    interactions_of
        Reads the file of interactions.
    records_of
        Reads the records of wanted items.

    Returns
    -------
    RawDataset
        Items with title, text and `image_url`. `repairs` counts repeated item records, of which the first is kept,
        those with markup, and those with halves of characters.

    Raises
    ------
    MmreproError
        For a missing or damaged file, or a malformed line; names file and line.
    """
    options = validate(Options, config.options, f"config/datasets/{config.dataset}.yaml: options")
    interactions = interactions_of(raw_file(raw, options.interactions_file))
    wanted = set(interactions[Columns.ITEM].unique())
    records = records_of(raw_file(raw, options.metadata_file), wanted) if options.metadata_file else iter(())
    items, repairs = _item_table(records, options.markup)
    return RawDataset(interactions, items, repairs=repairs)


def read_reviews(path: Path, fields: ReviewFields) -> pd.DataFrame:
    """Read reviews from gzipped JSON lines.

    Parameters
    ----------
    path
        A file of objects, one a line.
    fields
        Names of the parts that are read; each must be there.

    Returns
    -------
    pd.DataFrame
        Columns `user`, `item` (str), `rating` (float64), `timestamp` (int64, seconds), in file order.

    Raises
    ------
    MmreproError
        For a damaged archive, or a line that is no such review; names file and line.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user_codes, item_codes, ratings, times = array("i"), array("i"), array("d"), array("q")
    names = (fields.user, fields.item, fields.rating, fields.time)
    for number, record in enumerate(json_lines(path, names), start=1):
        user, item, rating, time = _checked(path, number, record, fields)
        user_codes.append(users.setdefault(user, len(users)))
        item_codes.append(items.setdefault(item, len(items)))
        ratings.append(rating)
        times.append(time)
    if not ratings:
        raise MmreproError(f"{path}: the file has no rows; fetch the data set again")
    for field, known in ((fields.user, users), (fields.item, items)):
        _require_printable(path, field, known)
        require_visible_differences(path, field, pd.Series([*known], dtype="str"))
    rows = pd.DataFrame(
        {
            Columns.USER: _decoded(users, user_codes),
            Columns.ITEM: _decoded(items, item_codes),
            Columns.RATING: np.array(ratings),
            Columns.TIMESTAMP: np.array(times),
        }
    )
    unit = None if units_of(rows[Columns.TIMESTAMP]) else fields.unit  # where the numbers tell, they are believed
    rows, _ = in_seconds(rows, unit, str(path))
    return rows.assign(**{Columns.TIMESTAMP: np.floor(rows[Columns.TIMESTAMP]).astype("int64")})


def wanted_records(
    path: Path, key: str, wanted: Container[str], parse: Callable[[str], Any], notation: str
) -> Iterator[dict[str, Any]]:
    """Read the records of wanted items from gzipped lines, parsing no line that cannot be one.

    Parameters
    ----------
    path
        A file of one record a line.
    key
        Name of the item key in a record.
    wanted
        Item keys.
    parse, notation
        What turns a line into a record, and the name of what it reads.

    Yields
    ------
    dict
        Records in file order; the key of an item may repeat.

    Raises
    ------
    MmreproError
        For a damaged archive, or a line that is no record; names file and line. Lines not parsed are not judged.
    """
    quote = b'"' if parse is json.loads else b"'"
    name = quote + re.escape(key).encode() + quote
    pattern = re.compile(name + rb"\s*:\s*" + quote + rb"([^'\"\\]+)" + quote)
    for number, line in enumerate(gzip_lines(path), start=1):
        candidates = pattern.findall(
            line
        )  # a text may quote another; none: an unusual notation, which the parser reads
        if candidates and not any(candidate.decode(errors="replace") in wanted for candidate in candidates):
            continue
        record = parse_line(path, number, line, parse, notation, (key,))
        if not isinstance(record[key], str):
            raise _wrong(path, number, f"'{key}' must be text")
        if record[key] in wanted:
            yield record


def words(value: Any) -> str:
    """Return a text, or the texts of a list joined by a space; empty for anything else."""
    if isinstance(value, list):
        return " ".join(part for part in value if isinstance(part, str) and part)
    return value if isinstance(value, str) else ""


def _checked(path: Path, number: int, record: dict[str, Any], fields: ReviewFields) -> tuple[str, str, float, int]:
    """User, item, rating and time of a review, each of its type."""
    user, item, rating, time = record[fields.user], record[fields.item], record[fields.rating], record[fields.time]
    if not (isinstance(user, str) and isinstance(item, str)):
        raise _wrong(path, number, f"'{fields.user}' and '{fields.item}' must be text")
    numeric = isinstance(rating, int | float) and isinstance(time, int)
    numeric &= not (isinstance(rating, bool) or isinstance(time, bool))
    if not (numeric and abs(rating) < 2**63 and abs(time) < 2**63):  # false for NaN too
        raise _wrong(path, number, f"'{fields.rating}' must be a number and '{fields.time}' an integer")
    return user, item, rating, time


def _require_printable(path: Path, field: str, known: Iterable[str]) -> None:
    """Keys become lines of text and cells of tables."""
    wrong = next((key for key in known if NO_KEY.search(key)), None)
    if wrong is not None:
        line = next(number for number, record in enumerate(json_lines(path, (field,)), 1) if record[field] == wrong)
        raise _wrong(path, line, f"'{field}' {wrong!r} holds a tab, a line break or half a character")


def _item_table(records: Iterator[ItemRecord], markup: Markup) -> tuple[pd.DataFrame, dict[str, int]]:
    """Table of the items, the first record of each, and what was mended."""
    rows, marked, halved = [], 0, 0
    for record in records:
        whole = record.through(whole_characters)
        plain = whole.through(plain_text) if markup == "strip" else whole
        halved, marked = halved + (whole != record), marked + (plain != whole)
        rows.append((plain.key, plain.title if plain.title.strip() else None, plain.text, plain.image_url or None))
    table = pd.DataFrame(rows, columns=[Columns.KEY, Columns.TITLE, Columns.TEXT, IMAGE_URL])
    items, repeated = first_of_each(table.reindex(columns=[*ITEM_COLUMNS, IMAGE_URL]).astype("str"))
    repairs = {
        "repeated_item_records": repeated, "item_records_with_markup": marked,
        "item_records_with_half_characters": halved,
    }  # fmt: skip
    return items, repairs


def _decoded(keys: dict[str, int], codes: array[int]) -> Any:
    """Turn codes back into keys; only distinct keys were ever held as Python text."""
    return pd.array(list(keys), dtype="str").take(np.frombuffer(codes, np.int32))


def _wrong(path: Path, number: int, problem: str) -> MmreproError:
    return MmreproError(f"{path}: line {number}: {problem}; mend the line or fetch the file again")
