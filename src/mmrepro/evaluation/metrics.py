"""The registry of ranking metrics: a function each, and one line of `METRICS` that says what its values are.

All other places learn of metrics from here; definitions: methods, 1.4 and 9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from mmrepro.evaluation.lists import NO_ITEM, RankedLists
from mmrepro.ops.interactions import Interactions

Compute = Callable[[Any, int], np.ndarray | float]
"""A metric of an `Outcome`, or of `Measured` lists where it needs their items, cut at k: a value a user, shape (n,), or
one of all lists."""
UNORDERED = ("recall", "precision", "hit_rate")
"""Metrics of accuracy that are the same for every order of the items of a list."""
LONG_TAIL = 0.8
"""Share of the items, the least popular first, that are the long tail."""


class Outcome(Protocol):
    """What most metrics are computed from: where hits stand, and how often each item is listed."""

    @property
    def hits(self) -> np.ndarray:
        """Whether each place of each user's list holds a relevant item, shape (n, places), bool."""

    @property
    def n_relevant(self) -> np.ndarray:
        """Number of relevant items of each user, shape (n,)."""

    @property
    def popularity(self) -> np.ndarray:
        """Training interactions of each item, shape (n_items,)."""

    @property
    def n_users(self) -> int:
        """Users of the data set."""

    def exposure(self, k: int) -> np.ndarray:
        """Return how often each item stands among the first k, shape (n_items,)."""


@dataclass(frozen=True)
class Content:
    """Features by which the items of a list are compared.

    Attributes
    ----------
    rows
        Vectors whose inner product is the cosine of two items, shape (n_items, dim).
    present
        Items with features of their own, shape (n_items,), bool.
    """

    rows: np.ndarray
    present: np.ndarray


@dataclass(frozen=True)
class Measured:
    """Lists and what they are measured by: an `Outcome` that has the items, too.

    Attributes
    ----------
    lists
        Of the n users with a relevant item, in the order of users.
    relevant
        What they should have found.
    training
        What popularity is counted from.
    content
        Features of the items, where there are any.
    """

    lists: RankedLists
    relevant: Interactions
    training: Interactions
    content: Content | None = None

    def items(self, k: int) -> np.ndarray:
        """The first k items of each list, shape (n, at most k); `NO_ITEM` where candidates ran out."""
        return self.lists.items[:, :k]

    @cached_property
    def hits(self) -> np.ndarray:
        """Whether each listed item is relevant, shape of the lists, bool."""
        return self.relevant.contain(self.lists.users[:, None], self.lists.items)

    @cached_property
    def n_relevant(self) -> np.ndarray:
        """Number of relevant items of each user, shape (n,)."""
        return self.relevant.history_lengths[self.lists.users]

    @property
    def popularity(self) -> np.ndarray:
        """Training interactions of each item, shape (n_items,)."""
        return self.training.popularity

    @property
    def history_lengths(self) -> np.ndarray:
        """Number of different training items of each user, shape (n,)."""
        return self.training.history_lengths[self.lists.users]

    @property
    def n_users(self) -> int:
        """Users of the data set."""
        return self.training.n_users

    def exposure(self, k: int) -> np.ndarray:
        """Return how often each item stands among the first k, shape (n_items,)."""
        listed = self.items(k)
        return np.bincount(listed[listed != NO_ITEM], minlength=self.training.n_items)


def recall(outcome: Outcome, k: int) -> np.ndarray:
    """Return the share of a user's relevant items among the first k, in [0, 1]."""
    found: np.ndarray = outcome.hits[:, :k].sum(axis=1)
    return found / outcome.n_relevant


def ndcg(outcome: Outcome, k: int) -> np.ndarray:
    """Return the discounted gain of the first k against the best order (Järvelin and Kekäläinen 2002), in [0, 1]."""
    discounts = 1 / np.log2(np.arange(1, k + 1) + 1)
    hits = outcome.hits[:, :k]
    gained = _last((hits * discounts[: hits.shape[1]]).cumsum(axis=1))
    return gained / discounts.cumsum()[np.minimum(k, outcome.n_relevant) - 1]


def precision(outcome: Outcome, k: int) -> np.ndarray:
    """Return the share of relevant items among k places, in [0, 1]; places that candidates do not fill are misses."""
    found: np.ndarray = outcome.hits[:, :k].sum(axis=1)
    return found / k


def map(outcome: Outcome, k: int) -> np.ndarray:
    """Return the mean precision at the ranks of relevant items, over min(k, relevant items), in [0, 1]."""
    hits = outcome.hits[:, :k]
    at_hits = hits * hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return _last(at_hits.cumsum(axis=1)) / np.minimum(k, outcome.n_relevant)


def hit_rate(outcome: Outcome, k: int) -> np.ndarray:
    """Return whether there is a relevant item among the first k: 0 or 1."""
    return np.asarray(outcome.hits[:, :k].any(axis=1), dtype=np.float64)


def mrr(outcome: Outcome, k: int) -> np.ndarray:
    """Return 1 / rank of the first relevant item among the first k, 0 without one (Voorhees 1999), in [0, 1]."""
    hits = outcome.hits[:, :k]
    return np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0) if hits.size else np.zeros(len(hits))


