"""Exact nearest neighbours by cosine, in chunks: fast products propose, float64 decides.

Tiles of float32 products above the diagonal give each row's best candidates. A bound on the rounding error tells which
rows may rank among the first k; their cosines are computed anew in float64, each by itself, and decide. A row with more
such candidates than were kept is gone through once more, whole and in float64. So the result depends neither on the
chunk nor on the number of threads, and no copy of the features is made.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from mmrepro.errors import MmreproError
from mmrepro.ops.dense import product_transposed

SPARE = 22  # candidates kept beyond the k nearest: duplicates and values that float32 cannot tell apart
PIECE = 512  # columns of one product: the error of a float32 sum grows with its length
PAIR_BYTES = 2**19  # float64 rows of one side of the pairs handled at once; both sides stay in the cache
BYTES_PER_CELL = 16  # of a tile: product, sum of products, the copy and the values that `topk` ranks
BYTES_PER_ENTRY = 20  # of two blocks of rows in float32, and of one in float64 while it is converted
BYTES_PER_CANDIDATE = 64  # of a whole row: float64 product and sum, position, and the pair whose cosine is computed


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
        Memory of one tile with its two blocks of rows (at least one row is taken); what the allocator keeps comes to
        several times that for wide features (benchmarks/README.md), and beside it stand 12 (k + 22) bytes an item.

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
    first, group = _distinct_rows(features)
    rows = _Rows(features, first)
    indices, cosines = _nearest_rows(rows, min(k, len(first)), chunk_bytes)
    cosines[:, 0] = (rows.lengths > 0).to(cosines.dtype)
    return (indices, cosines) if len(first) == n_items else _members(indices, cosines, group, k, chunk_bytes)


def _distinct_rows(features: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of rows unlike any before, and for each item the number of the one it equals bit for bit."""
    numbers: dict[bytes, int] = {}
    first: list[int] = []
    group: list[int] = []
    for item, row in enumerate(features.contiguous().view(torch.uint8).cpu().numpy()):
        number = numbers.setdefault(hashlib.blake2b(row, digest_size=32).digest(), len(first))
        if number == len(first):
            first.append(item)
        group.append(number)
    return torch.tensor(first, device=features.device), torch.tensor(group, device=features.device)


