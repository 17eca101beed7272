"""Who has had which item, and how many users had both of two items: what item-item models start from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

BYTES_PER_CELL = 64  # of a block: a count with its position, its similarity, and the order of a row


def cooccurrence_blocks(history: Any, chunk_bytes: int = 256 * 2**20) -> Iterator[tuple[slice, Any]]:
    """Yield, block by block of items, how many users had both items of a pair.

    Parameters
    ----------
    history
        Binary matrix (n_users, n_items).
    chunk_bytes
        Memory of one block with what is computed from it (64 bytes a pair; at least one item is taken).

    Yields
    ------
    tuple
        The block's items and its rows of history^T history, a sparse matrix (items, n_items) with sorted indices; the
        diagonal holds the users of each item.
    """
    n_items = history.shape[1]
    by_item, rows = history.T.tocsr(), max(1, chunk_bytes // (BYTES_PER_CELL * n_items))
    for start in range(0, n_items, rows):
        part = slice(start, min(start + rows, n_items))
        block = by_item[part] @ history
        block.sort_indices()
        yield part, block
