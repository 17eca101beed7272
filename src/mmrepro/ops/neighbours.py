"""Exact nearest neighbours by cosine, in chunks of rows."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrepro.errors import MmreproError

BYTES_PER_SIMILARITY = 40  # float64 product, float32 copy, and for a row with ties its copy, sorted values and indices


def nearest_neighbours(features: Tensor, k: int, chunk_bytes: int = 256 * 2**20) -> tuple[Tensor, Tensor]:
    """Return the k items with the largest cosine to each item, the item itself included and always first.

    The graph of methods, section 0.5, with a rule where the reference programs have none: among equal cosines the item
    itself comes first, then the lower index; a row of zeros has the cosine 0 to every item (the reference: NaN, which
    makes it a neighbour of all). Cosines are computed in float64 and compared in float32, so that equal feature rows
    have equal cosines whatever the chunk or the number of threads.

    Parameters
    ----------
    features
        Shape (n_items, dim), finite, any floating type.
    k
        Length of each list, from 1 to n_items.
    chunk_bytes
        Bound on the memory of one chunk of similarities (at least one row is taken); beside it stands a float64 copy of
        the features.

    Returns
    -------
    tuple of Tensor
        Indices (n_items, k), int64, and cosines (n_items, k), float32 in [-1, 1], falling after the first column.

    Raises
    ------
    MmreproError
        When k is not in 1 ... n_items.
    """
    n_items = len(features)
    if not 1 <= k <= n_items:
        raise MmreproError(
            f"neighbours: {k} wanted of {n_items} items; set `neighbours` in config/features between 1 and {n_items}"
        )
    unit = _unit_rows(features)
    rows = max(1, chunk_bytes // (BYTES_PER_SIMILARITY * n_items))
    parts = [_nearest_of_chunk(unit, start, min(start + rows, n_items), k) for start in range(0, n_items, rows)]
    indices = torch.cat([indices for indices, _ in parts])
    cosines = torch.cat([cosines for _, cosines in parts])
    cosines[:, 0] = unit.any(dim=1).to(cosines.dtype)
    return indices, cosines


def _unit_rows(features: Tensor) -> Tensor:
    """Rows of length 1 in float64, rows of zeros unchanged."""
    wide = features.double()
    lengths = wide.norm(dim=1, keepdim=True)
    return wide / torch.where(lengths > 0, lengths, 1.0)


def _nearest_of_chunk(unit: Tensor, start: int, stop: int, k: int) -> tuple[Tensor, Tensor]:
    """Neighbours of items start ... stop - 1; the cosine of an item to itself is infinite here, so that it comes first."""
    similarities = (unit[start:stop] @ unit.T).float().clamp_(-1, 1)
    items = torch.arange(start, stop, device=unit.device)
    similarities[items - start, items] = torch.inf
    values, indices = similarities.topk(min(k + 1, len(unit)), dim=1)
    tied = (values[:, k - 1] == values[:, k]).nonzero().squeeze(1) if k < len(unit) else items[:0]
    indices = indices[:, :k].sort(dim=1).values
    values, order = similarities.gather(1, indices).sort(dim=1, descending=True, stable=True)
    indices = indices.gather(1, order)
    if len(tied):  # which of the equal ones come in is topk's whim: sort these rows whole
        whole = similarities[tied].sort(dim=1, descending=True, stable=True)
        values[tied], indices[tied] = whole.values[:, :k], whole.indices[:, :k]
    return indices, values
