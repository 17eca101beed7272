"""Matrices of vectors that come with a data set: whose item's each row is, by its key and never by its place alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.features import VectorFile
from mmrepro.datasets.delimited import Dialect, guess_separator, header_names, read_delimited
from mmrepro.datasets.interactions import PUBLISHED_ITEMS
from mmrepro.datasets.item_keys import match_keys
from mmrepro.datasets.parquet import read_parquet
from mmrepro.datasets.raw_folder import raw_file, require_inside
from mmrepro.errors import MmreproError

NO_VECTOR, NAN_VECTOR = "no vector of its key", "NaN in its vector"
REMEDY = "write both alike"


@dataclass(frozen=True)
class Vectors:
    """A matrix file, and the row of each item.

    Attributes
    ----------
    path
        The file.
    matrix
        Shape (rows, dim); of a `.npy` file mapped into memory, in the file's order.
    rows
        Row of each item, shape (n_items,), -1 where it has none.
    """

    path: Path
    matrix: np.ndarray
    rows: np.ndarray

    def of(self, items: slice) -> np.ndarray:
        """Return the vectors of a run of items, shape (n, dim); NaN for an item without one.

        Rows that lie in the file as they are wanted stay there, mapped into memory.
        """
        rows = self.rows[items]
        if len(rows) and bool((np.diff(rows) == 1).all()) and rows[0] >= 0:
            return self.matrix[rows[0] : rows[-1] + 1]
        found = np.full((len(rows), self.matrix.shape[1]), np.nan, dtype=np.float32)
        found[rows >= 0] = self.matrix[rows[rows >= 0]]
        return found


def require_no_infinity(vectors: np.ndarray, path: Path, keys: pd.Series) -> None:
    """Raise MmreproError when vectors (n, dim) of a file hold infinity; names the key of the first such item."""
    broken = np.flatnonzero(np.isinf(vectors).any(axis=1))
    if len(broken):
        raise MmreproError(
            f"{path}: the vector of item '{keys.iloc[broken[0]]}' holds infinity; fetch the file again or mend it"
        )


def open_vectors(source: VectorFile, items: pd.DataFrame, raw: Path) -> Vectors:
    """Open a matrix of vectors and find each item's row.

    The rows' keys stand in the file itself (parquet: a column of keys, and of vectors), or in one beside it (`keys`: a
    table with a column of keys, or a key a line). Without keys a row is the item of that number in a published
    numbering, which the keys of such data sets are.

    Parameters
    ----------
    source
        Names of the files, and of the column of keys.
    items
        The items of the prepared data set, in item order, with `attrs` as `load_items` gives them.
    raw
        Folder of the raw files.

    Raises
    ------
    MmreproError
        When a file is missing or unreadable, holds no matrix of numbers or no keys, keys repeat, no item has a row, or
        nothing says whose a row is.
    """
    path = find_file(raw, source.file)
    if path.suffix == ".parquet":
        keys, matrix = _parquet(path, source.key_column)
    else:
        matrix = _open_matrix(path)
        if source.keys is None:
            return Vectors(path, matrix, _published_rows(path, matrix, items))
        keys = _keys(find_file(raw, source.keys), source.key_column)
    if len(keys) != len(matrix):
        raise MmreproError(f"{path}: {len(matrix)} rows, but {len(keys)} keys in '{source.keys}'; name the right file")
    doubled = keys[keys.duplicated()]
    if len(doubled):
        raise MmreproError(f"{path}: two rows have the key '{doubled[0]}'; keep one of them")
    return Vectors(path, matrix, _rows_by_key(path, keys, items))


def find_file(raw: Path, pattern: str) -> Path:
    """Return the one file of a raw folder that a name or pattern matches, verified.

    Parameters
    ----------
    raw
        Folder of the raw files.
    pattern
        A path in it, perhaps with `*`, `?` or `[...]` as a shell reads them.

    Raises
    ------
    MmreproError
        When the pattern leaves the folder, none or several match, or the file is not the one that was fetched.
    """
    require_inside(pattern, "config/features: file")
    matches = sorted(path for path in raw.glob(pattern) if path.is_file())
    if len(matches) != 1:
        names = ", ".join(path.relative_to(raw).as_posix() for path in matches) or "none"
        raise MmreproError(
            f"{raw}: one file '{pattern}' is expected, found {names}; list it under `files` in "
            f"config/datasets/{raw.name}.yaml and fetch it, or correct `file` in config/features"
        )
    return raw_file(raw, matches[0].relative_to(raw).as_posix())


def _open_matrix(path: Path) -> np.ndarray:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # numpy parses the header as Python: syntax, token and value errors alike
        raise MmreproError(f"{path}: not a readable .npy matrix (truncated?); fetch it again") from None
    return _numbers(path, stored)


def _numbers(path: Path, stored: np.ndarray) -> np.ndarray:
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "fiu" or not stored.shape[1]:
        raise MmreproError(f"{path}: expected one matrix of numbers, (items, dim); correct `file`")
    return stored


def _published_rows(path: Path, matrix: np.ndarray, items: pd.DataFrame) -> np.ndarray:
    """Rows by the numbers that a publisher gave the items: they are the items' keys."""
    count = items.attrs.get(PUBLISHED_ITEMS)
    if count is None:
        raise MmreproError(
            f"{path}: nothing says which row is which item's, for the data set's items have no published numbers; name "
            "the file with the rows' keys in `keys` in config/features (a table with `key_column`, or a key a line)"
        )
    if len(matrix) != count:
        raise MmreproError(
            f"{path}: {len(matrix)} rows, but the publisher numbered {count} items; get the matrix of this data set, "
            "or name the file with its rows' keys in `keys` in config/features"
        )
    return items[Columns.KEY].astype("int64").to_numpy()


