"""Vectors that come with a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.features import PublishedEncoder
from mmrepro.features.encoders.base import Encoded, require_usable
from mmrepro.features.shards import Shards
from mmrepro.features.vectors import NAN_VECTOR, NO_VECTOR, open_vectors, require_no_infinity
from mmrepro.records.files import file_sha256


def encode(encoder: PublishedEncoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded:
    """Read each item's vector.

    An item without a row, or whose row holds NaN, is missing; a row of zeros is a row, for a publisher may mean it.
    Reading is short: no shards.

    Parameters
    ----------
    encoder
        Names the file of the matrix and that of its keys.
    items
        The items of the prepared data set, in item order.
    raw
        Folder of the raw files.
    shards
        Not used.

    Raises
    ------
    MmreproError
        When a file is missing or unreadable, nothing says whose a row is, one holds infinity, or no item has any.
    """
    vectors = open_vectors(encoder, items, raw)
    matrix = np.array(vectors.of(slice(None)), dtype=np.float32)
    require_no_infinity(matrix, vectors.path, items[Columns.KEY])
    absent = np.isnan(matrix).any(axis=1)
    matrix[absent] = 0
    require_usable(int((~absent).sum()), len(items), f"row in {vectors.path.name}")
    reasons = {int(item): NAN_VECTOR if vectors.rows[item] >= 0 else NO_VECTOR for item in np.flatnonzero(absent)}
    return Encoded(matrix, reasons, {"weights": None, "weights_hash": file_sha256(vectors.path), "preprocessing": None})