class _Rows:
    """Distinct feature rows, numbered; converted and normalised block by block."""

    def __init__(self, features: Tensor, positions: Tensor) -> None:
        self.features, self.positions = features, positions
        everyone = torch.arange(len(positions), device=features.device)
        self.lengths = self.dots(everyone, everyone).sqrt()
        self.divisors = torch.where(self.lengths > 0, self.lengths, 1.0)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self.features.shape[1]

    def wide(self, numbers: Tensor) -> Tensor:
        """Rows in float64."""
        return self.features.index_select(0, self.positions[numbers]).double()

    def dots(self, left: Tensor, right: Tensor) -> Tensor:
        """Products of pairs of rows in float64; a pair's does not depend on the others it is computed with."""
        # at least two pairs a part: torch would divide a single long sum among its threads
        parts = max(1, min(len(left) // 2, math.ceil(len(left) * self.dim * 8 / PAIR_BYTES)))
        pairs = zip(left.tensor_split(parts), right.tensor_split(parts), strict=True)
        return torch.cat([self.wide(a).mul_(self.wide(b)).sum(dim=1) for a, b in pairs])

    def cosines(self, left: Tensor, right: Tensor) -> Tensor:
        """Cosines of pairs of rows, float32."""
        return (self.dots(left, right) / (self.divisors[left] * self.divisors[right])).float().clamp_(-1, 1)

    def unit(self, numbers: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Rows of length 1, rows of zeros unchanged, cut into contiguous pieces of columns."""
        block = self.wide(numbers).div_(self.divisors[numbers, None])
        # copies: oneDNN is many times slower on slices of a wide block
        return [
            piece.to(dtype, copy=True, memory_format=torch.contiguous_format) for piece in block.split(PIECE, dim=1)
        ]

    def error(self, dtype: torch.dtype) -> float:
        """Bound on the distance between a cosine and the product of two unit rows of a type.

        A sum of m products errs by at most m units of rounding times the lengths of its rows (1), in whatever order; to
        that come one a piece, one for each row's conversion, and the cosine's own rounding to float32.
        """
        summands = min(self.dim, PIECE) + math.ceil(self.dim / PIECE) + 6
        return summands * torch.finfo(dtype).eps / 2 + torch.finfo(torch.float32).eps / 2


def _products(left: list[Tensor], right: list[Tensor]) -> Tensor:
    """Products of all pairs of two blocks of rows, piece by piece."""
    total = product_transposed(left[0], right[0])
    for a, b in zip(left[1:], right[1:], strict=True):
        total += product_transposed(a, b)
    return total


def _nearest_rows(rows: _Rows, k: int, chunk_bytes: int) -> tuple[Tensor, Tensor]:
    """Neighbours among distinct rows, the row itself first."""
    values, indices = _candidates(rows, min(k + SPARE, len(rows)), chunk_bytes)
    margin = 2 * rows.error(torch.float32)
    everyone = torch.arange(len(rows), device=values.device)
    unsure = (values[:, -1] >= values[:, k - 1] - margin) & (values.shape[1] < len(rows))
    found = torch.empty((len(rows), k), dtype=torch.int64, device=values.device)
    cosines = torch.empty((len(rows), k), device=values.device)
    for part in _parts(everyone[~unsure], _block_rows(rows, chunk_bytes)):
        found[part], cosines[part] = _decide(rows, part, values[part], indices[part], k, margin)
    blocks = _parts(everyone, _block_rows(rows, chunk_bytes))
    for part in _parts(everyone[unsure], chunk_bytes // (BYTES_PER_CANDIDATE * len(rows))):
        unit = rows.unit(part, torch.float64)
        whole = torch.cat([_products(unit, rows.unit(block, torch.float64)) for block in blocks], dim=1)
        whole[everyone[: len(part)], part] = torch.inf
        places = everyone.expand(len(part), -1)
        found[part], cosines[part] = _decide(rows, part, whole, places, k, 2 * rows.error(torch.float64))
    return found, cosines


def _block_rows(rows: _Rows, chunk_bytes: int) -> int:
    """The largest b with BYTES_PER_CELL b^2 + BYTES_PER_ENTRY dim b within the bound."""
    half = BYTES_PER_ENTRY * rows.dim / (2 * BYTES_PER_CELL)
    return int(math.sqrt(chunk_bytes / BYTES_PER_CELL + half**2) - half)


def _parts(numbers: Tensor, size: int) -> list[Tensor]:
    """Parts of at most `size` numbers, at least one each; none of nothing."""
    return list(numbers.split(max(1, size))) if len(numbers) else []


def _candidates(rows: _Rows, kept: int, chunk_bytes: int) -> tuple[Tensor, Tensor]:
    """The largest float32 products of each row, falling, and where they stand; a row's with itself is infinite."""
    everyone = torch.arange(len(rows), device=rows.features.device)
    values = torch.full((len(rows), kept), -torch.inf, device=everyone.device)
    indices = torch.zeros((len(rows), kept), dtype=torch.int64, device=everyone.device)
    blocks = _parts(everyone, _block_rows(rows, chunk_bytes))
    for number, above in enumerate(blocks):
        left = rows.unit(above, torch.float32)
        diagonal = _products(left, left).fill_diagonal_(torch.inf)
        _keep_largest(values, indices, above, above, diagonal)
        for beside in blocks[number + 1 :]:  # the half below the diagonal is the transpose
            tile = _products(left, rows.unit(beside, torch.float32))
            _keep_largest(values, indices, above, beside, tile)
            _keep_largest(values, indices, beside, above, tile.T)
    return values, indices


def _keep_largest(values: Tensor, indices: Tensor, above: Tensor, beside: Tensor, tile: Tensor) -> None:
    """Merge a tile, whose rows are `above` and whose columns are `beside`, into the lists of its rows."""
    part, kept = slice(int(above[0]), int(above[-1]) + 1), values.shape[1]
    values[part], places = torch.cat([values[part], tile], dim=1).topk(kept, dim=1)
    before = indices[part].gather(1, places.clamp(max=kept - 1))
    indices[part] = torch.where(places < kept, before, places - kept + beside[0])


def _decide(
    rows: _Rows, numbers: Tensor, values: Tensor, indices: Tensor, k: int, margin: float
) -> tuple[Tensor, Tensor]:
    """Rank the candidates that may be among the first k by their float32 cosines, then by index."""
    hopeful = values >= values.topk(k, dim=1).values[:, -1:] - margin
    reach = int(hopeful.sum(dim=1).max())
    values, places = torch.where(hopeful, values, -torch.inf).topk(reach, dim=1)
    indices, order = indices.gather(1, places).sort(dim=1)
    values = values.gather(1, order)
    row, column = (values > -torch.inf).nonzero(as_tuple=True)
    cosines = torch.full(values.shape, -torch.inf, device=values.device)
    cosines[row, column] = rows.cosines(numbers[row], indices[row, column])
    cosines[indices == numbers[:, None]] = torch.inf
    cosines, order = cosines.sort(dim=1, descending=True, stable=True)
    return indices.gather(1, order)[:, :k], cosines[:, :k]


def _members(indices: Tensor, cosines: Tensor, group: Tensor, k: int, chunk_bytes: int) -> tuple[Tensor, Tensor]:
    """Turn neighbours among distinct rows into neighbours among items; the first k members of each group suffice."""
    members = group.argsort(stable=True)
    sizes = group.bincount()
    starts, steps = sizes.cumsum(0) - sizes, torch.arange(k, device=group.device)
    found, values = [], []
    for items in _parts(torch.arange(len(group), device=group.device), chunk_bytes // (64 * k * k)):
        near, near_cosines = indices[group[items]], cosines[group[items]]
        places = (starts[near][..., None] + steps).clamp_(max=len(group) - 1)
        there = (steps < sizes[near][..., None]) & (members[places] != items[:, None, None])
        scores = torch.where(there, near_cosines[..., None], -torch.inf).flatten(1)
        scores = torch.cat([torch.full_like(scores[:, :1], torch.inf), scores], dim=1)
        candidates, order = torch.cat([items[:, None], members[places].flatten(1)], dim=1).sort(dim=1)
        scores, best = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
        scores[:, 0] = near_cosines[:, 0]
        found.append(candidates.gather(1, best)[:, :k])
        values.append(scores[:, :k])
    return torch.cat(found), torch.cat(values)
