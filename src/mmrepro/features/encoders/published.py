"""Feature matrices that were published with a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmrepro.config import PublishedEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.encoders import Encoded
from mmrepro.provenance import file_sha256


def encode_published(encoder: PublishedEncoder, n_items: int, raw: Path) -> Encoded:
    """Read a published matrix, whose rows are in the order of the item indices.

    Parameters
    ----------
    encoder
        Names the `.npy` file.
    n_items
        Number of items of the prepared data set.
    raw
        Folder of the raw files.

    Raises
    ------
    MmreproError
        When the file is missing or unreadable, is no matrix of numbers with one row an item, or holds NaN or infinity.
    """
    path = raw / encoder.file
    if not path.is_file():
        raise MmreproError(
            f"{path}: no such file; add it to the data set's `files`, or correct `file` in config/features"
        )
    try:
        stored = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise MmreproError(f"{path}: not a readable .npy matrix (truncated?); fetch it again") from None
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "fiu":
        raise MmreproError(f"{path}: expected one matrix of numbers, (items, dim), in .npy form; correct `file`")
    if len(stored) != n_items:
        raise MmreproError(
            f"{path}: {len(stored)} rows, but the data set has {n_items} items; published features need the published "
            "item list (no k-core filter)"
        )
    matrix = stored.astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(broken):
        raise MmreproError(
            f"{path}: {len(broken)} of {n_items} rows hold NaN or infinity, the first is row {broken[0]}; fetch it again "
            "or mend it"
        )
    return Encoded(matrix, {}, {"weights": None, "weights_hash": file_sha256(path), "preprocessing": None})
