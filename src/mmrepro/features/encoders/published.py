"""Feature matrices that were published with a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.config.features import PublishedEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.encoders.base import Encoded, require_usable
from mmrepro.features.shards import Shards
from mmrepro.records.files import file_sha256

MISSING_ROW = "NaN in the published matrix"


def encode(encoder: PublishedEncoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded:
    """Read a published matrix, whose rows are in the order of the item indices.

    A row that holds NaN is missing; a row of zeros is a row, for a publisher may mean it. Reading is short: no shards.

    Parameters
    ----------
    encoder
        Names the `.npy` file.
    items
        The items of the prepared data set, in item order.
    raw
        Folder of the raw files.
    shards
        Not used.

    Raises
    ------
    MmreproError
        When the file is missing or unreadable, is no matrix of numbers with one row an item, holds infinity, or no row
        without NaN.
    """
    path = find_file(raw, encoder.file)
    stored = open_matrix(path, len(items))
    matrix = np.array(stored, dtype=np.float32)
    absent = np.isnan(matrix).any(axis=1)
    matrix[absent] = 0
    require_no_infinity(matrix, path)
    require_usable(int((~absent).sum()), len(items), f"row in {path.name}")
    reasons = dict.fromkeys(np.flatnonzero(absent).tolist(), MISSING_ROW)
    return Encoded(matrix, reasons, {"weights": None, "weights_hash": file_sha256(path), "preprocessing": None})


def find_file(raw: Path, pattern: str) -> Path:
    """Return the one file of a raw folder that a name or pattern matches.

    Parameters
    ----------
    raw
        Folder of the raw files.
    pattern
        A path in it, perhaps with `*`, `?` or `[...]` as a shell reads them.

    Raises
    ------
    MmreproError
        When none or several match.
    """
    matches = sorted(path for path in raw.glob(pattern) if path.is_file())
    if len(matches) != 1:
        names = ", ".join(path.relative_to(raw).as_posix() for path in matches) or "none"
        raise MmreproError(
            f"{raw}: one file '{pattern}' is expected, found {names}; list it under `files` in "
            f"config/datasets/{raw.name}.yaml and fetch it, or correct `file` in config/features"
        )
    return matches[0]


def open_matrix(path: Path, n_items: int) -> np.ndarray:
    """Map a matrix with one row an item into memory.

    Raises
    ------
    MmreproError
        When the file is unreadable, holds no matrix of numbers, or has another number of rows.
    """
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise MmreproError(f"{path}: not a readable .npy matrix (truncated?); fetch it again") from None
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "fiu":
        raise MmreproError(f"{path}: expected one matrix of numbers, (items, dim), in .npy form; correct `file`")
    if len(stored) != n_items:
        raise MmreproError(
            f"{path}: {len(stored)} rows, but the data set has {n_items} items; published features need the published "
            "item list (no k-core filter)"
        )
    return stored


def require_no_infinity(rows: np.ndarray, path: Path, first: int = 0) -> None:
    """Raise MmreproError when rows (n, dim) of a file, of which the first is row `first`, hold infinity."""
    broken = np.flatnonzero(np.isinf(rows).any(axis=1))
    if len(broken):
        raise MmreproError(f"{path}: row {first + broken[0]} holds infinity; fetch the file again or mend it")
