"""Files that are there whole or not at all, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrepro.errors import MmreproError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CHECKSUM = "checksum"
"""Key of a record under which a hash of the others stands."""
AGAIN = "delete its folder and run the study again"


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`; on success it is flushed to disk and renamed, on failure removed.

    Raises
    ------
    MmreproError
        Where `final` is a folder, or its own folder cannot be made.
    """
    if final.is_dir():
        raise MmreproError(f"{final}: is a folder; name a file")
    make_folder(final.parent)
    temporary = final.with_name(f".{final.stem}.{uuid.uuid4().hex[:8]}.part{final.suffix}")
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(final)
        flush_to_disk(final.parent)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises
    ------
    MmreproError
        Where no folder can be made, as below a file or in `/proc`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise MmreproError(f"{path}: no folder can be made there ({error.strerror}); name another place") from None


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed writer has left in a folder; call it where nobody else writes."""
    for leftover in folder.glob(".*.part*"):
        leftover.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot do it for a folder
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write what a job found as a JSON object with a checksum, by which `read_object` knows it."""
    write_json(path, {**value, CHECKSUM: _checksum(value)})


def read_json(path: Path, remedy: str = AGAIN) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path
        The file.
    remedy
        What the user should do where it is damaged.

    Raises
    ------
    FileNotFoundError
        When there is none.
    MmreproError
        When it holds no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise MmreproError(f"{path}: no valid JSON; {remedy}") from None


def read_object(path: Path, remedy: str = AGAIN) -> dict[str, Any] | None:
    """Read a JSON file that holds an object; None where there is none. Parameters are those of `read_json`.

    Raises
    ------
    MmreproError
        When the file holds no JSON object, or one that is not what `write_record` wrote.
    """
    if not path.is_file():
        return None
    value = read_json(path, remedy)
    if not isinstance(value, dict):
        raise MmreproError(f"{path}: no JSON object; {remedy}")
    written = value.pop(CHECKSUM, None)
    if written is not None and written != _checksum(value):
        raise MmreproError(f"{path}: changed since it was written; {remedy}")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one a line.

    Raises
    ------
    MmreproError
        When there is no such file, or a line that is no object; names it.
    """
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; name a folder such as results/reference/tiktok")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise MmreproError(f"{path}: line {number} is no JSON object; restore the file from git")
        found.append(values)
    return found


def recorded_file(folder: Path, record: Mapping[str, Any], name: str) -> Path:
    """Return a file of a job's folder.

    Parameters
    ----------
    folder
        The job's folder.
    record
        Its record; `files` has the SHA-256 of what else it left, in older ones nothing.
    name
        Of the file.

    Raises
    ------
    MmreproError
        When the file is not the one that the job left.
    """
    path, written = folder / name, record.get("files", {}).get(name)
    if written is not None and path.is_file() and file_sha256(path) != written:
        raise MmreproError(f"{path}: not the file that its run left; {AGAIN}")
    return path


def _checksum(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def read_table(path: Path, remedy: str = AGAIN, **options: Any) -> pd.DataFrame:
    """Read a parquet file.

    Parameters
    ----------
    path
        The file.
    remedy
        What the user should do where it is missing or damaged.
    **options
        `columns` and `filters` of `pandas.read_parquet`.

    Raises
    ------
    MmreproError
        When there is none, or it cannot be read, or lacks a column.
    """
    import pandas as pd

    if not path.is_file():
        raise MmreproError(f"{path}: no such file; {remedy}")
    try:
        return pd.read_parquet(path, **options)
    except (OSError, ValueError) as error:  # what pyarrow raises derives from these
        raise MmreproError(f"{path}: no readable parquet file ({_reason(error)}); {remedy}") from None


@contextmanager
def row_groups(path: Path, rising: Sequence[str] = ()) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that writes rows of a parquet file, those of each call as a row group of their own; call it at
    least once.

    Parameters
    ----------
    path
        The file.
    rising
        Integer columns whose values mostly rise from row to row: they are kept as differences, in less than half the
        bytes, and the file is packed as tightly as can be.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    writer = None

    def write(rows: pd.DataFrame) -> None:
        nonlocal writer
        table: Any = pa.Table.from_pandas(rows, preserve_index=False)
        writer = writer or ParquetWriter(
            temporary, table.schema, compression="zstd", compression_level=19 if rising else None,
            use_dictionary=[name for name in rows if name not in rising],
            column_encoding=dict.fromkeys(rising, "DELTA_BINARY_PACKED") or None,
        )  # fmt: skip
        writer.write_table(table, row_group_size=max(1, len(rows)))

    with atomic_path(path) as temporary:
        try:
            yield write
        finally:
            if writer is not None:
                writer.close()


def read_arrays(path: Path, *names: str, remedy: str = AGAIN) -> list[np.ndarray]:
    """Read some arrays of an npz file, in the order of their names.

    Raises
    ------
    MmreproError
        When the file cannot be read or lacks one of them.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except Exception as error:  # of files, zip, zlib, keys and values alike
        raise MmreproError(f"{path}: no readable arrays {', '.join(names)} ({_reason(error)}); {remedy}") from None


def _reason(error: Exception) -> str:
    """The words of an error of another package, as one line that is not too long."""
    return " ".join(str(error).split())[:99] or type(error).__name__


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
