"""Parquet files that others wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mmrepro.config.base import nearest
from mmrepro.errors import MmreproError


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read columns of a parquet file; what pandas noted in it, such as an index, is not looked at.

    Parameters
    ----------
    path
        The file.
    columns
        Their names; None: all.

    Raises
    ------
    MmreproError
        When the file cannot be read, lacks a column (names the nearest), or has no rows.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            require_columns_of(path, file.schema_arrow.names, columns or ())
            table = file.read(columns=None if columns is None else list(dict.fromkeys(columns)))
        found: pd.DataFrame = table.replace_schema_metadata(None).to_pandas(date_as_object=False)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        said = " ".join(str(error).split())[:200]
        raise MmreproError(f"{path}: no readable parquet file ({said}); write it anew") from None
    for name in found:
        if found[name].map(lambda value: isinstance(value, bytes)).any():
            found[name] = _decoded(path, found[name])
    if found.empty:
        raise MmreproError(f"{path}: the file has no rows; fill it")
    return found


def _decoded(path: Path, column: pd.Series) -> pd.Series:
    """Text that was written as bytes."""
    try:
        return column.map(lambda value: value.decode("utf-8") if isinstance(value, bytes) else value)
    except UnicodeDecodeError as error:
        raise MmreproError(f"{path}: column '{column.name}' is not UTF-8 ({error.reason}); write it anew") from None


def require_columns_of(path: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise MmreproError unless a table has the wanted columns; names the nearest one it has."""
    for name in wanted:
        if name not in found:
            raise MmreproError(f"{path}: no column '{name}'; {nearest(name, list(found))}")
