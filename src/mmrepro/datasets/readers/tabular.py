"""A user's own tables: interactions, and perhaps items, as csv, tsv (both also gzipped) or parquet.

The options say which column holds what. Keys are text: "007" stays "007".
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from mmrepro.columns import IMAGE_URL, Columns
from mmrepro.config.base import Strict
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.delimited import NAMES, Dialect, Quoting, guess_separator, header_names, read_delimited
from mmrepro.datasets.item_keys import Matching, as_interacted
from mmrepro.datasets.parquet import read_parquet, require_columns_of
from mmrepro.datasets.pictures import pictures_of_keys
from mmrepro.datasets.raw import (
    ITEM_COLUMNS,
    Pictures,
    RawDataset,
    TimeUnit,
    first_of_each,
    keys,
    numbers,
    with_decimal_points,
)
from mmrepro.datasets.raw_folder import raw_file, require_inside
from mmrepro.datasets.texts import Markup, cleaned
from mmrepro.errors import MmreproError

REMEDY = (
    "if it is a part of the text set `quoting: none` in the options, if values may have several lines "
    "`quoting: multi-line`"
)
SEPARATORS = {".csv": ",", ".tsv": "\t"}
ITEM_FILE_OPTIONS = ("key_column", "title_column", "text_columns", "image_column")
COMPACT = {
    14: ("%Y%m%d%H%M%S",), 12: ("%Y%m%d%H%M",), 8: ("%Y%m%d", "%d%m%Y", "%m%d%Y"), 6: ("%y%m%d", "%d%m%y", "%m%d%y"),
}  # fmt: skip
"""Number of digits -> forms of dates without separators."""
MOST = 0.9
NOBODY = "nobody"


class Options(Strict):
    """Settings of the reader: files in the folder of the raw files, the names of their columns, and how they are
    written.
    """

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
    separator: str | None = Field(
        None, pattern=r"^[\t !#-~]$", description="of values; none: tabs in .tsv, in .csv what fits the header"
    )
    quoting: Quoting | None = Field(
        None,
        description="none: quotation marks are text (as in .tsv unless given); one-line: values may stand in quotation "
        "marks, a record a line (as in .csv); multi-line: quoted values may have several lines",
    )
    timestamp_format: str | None = Field(None, description="of dates that are not ISO 8601, such as %d.%m.%Y %H:%M")
    timestamp_unit: TimeUnit | None = Field(None, description="of numbers; none: told from their size")
    empty_users: Literal["refuse", "drop"] = Field(
        "refuse", description="what becomes of rows without a user, such as orders of guests"
    )
    item_keys: Matching | None = Field(
        None,
        description="how keys of items are matched with those of the items' table and pictures; none: letter by "
        "letter, and keys that differ by their writing alone are an error",
    )
    markup: Markup = Field("keep", description="strip: HTML tags and entities are taken out of titles and texts")


def read(raw: Path, config: DatasetConfig) -> RawDataset:
    """Read a user's own tables.

    Parameters
    ----------
    raw
        Folder of the raw files.
    config
        The data set; its options name files and columns. `key_column` is `item_column` unless given, and the text of
        an item its title unless `text_columns` are given. `image_column` holds paths in the data set's folder, or urls;
        `images_folder` holds pictures named after the keys (`datasets/pictures.py`).

    Returns
    -------
    RawDataset
        Timestamps as given, or in seconds where they are dates (UTC unless they say otherwise). Images that are no
        file are null. `repairs` counts those, interactions below `minimum_rating` (`disregarded`), repeated item
        records, and texts with markup.

    Raises
    ------
    MmreproError
        For contradictory options, an unknown column, a malformed value, or keys that match by their writing alone;
        names file, line and the nearest column.
    """
    origin = f"config/datasets/{config.dataset}.yaml: options"
    options = validate(Options, config.options, origin)
    _check(options, origin)
    reader = _Reader(raw, options)
    interactions, disregarded = reader.interactions()
    items, repairs, pictures = reader.items(interactions[Columns.ITEM])
    return RawDataset(
        interactions, items, disregarded=disregarded, repairs={**reader.left_out(len(disregarded)), **repairs},
        time_unit=reader.time_unit, notes=tuple(reader.notes), pictures=pictures,
    )  # fmt: skip


def _check(options: Options, origin: str) -> None:
    """Refuse options that need another one, or exclude each other."""
    if options.minimum_rating is not None and options.rating_column is None:
        raise MmreproError(f"{origin}: 'minimum_rating' needs 'rating_column'; name the column of ratings")
    given = [name for name in ITEM_FILE_OPTIONS if getattr(options, name)]
    if options.items_file is None and given:
        raise MmreproError(f"{origin}: '{given[0]}' needs 'items_file'; name the table of items")
    if options.image_column is not None and options.images_folder is not None:
        raise MmreproError(f"{origin}: 'image_column' and 'images_folder' both name images; remove one of them")


class _Reader:
    """Reads the tables of a folder, and notes what it guesses."""

    def __init__(self, raw: Path, options: Options) -> None:
        self.raw, self.options = raw, options
        self.notes: list[str] = []
        self.time_unit = options.timestamp_unit
        self.both_sides = self.without_user = 0

    def interactions(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Interactions, and the pairs that are none for their rating."""
        options, path = self.options, self.raw / self.options.interactions_file
        named = {
            Columns.USER: options.user_column,
            Columns.ITEM: options.item_column,
            Columns.RATING: options.rating_column,
            Columns.TIMESTAMP: options.timestamp_column,
        }
        columns = {column: name for column, name in named.items() if name is not None}
        table, first_line = self.table(path, list(columns.values()))
        absent = self.without_a_user(path, table, first_line)
        frame = {column: keys(path, table[columns[column]], first_line) for column in (Columns.USER, Columns.ITEM)}
        if options.rating_column is not None:
            frame[Columns.RATING] = self.ratings(path, table[options.rating_column], first_line)
        if options.timestamp_column is not None:
            frame[Columns.TIMESTAMP] = self.timestamps(path, table[options.timestamp_column], first_line)
        rows, pair = pd.DataFrame(frame), [Columns.USER, Columns.ITEM]
        rows = rows if absent is None else rows[~absent].reset_index(drop=True)
        if options.minimum_rating is None:
            return rows, rows.loc[:, pair].iloc[:0]
        enough = rows[Columns.RATING] >= options.minimum_rating
        kept, below = rows.loc[enough].reset_index(drop=True), rows.loc[~enough, pair].reset_index(drop=True)
        self.both_sides = len(kept[pair].drop_duplicates().merge(below.drop_duplicates()))
        if kept.empty:
            highest = rows[Columns.RATING].max()
            raise MmreproError(
                f"{path}: no rating reaches minimum_rating {options.minimum_rating}; highest is {highest}"
            )
        return kept, below

    def without_a_user(self, path: Path, table: pd.DataFrame, first_line: int) -> pd.Series | None:
        """Which rows have no user; they get a name until all rows are read, so that lines keep their numbers. None:
        every row has one.
        """
        users = table[self.options.user_column]
        absent = users.isna() | (users.astype("str").str.strip() == "")
        self.without_user = int(absent.sum())
        if not absent.any():
            return None
        if self.options.empty_users == "refuse":
            line = int(absent.to_numpy().argmax()) + first_line
            raise MmreproError(
                f"{path}: line {line}, column '{users.name}' is empty; fill it, drop the line, or set "
                "`empty_users: drop`"
            )
        if absent.all():
            raise MmreproError(f"{path}: column '{users.name}' is empty in every row; name another")
        table[self.options.user_column] = users.astype("str").mask(absent, NOBODY)
        return absent

    def left_out(self, below: int) -> dict[str, int]:
        """Counts of interactions below the minimum rating, and of pairs that are rated on both sides of it."""
        found = {"rows_below_minimum_rating": below, "pairs_on_both_sides_of_it": self.both_sides}
        return {**found, **({"rows_without_user": self.without_user} if self.without_user else {})}

    def ratings(self, path: Path, column: pd.Series, first_line: int) -> pd.Series:
        """Numbers; with a decimal comma where all are written so."""
        pointed = with_decimal_points(path, column)
        if pointed is not column:
            self.notes.append(f"{path.name}: '{column.name}' has decimal commas")
        return numbers(path, pointed, first_line, integer=False)

    def timestamps(self, path: Path, column: pd.Series, first_line: int) -> pd.Series:
        """Numbers as they are, dates in seconds; int64 unless there are fractions."""
        form = self.options.timestamp_format
        dated = pd.api.types.is_datetime64_any_dtype(column) or form is not None
        if not dated and pd.to_numeric(column.iloc[:1], errors="coerce").notna().all():
            values = numbers(path, column, first_line, integer=False)
            if self.time_unit is None and (compact := _compact_form(values)) is not None:
                raise MmreproError(
                    f"{path}: column '{column.name}': '{column.iloc[0]}' looks like a date; set "
                    f'`timestamp_format: "{compact}"` in the options, or `timestamp_unit: s` if it is a number'
                )
        else:
            dates = _dates(path, column, form)
            wrong = dates.isna().to_numpy()
            if wrong.any():
                row = int(wrong.argmax())
                where = f"{path}: line {row + first_line}, column '{column.name}'"
                if pd.isna(column.iloc[row]):
                    raise MmreproError(f"{where} is empty; fill it or drop the line")
                kind = f"no date in the form {form}" if form else "neither a number nor an ISO date"
                raise MmreproError(f"{where}: '{column.iloc[row]}' is {kind}; mend the line, or set `timestamp_format`")
            values = (dates.dt.as_unit("us") - pd.Timestamp("1970-01-01", tz="UTC")) / pd.Timedelta(seconds=1)
            self.time_unit = "s"
        return values.astype("int64") if (values % 1 == 0).all() else values

    def items(self, interacted: pd.Series) -> tuple[pd.DataFrame, dict[str, int], Pictures | None]:
        """Table of items under the keys of the interactions, counts of what was mended, and a folder's pictures."""
        options, wanted = self.options, pd.Index(interacted.unique()).sort_values()
        if options.items_file is None:
            columns = {Columns.KEY: pd.Series(wanted)}
        else:
            path = self.raw / options.items_file
            columns = self.item_records(path)
        items, repeated = first_of_each(pd.DataFrame(columns).reindex(columns=[*ITEM_COLUMNS, IMAGE_URL]))
        repairs = {"repeated_item_records": repeated}
        if options.items_file is not None:
            items[Columns.KEY] = as_interacted(items[Columns.KEY], wanted, path, options.item_keys)
        for column in (Columns.TITLE, Columns.TEXT):
            items[column], repairs[f"{column}s_with_markup"] = cleaned(items[column], options.markup)
        pictures, absent = None, 0
        if options.images_folder is not None:
            items[Columns.IMAGE], pictures = pictures_of_keys(
                self.raw, options.images_folder, items[Columns.KEY], options.item_keys
            )
        elif options.image_column is not None:
            named = items[Columns.IMAGE]
            items[IMAGE_URL] = named.where(named.str.match("https?://", na=False))
            paths = named.mask(items[IMAGE_URL].notna())
            items[Columns.IMAGE] = _existing_images(self.raw, path, paths)
            absent = int(paths.notna().sum() - items[Columns.IMAGE].notna().sum())
        return items, {**repairs, "images_not_found": absent}, pictures

    def item_records(self, path: Path) -> dict[str, pd.Series]:
        """Columns of the table of items."""
        options = self.options
        key = options.key_column or options.item_column
        optional = [name for name in (options.title_column, options.image_column) if name is not None]
        table, first_line = self.table(path, [key, *optional, *options.text_columns])
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

    def table(self, path: Path, columns: list[str]) -> tuple[pd.DataFrame, int]:
        """Read columns of a table, and the number of its first line of values."""
        kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
        is_parquet = kind == ".parquet" and path.suffix == kind
        if kind not in SEPARATORS and not is_parquet:
            raise MmreproError(f"{path}: unknown kind of table; name it .csv, .tsv, .csv.gz, .tsv.gz or .parquet")
        raw_file(self.raw, path.relative_to(self.raw).as_posix())
        if is_parquet:
            return read_parquet(path, columns), 1
        separator = self.options.separator or guess_separator(path, SEPARATORS[kind], columns)
        if separator != (self.options.separator or SEPARATORS[kind]):
            self.notes.append(f"{path.name}: values are separated by {NAMES[separator]}")
        dialect = Dialect.of(separator, self.options.quoting, REMEDY)
        table = read_delimited(path, dialect, dtype="str", keep_default_na=False, na_values=[""])
        doubled = [name for name in columns if header_names(path, separator).count(name) > 1]
        if doubled:
            raise MmreproError(f"{path}: two columns have the name '{doubled[0]}'; rename one of them")
        require_columns_of(path, list(table.columns), columns)
        if table.empty:
            raise MmreproError(f"{path}: the file has no rows; fill it")
        return table[list(dict.fromkeys(columns))], 2


