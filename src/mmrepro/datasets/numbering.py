"""Numbers of users and items that follow from who interacted with what, and from no name.

A number decides what is drawn for a user or an item. It must say nothing of popularity, which the order of appearance
does, and nothing of names: with other keys, or rows in another order, the same data have the same numbers, and every
figure is the same.

The numbers are the order of colours by colour refinement (Weisfeiler and Leman 1968): a user's colour is a hash of the
colours of the user's items, an item's one of the colours of its users, over and again until no more are told apart.
Then one of those that are still alike is given a colour of its own, the first by key, and so on. Where the data look
the same from each of them, as from two users with one and the same history, it does not matter which; only where they
do not, in designs in which everybody has as many items and every item as many users, can a name decide.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mmrepro.columns import Columns

ROUNDS = 200
"""Of refinement at most; chains of users with two items each take the most."""
CHOICES, PAIRS_LOOKED_AT = 100, 10_000_000
"""How often one of those that are alike is chosen at most, and the pairs that this may look at in all, to keep it to
seconds; those that are left are ordered by key.
"""
LABELS = (Columns.TIMESTAMP, Columns.RATING)


def numbered(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the users and the items of interactions in the order of their numbers.

    Parameters
    ----------
    rows
        Columns `user` and `item`: codes that compare as the keys do; perhaps `timestamp` and `rating`. One row a
        distinct pair.

    Returns
    -------
    tuple
        Codes of the users, and of the items, each once.
    """
    users, user_codes = pd.factorize(rows[Columns.USER], sort=True)
    items, item_codes = pd.factorize(rows[Columns.ITEM], sort=True)
    labels = np.zeros(len(rows), dtype=np.uint64)
    for label in (name for name in LABELS if name in rows):
        labels = _mixed(labels ^ _mixed(rows[label].to_numpy(np.float64).view(np.uint64)))
    colours = _Colours(users, items, labels, len(user_codes), len(item_codes))
    colours.refine()
    for _ in range(min(CHOICES, PAIRS_LOOKED_AT // max(1, len(rows)))):
        if not (colours.part_twins() or colours.choose()):
            break
        colours.refine()
    of_users, of_items = (np.argsort(found, kind="stable") for found in (colours.users, colours.items))
    return np.asarray(user_codes)[of_users], np.asarray(item_codes)[of_items]


class _Colours:
    """Colours of users and items: equal where nothing tells them apart."""

    def __init__(self, owners: np.ndarray, owned: np.ndarray, labels: np.ndarray, n_users: int, n_items: int) -> None:
        self.pairs = owners, owned
        self.labels = labels
        self.users, self.items = np.zeros(n_users, dtype=np.uint64), np.ones(n_items, dtype=np.uint64)

    def refine(self) -> None:
        """Give each a colour of its neighbours' colours, until no more are told apart."""
        owners, owned = self.pairs
        known = -1
        for _ in range(ROUNDS):
            self.users = _gathered(self.users, owners, self.items[owned] ^ self.labels)
            self.items = _gathered(self.items, owned, self.users[owners] ^ self.labels)
            found = len(np.unique(self.users)) + len(np.unique(self.items))
            if found == known:
                break
            known = found

    def part_twins(self) -> bool:
        """Part those that share all neighbours, in the order of keys; return whether there are any."""
        owners, owned = self.pairs
        parted = False
        for mine, theirs, name in ((owners, owned, "users"), (owned, owners, "items")):
            colours: np.ndarray = getattr(self, name)
            identity = _gathered(np.zeros_like(colours), mine, theirs.astype(np.uint64) ^ self.labels)
            frame = pd.DataFrame({"colour": colours, "identity": identity})
            place = frame.groupby(["colour", "identity"]).cumcount().to_numpy(np.uint64)
            if place.any():
                setattr(self, name, np.where(place > 0, _mixed(colours ^ _mixed(place)), colours))
                parted = True
        return parted

    def choose(self) -> bool:
        """Give the first of the smallest colour that several have one of its own; return whether there was one."""
        for name in ("users", "items"):
            colours: np.ndarray = getattr(self, name)
            _, first, counts = np.unique(colours, return_index=True, return_counts=True)
            shared = np.flatnonzero(counts > 1)
            if len(shared):
                chosen = first[shared[np.argmin(counts[shared])]]
                colours[chosen] = _mixed(colours[[chosen]])[0]
                return True
        return False


def _gathered(colours: np.ndarray, owners: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """New colours: of the old one and of all neighbours', in whatever order."""
    sums = np.zeros(len(colours), dtype=np.uint64)
    np.add.at(sums, owners, _mixed(neighbours))
    return _mixed(_mixed(colours) + sums)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Scatter 64-bit values (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
