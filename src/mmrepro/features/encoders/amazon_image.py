"""Amazon's released image vectors, read from their binary file in one pass."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.features import AmazonImageEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.encoders.base import Encoded, require_usable
from mmrepro.features.shards import Shards
from mmrepro.features.vectors import find_file

KEY_BYTES = 10
BLOCK_BYTES = 8 * 2**20
MISSING_RECORD = "no record"


def encode(encoder: AmazonImageEncoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded:
    """Read the items' vectors; one pass over a file is short, so that no shards are kept."""
    return encode_amazon_image(encoder, items, raw)


def encode_amazon_image(encoder: AmazonImageEncoder, items: pd.DataFrame, raw: Path) -> Encoded:
    """Read the vectors of the items whose key is the ASIN of a record; the first record of a key counts.

    Parameters
    ----------
    encoder
        Names the file, by name or by a pattern that matches one file, and the length of a vector.
    items
        The items of the prepared data set, in item order.
    raw
        Folder of the raw files.

    Returns
    -------
    Encoded
        The vectors as they are; an item without a record is missing. Memory beyond the matrix is a few blocks.

    Raises
    ------
    MmreproError
        When no file or several match, the file does not consist of whole records, or no item has a record.
    """
    path = find_file(raw, encoder.file)
    record = np.dtype([("key", f"S{KEY_BYTES}"), ("row", "<f4", (encoder.dim,))])
    size = path.stat().st_size
    if size % record.itemsize:
        raise MmreproError(
            f"{path}: {size} bytes are no whole number of records of {record.itemsize} bytes ({KEY_BYTES} + 4 * "
            f"{encoder.dim}); it is truncated (fetch it again) or `dim` in config/features is wrong"
        )
    matrix = np.zeros((len(items), encoder.dim), dtype=np.float32)
    found, digest = _read_rows(path, record, items[Columns.KEY], matrix)
    require_usable(int(found.sum()), len(items), f"record in {path.name}")
    reasons = {int(item): MISSING_RECORD for item in np.flatnonzero(~found)}
    return Encoded(matrix, reasons, {"weights": None, "weights_hash": digest, "preprocessing": None})


def _read_rows(path: Path, record: np.dtype, keys: pd.Series, matrix: np.ndarray) -> tuple[np.ndarray, str]:
    """Fill the matrix block by block; return which items have a record, and the file's SHA-256."""
    wanted = pd.Index([str(key).encode() for key in keys], dtype=object)
    found = np.zeros(len(keys), dtype=bool)
    digest = hashlib.sha256()
    buffer = bytearray(max(1, BLOCK_BYTES // record.itemsize) * record.itemsize)
    with path.open("rb") as handle:
        while n_bytes := handle.readinto(buffer):
            digest.update(memoryview(buffer)[:n_bytes])
            block = np.frombuffer(buffer, record, count=n_bytes // record.itemsize)
            items = wanted.get_indexer(pd.Index(block["key"].astype(object), dtype=object))
            first = np.sort(np.unique(items, return_index=True)[1])
            new = first[(items[first] >= 0) & ~found[items[first]]]
            matrix[items[new]] = block["row"][new]
            found[items[new]] = True
    return found, digest.hexdigest()
