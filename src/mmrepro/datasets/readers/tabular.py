"""A user's own tables: interactions, and perhaps items, as csv, tsv (both also gzipped) or parquet.

The options say which column holds what. Keys are text: "007" stays "007".
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from mmrepro.columns import IMAGE_URL, Columns
from mmrepro.config.base import Strict, nearest
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.raw import ITEM_COLUMNS, RawDataset, existing_file, first_of_each, keys, numbers, read_delimited
from mmrepro.errors import MmreproError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
ITEM_FILE_OPTIONS = ("key_column", "title_column", "text_columns", "image_column")


class Options(Strict):
    """Settings of the reader: files in the folder of the raw files, and the names of their columns."""

    interactions_file: str
    user_column: str = "user"
    item_column: str = "item"
    rating_column: str | None = None
    timestamp_column: str | None = None
    minimum_rating: float | None = None
    items_file: str | None = None
    key_column: str | None = None
    title_column: str | None = None
    text_columns: tuple[str, ...] = ()
    image_column: str | None = None
    images_folder: str | None = None


def read(raw: Path, config: DatasetConfig) -> RawDataset:
    """Read a user's own tables.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set; its options name files and columns. `key_column` is `item_column` unless given, and the text of
        an item its title unless `text_columns` are given. `image_column` holds paths in the data set's folder, or urls;
        `images_folder` holds `<key>.jpg`, `.jpeg`, `.png`, `.webp` or `.gif`.

    Returns
    -------
    RawDataset
        Timestamps as given, or in seconds where they are ISO dates (UTC unless they say otherwise). Images that are no
        file are null. `repairs` counts those, interactions below `minimum_rating`, and repeated item records.

    Raises
    ------
    MmreproError
        For contradictory options, an unknown column, or a malformed value; names file, line and the nearest column.
    """
    origin = f"config/datasets/{config.dataset}.yaml: options"
    options = validate(Options, config.options, origin)
    _check(options, origin)
    interactions, below = _interactions(raw / options.interactions_file, options)
    items, repairs = _items(raw, options, interactions[Columns.ITEM])
    return RawDataset(interactions, items, repairs={"rows_below_minimum_rating": below, **repairs})


def _check(options: Options, origin: str) -> None:
    """Refuse options that need another one, or exclude each other."""
    if options.minimum_rating is not None and options.rating_column is None:
        raise MmreproError(f"{origin}: 'minimum_rating' needs 'rating_column'; name the column of ratings")
    given = [name for name in ITEM_FILE_OPTIONS if getattr(options, name)]
    if options.items_file is None and given:
        raise MmreproError(f"{origin}: '{given[0]}' needs 'items_file'; name the table of items")
    if options.image_column is not None and options.images_folder is not None:
        raise MmreproError(f"{origin}: 'image_column' and 'images_folder' both name images; remove one of them")


def _interactions(path: Path, options: Options) -> tuple[pd.DataFrame, int]:
    """Interactions, and how many were left out for their rating."""
    named = {
        Columns.USER: options.user_column,
        Columns.ITEM: options.item_column,
        Columns.RATING: options.rating_column,
        Columns.TIMESTAMP: options.timestamp_column,
    }
    columns = {column: name for column, name in named.items() if name is not None}
    table, first_line = _table(path, list(columns.values()))
    frame = {column: keys(path, table[columns[column]], first_line) for column in (Columns.USER, Columns.ITEM)}
    if options.rating_column is not None:
        frame[Columns.RATING] = numbers(path, table[options.rating_column], first_line, integer=False)
    if options.timestamp_column is not None:
        frame[Columns.TIMESTAMP] = _timestamps(path, table[options.timestamp_column], first_line)
    rows = pd.DataFrame(frame)
    if options.minimum_rating is None:
        return rows, 0
    kept = rows.loc[rows[Columns.RATING] >= options.minimum_rating].reset_index(drop=True)
    if kept.empty:
        highest = rows[Columns.RATING].max()
        raise MmreproError(f"{path}: no rating reaches minimum_rating {options.minimum_rating}; highest is {highest}")
    return kept, len(rows) - len(kept)


def _items(raw: Path, options: Options, interacted: pd.Series) -> tuple[pd.DataFrame, dict[str, int]]:
    """Table of items, and counts of repeated records and of images that are no file."""
    if options.items_file is None:
        columns = {Columns.KEY: interacted.drop_duplicates().sort_values(ignore_index=True)}
    else:
        columns = _item_records(raw / options.items_file, options)
    items, repeated = first_of_each(pd.DataFrame(columns).reindex(columns=[*ITEM_COLUMNS, IMAGE_URL]))
    absent = 0
    if options.images_folder is not None:
        items[Columns.IMAGE] = _images_of_keys(raw, options.images_folder, items[Columns.KEY])
    elif options.items_file is not None and options.image_column is not None:
        named = items[Columns.IMAGE]
        items[IMAGE_URL] = named.where(named.str.match("https?://", na=False))
        paths = named.mask(items[IMAGE_URL].notna())
        items[Columns.IMAGE] = _existing_images(raw, raw / options.items_file, paths)
        absent = int(paths.notna().sum() - items[Columns.IMAGE].notna().sum())
    return items, {"repeated_item_records": repeated, "images_not_found": absent}


def _item_records(path: Path, options: Options) -> dict[str, pd.Series]:
    key = options.key_column or options.item_column
    optional = [name for name in (options.title_column, options.image_column) if name is not None]
    table, first_line = _table(path, [key, *optional, *options.text_columns])
    columns = {Columns.KEY: keys(path, table[key], first_line)}
    texts = options.text_columns
    if options.title_column is not None:
        columns[Columns.TITLE] = table[options.title_column].astype("str")
        texts = texts or (options.title_column,)
    if texts:
        parts = [table[name].astype("str").fillna("") for name in texts]
        joined = [" ".join(filter(None, row)) for row in zip(*parts, strict=True)]
        columns[Columns.TEXT] = pd.Series(joined, dtype="str").replace("", None)
    if options.image_column is not None:
        columns[Columns.IMAGE] = table[options.image_column].astype("str")
    return columns


def _table(path: Path, columns: list[str]) -> tuple[pd.DataFrame, int]:
    """Read columns of a table, and the number of its first line of values."""
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind == ".parquet" and path.suffix == kind:
        return _parquet(path, columns), 1
    if kind not in SEPARATORS:
        raise MmreproError(f"{path}: unknown kind of table; name it .csv, .tsv, .csv.gz, .tsv.gz or .parquet")
    table = read_delimited(path, sep=SEPARATORS[kind], dtype="str", keep_default_na=False, na_values=[""])
    if not isinstance(table.index, pd.RangeIndex):
        raise MmreproError(f"{path}: the first line names fewer columns than line 2 has; name every column")
    _check_columns(path, list(table.columns), columns)
    if table.empty:
        raise MmreproError(f"{path}: the file has no rows; fill it")
    return table[list(dict.fromkeys(columns))], 2


def _parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(existing_file(path)) as file:
            _check_columns(path, file.schema_arrow.names, columns)
            table = file.read(columns=list(dict.fromkeys(columns)))
    except (pyarrow.ArrowException, OSError) as error:
        raise MmreproError(
            f"{path}: no readable parquet file ({' '.join(str(error).split())}); write it anew"
        ) from None
    if table.num_rows == 0:
        raise MmreproError(f"{path}: the file has no rows; fill it")
    return table.to_pandas(ignore_metadata=True, date_as_object=False)


def _check_columns(path: Path, found: list[str], wanted: list[str]) -> None:
    for name in wanted:
        if name not in found:
            raise MmreproError(f"{path}: no column '{name}'; {nearest(name, found)}")


def _timestamps(path: Path, column: pd.Series, first_line: int) -> pd.Series:
    """Numbers as they are, dates in seconds; int64 unless there are fractions."""
    dated = pd.api.types.is_datetime64_any_dtype(column)
    if not dated and pd.to_numeric(column.iloc[:1], errors="coerce").notna().all():
        values = numbers(path, column, first_line, integer=False)
    else:
        dates = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
        wrong = dates.isna().to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            where = f"{path}: line {row + first_line}, column '{column.name}'"
            raise MmreproError(f"{where}: '{column.iloc[row]}' is neither a number nor an ISO date; mend the line")
        values = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return values.astype("int64") if (values % 1 == 0).all() else values


def _images_of_keys(raw: Path, folder: str, item_keys: pd.Series) -> pd.Series:
    """`<folder>/<key>.<suffix>` where there is such a file."""
    if not (raw / folder).is_dir():
        raise MmreproError(
            f"{raw / folder}: no such folder; list it under 'files' with `folder: true`, and fetch again"
        )
    files = [path for path in (raw / folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    files.sort(key=lambda path: (IMAGE_SUFFIXES.index(path.suffix.lower()), path.name), reverse=True)
    names = {path.stem: f"{folder}/{path.name}" for path in files}  # of several, the first in the order of suffixes
    return item_keys.map(names).astype("str")


def _existing_images(raw: Path, table: Path, paths: pd.Series) -> pd.Series:
    """Keep the paths that are files; one that leaves the folder is an error."""
    for path in map(PurePosixPath, paths.dropna()):
        if path.is_absolute() or ".." in path.parts:
            raise MmreproError(f"{table}: image '{path}' leaves the data set's folder; make it relative to that folder")
    present = [isinstance(path, str) and (raw / path).is_file() for path in paths]
    return paths.where(np.array(present))
