"""What a reader returns, and the checks that readers share."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.datasets.compressed import open_gzip
from mmrepro.errors import MmreproError

TimeUnit = Literal["s", "ms", "us", "ns"]
ITEM_COLUMNS = (Columns.KEY, Columns.TITLE, Columns.TEXT, Columns.IMAGE)


@dataclass(frozen=True)
class Pictures:
    """Files of a folder of pictures: how many there are, and those that no item has, in the order of names."""

    found: int
    unmatched: tuple[str, ...]


@dataclass(frozen=True)
class RawDataset:
    """A data set as published, before any filter.

    Attributes
    ----------
    interactions
        Columns `user`, `item` (keys, str), and `rating`, `timestamp`, `split` where the files have them.
    items
        Columns `key`, `title`, `text`, `image` (path relative to the raw folder), and `image_url` where the format
        names images by url; null where unknown. Unique keys.
    user_numbering, item_numbering
        Keys in the order of a published numbering, gaps filled; None: the data set has none.
    disregarded
        Pairs, columns `user` and `item`, that the files have and the reader takes for no interaction.
    repairs
        Counts of what the reader mended.
    time_orders_users
        Whether timestamps compare between users; false where they only order the interactions of each.
    time_unit
        Of the timestamps, where the reader knows it; None: it is told from the values.
    notes
        What the reader guessed, a sentence each.
    pictures
        What files a folder of pictures has; None: there is no such folder.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    user_numbering: pd.Index | None = None
    item_numbering: pd.Index | None = None
    disregarded: pd.DataFrame | None = None
    repairs: dict[str, int] = field(default_factory=dict)
    time_orders_users: bool = True
    time_unit: TimeUnit | None = None
    notes: tuple[str, ...] = ()
    pictures: Pictures | None = None


INVISIBLE = "[\u200b-\u200f\u2060\ufeff\u00ad]"
SCIENTIFIC = r"\d(?:[.,]\d+)?[eE]\+\d+"
LONGEST_KEY = 1000
BREAKS = "[\t\r\n\0]"

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a truncated or damaged gzip archive raises."""


def existing_file(path: Path) -> Path:
    """Return `path`; a missing or empty file is an error that names it."""
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; fetch the data set again (`mmrepro fetch <data set>`)")
    if path.stat().st_size == 0:
        raise MmreproError(f"{path}: the file is empty; fetch the data set again (`mmrepro fetch <data set>`)")
    return path


def damaged(path: Path, error: Exception) -> MmreproError:
    """Return the error of an archive that cannot be read."""
    return MmreproError(f"{path}: truncated or damaged archive ({error}); delete it and fetch again")


def gzip_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a gzipped file; a damaged archive, or one without bounds, is an error that names it."""
    try:
        with open_gzip(existing_file(path)) as handle:
            yield from handle
    except DAMAGED as error:
        raise damaged(path, error) from None


