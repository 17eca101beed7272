"""Top-k lists of a model, with deterministic ties.

Equal scores are ordered by a draw that is the same for every model, user and run, and no item's number: a published
numbering may follow popularity, and a model that tells no item from another must not do better than chance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmrepro.errors import MmreproError
from mmrepro.evaluation.lists import NO_ITEM, RankedLists, tie_order
from mmrepro.models.base import Model

SCORE_BYTES = 256 * 2**20  # bound of the score block of one user chunk; top-k needs about as much again
Scorer = Callable[[Tensor], Tensor]


def make_scorer(model: Model, draw: bool = False) -> Scorer:
    """Return a function from user indices (n,) to scores (n, n_items), embeddings computed once."""
    if not model.has_embeddings:
        return model.score
    users, items = (x.float() for x in (model.embed_drawn() if draw else model.embed()))
    return lambda indices: model.scores(users.index_select(0, indices) @ items.T)


@torch.no_grad()
def rank(
    scorer: Scorer, users: np.ndarray, n_items: int, masked: tuple[np.ndarray, np.ndarray], k: int, device: str = "cpu"
) -> RankedLists:
    """Rank all items for each user, in user chunks of at most `SCORE_BYTES` of scores; ties as `tie_order` says.

    Parameters
    ----------
    scorer
        From user indices to scores.
    users
        Users to rank for, shape (n,), increasing.
    n_items
        Number of candidates.
    masked
        Users and items, each (m,), that are never listed, sorted by user.
    k
        Length of the lists.

    Raises
    ------
    MmreproError
        For scores of another shape, and for a score that is NaN.
    """
    k = min(k, n_items)
    mask_users, mask_items = masked
    starts, stops = np.searchsorted(mask_users, users, "left"), np.searchsorted(mask_users, users, "right")
    items = np.full((len(users), k), NO_ITEM, dtype=np.int64)
    scores = np.full((len(users), k), -np.inf, dtype=np.float32)
    chunk = max(1, SCORE_BYTES // (4 * n_items))
    order = tie_order(n_items)
    for begin in range(0, len(users), chunk):
        part = slice(begin, min(begin + chunk, len(users)))
        block = scorer(torch.from_numpy(users[part]).to(device))
        if block.shape != (part.stop - begin, n_items):
            raise MmreproError(
                f"scores of {part.stop - begin} users and {n_items} items have the shape {tuple(block.shape)}; "
                "`embed` and `score` return a row for each user and one for each item, in the order of their indices"
            )
        block = block.clone() if block.stride(0) == 0 else block
        lengths = stops[part] - starts[part]
        rows = np.repeat(np.arange(len(lengths)), lengths)
        columns = np.concatenate(
            [mask_items[a:b] for a, b in zip(starts[part], stops[part], strict=True)] or [mask_items[:0]]
        )
        block[torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)] = -torch.inf
        values, indices = top_k(block, k, order)
        if bool(values[:, 0].isnan().any()):
            raise MmreproError("scores are NaN; lower the learning rate or check the features")
        listed = values.cpu().numpy()
        scores[part] = listed
        items[part] = np.where(np.isneginf(listed), NO_ITEM, indices.cpu().numpy())
    return RankedLists(users, items, scores)


def top_k(scores: Tensor, k: int, order: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the k largest entries of each row, by decreasing value, equal values in a given order of columns.

    Parameters
    ----------
    scores
        Shape (n, m), k <= m. NaN counts as larger than any number.
    order
        All columns, shape (m,): of equal values, the column that comes first in it does.

    Returns
    -------
    tuple of Tensor
        Values and int64 columns, each (n, k).
    """
    m = scores.shape[1]
    columns_by_place = torch.from_numpy(order).to(scores.device)
    places = torch.empty_like(columns_by_place)
    places[columns_by_place] = torch.arange(m, device=scores.device)
    values, columns = torch.topk(scores, min(k + 1, m), dim=1)
    # at equal values torch picks any columns: sort the picked ones, and redo rows where the cut runs through a tie
    by_place = torch.sort(places[columns], dim=1)
    final = torch.sort(values.gather(1, by_place.indices), dim=1, descending=True, stable=True)
    columns = columns_by_place[by_place.values.gather(1, final.indices)[:, :k]]
    values = final.values[:, :k]
    if k < m:
        tied = (final.values[:, k] == final.values[:, k - 1]).nonzero()[:, 0]
        for part in tied.split(1024):
            exact = torch.sort(scores[part][:, columns_by_place], dim=1, descending=True, stable=True)
            values[part], columns[part] = exact.values[:, :k], columns_by_place[exact.indices[:, :k]]
    return values, columns
