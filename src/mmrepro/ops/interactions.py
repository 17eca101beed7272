"""Pairs of users and items, and the forms in which they are used, each built once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp


@dataclass(frozen=True)
class Interactions:
    """Interactions of one split, or of several.

    Attributes
    ----------
    users, items
        Shape (n_pairs,), int64, in the order of the file; a pair may stand there more than once.
    n_users, n_items
        Numbers of users and items; indices run from 0 and some may have no interaction.
    """

    users: np.ndarray
    items: np.ndarray
    n_users: int
    n_items: int

    def codes(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return one number a pair: user * n_items + item, int64, broadcast."""
        return users.astype(np.int64) * self.n_items + items

    @cached_property
    def distinct_codes(self) -> np.ndarray:
        """The numbers of all pairs, each once, rising: by user, then by item."""
        return np.unique(self.codes(self.users, self.items))

    @cached_property
    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """Users and items of the pairs, each pair once, by user and then item."""
        return self.distinct_codes // self.n_items, self.distinct_codes % self.n_items

    @cached_property
    def distinct_users(self) -> np.ndarray:
        """The users that have an interaction, rising."""
        return np.unique(self.users)

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """The binary matrix, shape (n_users, n_items), float32, indices sorted."""
        import scipy.sparse as sp

        ones = np.ones(len(self.distinct_codes), dtype=np.float32)
        return sp.csr_matrix((ones, self.distinct), shape=(self.n_users, self.n_items))

    @cached_property
    def popularity(self) -> np.ndarray:
        """Interactions of each item, repeated pairs included, shape (n_items,), int64."""
        return np.bincount(self.items, minlength=self.n_items)

    @cached_property
    def history_lengths(self) -> np.ndarray:
        """Number of different items of each user, shape (n_users,), int64."""
        return np.bincount(self.distinct[0], minlength=self.n_users)

    @cached_property
    def by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """Users and items in the order of users, as `ranking.rank` masks them."""
        order = np.argsort(self.users, kind="stable")
        return self.users[order], self.items[order]

    def contain(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return whether pairs are among them; both arrays are broadcast, negative items never are."""
        return np.isin(self.codes(users, items), self.distinct_codes) & (items >= 0)
