"""Feature matrices that were published with a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.config import PublishedEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.encoders import Encoded, require_usable
from mmrepro.features.shards import Shards
from mmrepro.provenance import file_sha256

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
    path = raw / encoder.file
    if not path.is_file():
        raise MmreproError(
            f"{path}: no such file; list '{encoder.file}' under `files` in config/datasets/{raw.name}.yaml and fetch it, or "
            "correct `file` in config/features"
        )
    stored = _open(path)
    if len(stored) != len(items):
        raise MmreproError(
            f"{path}: {len(stored)} rows, but the data set has {len(items)} items; published features need the published "
            "item list (no k-core filter)"
        )
    matrix = np.array(stored, dtype=np.float32)
    absent = np.isnan(matrix).any(axis=1)
    matrix[absent] = 0
    broken = np.flatnonzero(np.isinf(matrix).any(axis=1))
    if len(broken):
        raise MmreproError(
            f"{path}: {len(broken)} of {len(items)} rows hold infinity, the first is row {broken[0]}; fetch it again or mend it"
        )
    require_usable(int((~absent).sum()), len(items), f"row in {path.name}")
    reasons = dict.fromkeys(np.flatnonzero(absent).tolist(), MISSING_ROW)
    return Encoded(matrix, reasons, {"weights": None, "weights_hash": file_sha256(path), "preprocessing": None})


def _open(path: Path) -> np.ndarray:
    """Map the matrix into memory."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise MmreproError(f"{path}: not a readable .npy matrix (truncated?); fetch it again") from None
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "fiu":
        raise MmreproError(f"{path}: expected one matrix of numbers, (items, dim), in .npy form; correct `file`")
    return stored
