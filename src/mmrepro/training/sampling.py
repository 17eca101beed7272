"""Batch order and negative items, vectorised and a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from mmrepro.errors import MmreproError
from mmrepro.models.base import Batch
from mmrepro.ops.interactions import Interactions


class NegativeSampler:
    """Draws, for each user of a list, an item of the pool that is none of the user's training items.

    No draw is ever rejected: a user with m training items has |pool| - m others, the r-th of which is found by a
    binary search in the sorted training items, each lowered by its rank. Memory: one int64 a training pair.

    Parameters
    ----------
    interactions
        The training pairs.
    train_items_only
        Pool of the items with a training interaction (the `released` protocol) instead of all items.

    Attributes
    ----------
    usable
        Which training pairs are of users with a negative, shape (n_pairs,), bool; who has the whole pool has none.

    Raises
    ------
    MmreproError
        If no user has one.
    """

    def __init__(self, interactions: Interactions, train_items_only: bool = False) -> None:
        n_users, n_items = interactions.n_users, interactions.n_items
        self.pool = np.unique(interactions.items) if train_items_only else np.arange(n_items)
        self.stride = np.int64(len(self.pool) + 1)
        users, items = interactions.distinct
        positions = np.searchsorted(self.pool, items)
        counts = np.bincount(users, minlength=n_users)
        self.first = np.concatenate([[0], np.cumsum(counts)])
        self.free = len(self.pool) - counts
        self.usable = self.free[interactions.users] > 0
        if not self.usable.any():
            raise MmreproError(
                "every user has all items in training, so no negative exists; use a model that draws none, such as "
                "itemknn or ease"
            )
        rank = np.arange(len(users)) - self.first[users]
        self.keys = users * self.stride + positions - rank

    def draw(self, users: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return one negative item a user, shape of `users`, uniform over the user's non-training items of the pool."""
        choice = generator.integers(0, self.free[users])
        before = np.searchsorted(self.keys, users * self.stride + choice, side="right") - self.first[users]
        return self.pool[choice + before]


def epoch_batches(
    interactions: Interactions, sampler: NegativeSampler | None, batch_size: int, seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield the batches of an epoch: all training pairs that the sampler can use in random order, the last one shorter.

    Parameters
    ----------
    sampler
        Source of negatives; None repeats the positives (for models that sample none).
    seed, epoch
        Order and negatives are a function of these two alone, so that a resumed run sees the same batches.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(interactions.users))
    order = order if sampler is None else order[sampler.usable[order]]
    users, positives = interactions.users[order], interactions.items[order]
    negatives = positives if sampler is None else sampler.draw(users, generator)
    columns = [torch.from_numpy(np.ascontiguousarray(c, dtype=np.int64)) for c in (users, positives, negatives)]
    for parts in zip(*(c.split(batch_size) for c in columns), strict=True):
        yield Batch(*parts)