def _dates(path: Path, column: pd.Series, form: str | None) -> pd.Series:
    """Dates in UTC; null for what is none."""
    try:
        return pd.to_datetime(
            column.astype("str") if form else column, format=form or "ISO8601", utc=True, errors="coerce"
        )
    except ValueError as error:
        raise MmreproError(f"{path}: column '{column.name}': `timestamp_format: {form}`: {error}; correct it") from None


def _compact_form(values: pd.Series) -> str | None:
    """The form of dates without separators that nearly all numbers have, such as 20240301; None where none fits."""
    known = values[values % 1 == 0]
    text = known.astype("int64").astype("str")
    for length, forms in COMPACT.items():
        padded = text[text.str.len().isin((length - 1, length))].str.zfill(length)  # 01032024 has lost a zero
        for form in forms:
            dates = pd.to_datetime(padded, format=form, errors="coerce")
            if dates.dt.year.between(1990, 2100).sum() > MOST * len(values):
                return form
    return None


def _existing_images(raw: Path, table: Path, paths: pd.Series) -> pd.Series:
    """Keep the paths that are files; one that leaves the folder is an error."""
    for path in paths.dropna():
        require_inside(path, f"{table}: image")
    present = [isinstance(path, str) and _is_file(raw / path) for path in paths]
    return paths.where(np.array(present))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows
        return False