def json_lines(path: Path, required: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Read gzipped JSON lines.

    Parameters
    ----------
    path
        A `.jsonl.gz` file of objects.
    required
        Keys that every object must have.

    Yields
    ------
    dict
        One object a line.

    Raises
    ------
    MmreproError
        For a truncated or damaged archive, or a line that is no such object; names file and line.
    """
    for number, line in enumerate(gzip_lines(path), start=1):
        yield parse_line(path, number, line, json.loads, "JSON", required)


def parse_line(
    path: Path, number: int, line: bytes, parse: Callable[[str], Any], notation: str, required: tuple[str, ...]
) -> dict[str, Any]:
    """Parse one line of a file of records.

    Parameters
    ----------
    path, number
        Where the line stands, for messages.
    line
        The line in UTF-8.
    parse
        Turns its text into a value.
    notation
        What `parse` reads, for messages.
    required
        Keys that the record must have.

    Raises
    ------
    MmreproError
        For a line that is no such record; names file and line.
    """
    try:
        record = parse(line.decode())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise MmreproError(
            f"{path}: line {number} is no valid {notation} ({error}); mend the line or fetch the file again"
        ) from None
    missing = [key for key in required if not isinstance(record, dict) or record.get(key) in (None, "")]
    if missing:
        raise MmreproError(f"{path}: line {number} has no '{missing[0]}'; mend the line or fetch again")
    return record


def require_columns(path: Path, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Raise unless a table has rows and these columns."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        found = ", ".join(str(column) for column in frame.columns)
        raise MmreproError(f"{path}: column '{missing[0]}' is missing (found: {found}); add it to the header")
    if frame.empty:
        raise MmreproError(f"{path}: the file has no rows; fetch the data set again")


COMMA, THOUSANDS = r"[+-]?\d+(?:,\d+)?", r"[+-]?\d{1,3}(?:,\d{3})+"


def with_decimal_points(path: Path, column: pd.Series) -> pd.Series:
    """Return numbers with a point where all are written with a decimal comma; else the column as it is.

    Parameters
    ----------
    path
        File the column comes from, for the message.
    column
        Values as text.

    Raises
    ------
    MmreproError
        When every comma may separate thousands as well.
    """
    text = column.astype("str")
    if not text.str.contains(",").any() or not text.str.fullmatch(COMMA).fillna(False).all():
        return column
    if text[text.str.contains(",")].str.fullmatch(THOUSANDS).all():
        example = text[text.str.contains(",")].iloc[0]
        raise MmreproError(
            f"{path}: column '{column.name}': '{example}' may be a thousand or a fraction; write it with a point"
        )
    return text.str.replace(",", ".")


def numbers(path: Path, column: pd.Series, first_line: int, integer: bool = True) -> pd.Series:
    """Return a column as int64 or float64.

    Parameters
    ----------
    path
        File the column comes from, for the message.
    column
        Values as `pandas.read_csv` gave them.
    first_line
        Line number of the first value in the file.
    integer
        Whether fractions are refused.

    Raises
    ------
    MmreproError
        Names file, line, column and the first value that is no such number.
    """
    written = column.astype("str") if column.dtype == object else column  # integers of any length are objects
    values = pd.to_numeric(written, errors="coerce")
    wrong = values.isna() | (values.abs() >= 2.0**63)
    if integer:
        wrong |= values % 1 != 0
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        kind = "an integer" if integer else "a number"
        where = f"{path}: line {row + first_line}, column '{column.name}'"
        if pd.isna(column.iloc[row]):
            raise MmreproError(f"{where} is empty; fill it or drop the line")
        raise MmreproError(f"{where}: '{column.iloc[row]}' is not {kind}; mend the line")
    return values.astype("int64" if integer else "float64")


def keys(path: Path, column: pd.Series, first_line: int) -> pd.Series:
    """Return a column of user or item keys as text; an empty one, or one with a line break or a tab in it, is an error
    that names file, line and column.
    """
    if column.dtype == object and column.map(lambda key: isinstance(key, list | dict | np.ndarray)).any():
        raise MmreproError(f"{path}: column '{column.name}' holds lists, which are no keys; name another column")
    if column.dtype.kind == "f" and (column.abs() >= 2.0**53).any():
        raise MmreproError(
            f"{path}: column '{column.name}' holds fractions that are too large to tell apart; write text"
        )
    text = column.astype("str")
    for wrong, problem in (
        (text.isna() | (text.str.strip() == ""), "is empty; fill it or drop the line"),
        (text.str.contains(BREAKS), "holds a tab, a line break or a zero byte; mend the key"),
        (
            text.str.fullmatch(SCIENTIFIC),
            "is a number as a spreadsheet shortens it, which has lost digits; export it as text",
        ),
        (text.str.len() > LONGEST_KEY, f"holds more than {LONGEST_KEY} letters, which is no key; mend the line"),
    ):
        if wrong.any():
            line = int(wrong.to_numpy().argmax()) + first_line
            raise MmreproError(f"{path}: line {line}, column '{column.name}' {problem}")
    require_visible_differences(path, str(column.name), text)
    return text


def require_visible_differences(path: Path, column: str, keys: pd.Series) -> None:
    """Raise MmreproError when keys of a column look the same: they are one key to whoever wrote them."""
    found = pd.Series(keys.unique(), dtype="str")
    seen = (
        found.str.normalize("NFC")
        .str.replace(INVISIBLE, "", regex=True)
        .str.replace(r"\s+", " ", regex=True)
        .str.strip()
    )
    alike = seen.duplicated(keep=False)
    if alike.any():
        first, second = found[seen == seen[alike].iloc[0]].iloc[:2]
        raise MmreproError(
            f"{path}: column '{column}': '{first}' and {second!a} differ by white space, accents or invisible "
            "letters alone; write them alike"
        )


def first_of_each(items: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Keep the first record of each item key; return the table and how many records were dropped."""
    repeated = items[Columns.KEY].duplicated()
    return items.loc[~repeated].reset_index(drop=True), int(repeated.sum())