def _rows_by_key(path: Path, keys: pd.Index, items: pd.DataFrame) -> np.ndarray:
    wanted = pd.Index(items[Columns.KEY].astype("str"))
    found = match_keys(wanted, keys, str(path), "vector", None, REMEDY)
    if found.isna().all():
        raise MmreproError(
            f"{path}: no row has the key of an item: '{keys[0]}' here against '{wanted[0]}' there; correct `keys` or "
            "`key_column` in config/features"
        )
    return np.asarray(keys.get_indexer(pd.Index(found)))


def _keys(path: Path, column: str) -> pd.Index:
    """Keys in the order of rows: of a column of a table, a line each of a text file, or of a vector of them."""
    if path.suffix == ".parquet":
        return _column(path, column)
    if path.suffix == ".npy":
        try:
            keys = np.load(path, allow_pickle=False)
            if keys.ndim != 1:
                raise ValueError
            return pd.Index(keys).astype("str")
        except Exception:  # as above
            raise MmreproError(f"{path}: not a readable .npy vector of keys; write it anew") from None
    if path.with_suffix("").suffix in (".csv", ".tsv") or path.suffix in (".csv", ".tsv"):
        usual = "\t" if ".tsv" in path.suffixes else ","
        dialect = Dialect.of(guess_separator(path, usual, [column]), "multi-line" if usual == "," else None)
        table = read_delimited(path, dialect, dtype="str", keep_default_na=False)
        if header_names(path, dialect.separator).count(column) > 1:
            raise MmreproError(f"{path}: two columns have the name '{column}'; rename one of them")
        if column not in table:
            raise MmreproError(f"{path}: no column '{column}'; name the column of keys in `key_column`")
        return pd.Index(table[column])
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise MmreproError(f"{path}: not UTF-8; write the keys as such, one a line") from None
    return pd.Index(text.splitlines(), dtype="str").str.strip()


def _column(path: Path, column: str) -> pd.Index:
    return pd.Index(_with_keys(path, column)[column].astype("str"))


def _parquet(path: Path, column: str) -> tuple[pd.Index, np.ndarray]:
    """Keys and vectors of a table: a column of lists, or all other columns, a number each."""
    table = _with_keys(path, column)
    keys, others = pd.Index(table[column].astype("str")), table.drop(columns=column)
    lists = [name for name in others if isinstance(others[name].iloc[0], list | np.ndarray)]
    counted = _numbered_columns([str(name) for name in others])
    if len(lists) == 1:
        try:
            matrix = np.stack(others[lists[0]].to_list())
        except (ValueError, TypeError):
            raise MmreproError(f"{path}: the vectors of '{lists[0]}' are missing or of several lengths") from None
    elif not lists and counted:
        matrix = others[counted].to_numpy()
    else:
        raise MmreproError(
            f"{path}: which of the columns {', '.join(map(str, others))} are the vector is not said; write one column "
            "of lists, or columns numbered x0, x1, ..."
        )
    return keys, _numbers(path, matrix)


def _numbered_columns(names: list[str]) -> list[str]:
    """The names in the order of their numbers, where they are one word numbered from 0 or 1; else nothing."""
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    found = {int(part[2]): name for part, name in zip(parts, names, strict=True) if part}
    words = {part[1] for part in parts if part}
    whole = len(found) == len(names) > 1 and len(words) == 1 and max(found) - min(found) == len(found) - 1
    return [found[number] for number in sorted(found)] if whole and min(found) in (0, 1) else []


def _with_keys(path: Path, column: str) -> pd.DataFrame:
    table = read_parquet(path)
    if column not in table:
        raise MmreproError(f"{path}: no column '{column}'; name the column of keys in `key_column`")
    return table