def aplt(measured: Measured, k: int) -> np.ndarray:
    """Return the share of a list's first k items that are of the long tail (Abdollahpouri et al. 2019), in [0, 1].

    The long tail are the 80 % of the items with the fewest training interactions, equal ones by index. NaN for an empty
    list.
    """
    popularity = measured.training.popularity
    tail = np.zeros(len(popularity) + 1, dtype=bool)  # the last stands for NO_ITEM
    tail[np.argsort(popularity, kind="stable")[: int(LONG_TAIL * len(popularity))]] = True
    listed = measured.items(k)
    return _ratio(tail[listed].sum(axis=1), (listed != NO_ITEM).sum(axis=1))


def intra_list_distance(measured: Measured, k: int) -> np.ndarray:
    """Return the mean of 1 - cosine over the pairs of a list's first k items (Smyth and McClave 2001), in [0, 2].

    Items without features of their own are left out; NaN for a list with fewer than two others, and without features.
    """
    listed = measured.items(k)
    if measured.content is None:
        return np.full(len(listed), np.nan)
    counted = np.append(measured.content.present, False)[listed]
    n = counted.sum(axis=1)
    total = np.zeros((len(listed), measured.content.rows.shape[1]))
    squares = np.zeros(len(listed))
    for place in range(
        listed.shape[1]
    ):  # the sum of all pairs' products is that of the rows, squared, less each row's own
        rows = np.where(counted[:, place, None], measured.content.rows[listed[:, place]], 0.0)
        total += rows
        squares += (rows * rows).sum(axis=1)
    products = ((total * total).sum(axis=1) - squares) / 2
    return 1 - _ratio(products, n * (n - 1) / 2)


def coverage(outcome: Outcome, k: int) -> float:
    """Return the share of all items that stand among the first k of some list, in [0, 1]."""
    return float((outcome.exposure(k) > 0).mean())


def novelty(outcome: Outcome, k: int) -> float:
    """Return the mean over listed items of -log2((popularity + 1) / (n_users + 1)) in bits; an unseen item stays
    finite.
    """
    information = -np.log2((outcome.popularity + 1) / (outcome.n_users + 1))
    counts = outcome.exposure(k)
    total = int(counts.sum())
    return float((information * counts).sum() / total) if total else 0.0


def gini(outcome: Outcome, k: int) -> float:
    """Return the Gini index of how often items are listed, in [0, 1 - 1 / n_items]; 0: all items equally often."""
    counts = np.sort(outcome.exposure(k))
    n, total = len(counts), int(counts.sum())
    return float(((2 * np.arange(1, n + 1) - n - 1) * counts).sum() / (n * total)) if total else 0.0


def _last(sums: np.ndarray) -> np.ndarray:
    """The last column of running sums; zeros where there is none."""
    return sums[:, -1] if sums.shape[1] else np.zeros(len(sums))


def _ratio(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Quotients, NaN where there is nothing to divide by."""
    return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)


@dataclass(frozen=True)
class Metric:
    """One metric of the registry.

    Attributes
    ----------
    compute
        From what was measured and a cutoff to values: of each user, shape (n,), or one number.
    label, short
        What it is called in text and in the heading of a column.
    unit
        Of its values.
    largest
        The largest possible value; the smallest is 0. None: there is no bound.
    better
        Which values are better; None: neither.
    per_user
        Whether each user has a value; otherwise it is one of all lists.
    accuracy
        Whether it says how well relevant items are found: models are ranked by such metrics.
    headline
        Whether it stands in readable tables.
    of_items
        Whether it needs the lists' items; others are computed from any `Outcome`.
    """

    compute: Compute
    label: str
    short: str
    unit: str = "share"
    largest: float | None = 1.0
    better: Literal["larger", "smaller"] | None = "larger"
    per_user: bool = True
    accuracy: bool = False
    headline: bool = False
    of_items: bool = False

    @property
    def name(self) -> str:
        """The name in configuration, tables and records: that of the function."""
        return self.compute.__name__

    def values(self, outcome: Outcome, k: int) -> np.ndarray:
        """Return the values of all users, or the one value, as float64."""
        return np.atleast_1d(np.asarray(self.compute(outcome, k), dtype=np.float64))


METRICS = (
    Metric(recall, "recall", "R", accuracy=True, headline=True),
    Metric(ndcg, "NDCG", "N", accuracy=True, headline=True),
    Metric(precision, "precision", "P", accuracy=True),
    Metric(map, "MAP", "MAP", accuracy=True),
    Metric(hit_rate, "hit rate", "HR", accuracy=True),
    Metric(mrr, "MRR", "MRR", accuracy=True),
    Metric(aplt, "APLT, share of the long tail", "APLT", of_items=True),
    Metric(
        intra_list_distance, "intra-list distance by content", "ILD", unit="cosine distance", largest=2.0, of_items=True
    ),
    Metric(coverage, "coverage", "Cov", per_user=False),
    Metric(novelty, "novelty", "Nov", unit="bits", largest=None, per_user=False),
    Metric(gini, "Gini index of exposure", "Gini", better="smaller", per_user=False),
)
"""In the order of tables."""


def means(values: np.ndarray) -> float:
    """Return the mean of those values that there are; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def metric_named(name: str) -> Compute:
    """Return the function of a metric, found by its name: a job whose configuration names it says so in its parts."""
    found: Compute = globals()[name]
    return found


def ordered_metric(name: str) -> Compute:
    """Return a metric's own function where it looks at the order of a list's items, else that of NDCG."""
    return ndcg if name in UNORDERED else metric_named(name)


def mean_over_users(compute: Compute, measured: Outcome, k: int) -> float:
    """Return the mean of one metric; NaN without users."""
    return means(np.asarray(compute(measured, k), dtype=np.float64))
