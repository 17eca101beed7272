"""Ranking metrics, first of each user, then their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmrepro.evaluation.ranking import NO_ITEM, RankedLists

PER_USER = ("recall", "ndcg", "precision", "map", "hit_rate")
OVERALL = ("coverage", "novelty")


def hits(lists: RankedLists, users: np.ndarray, items: np.ndarray, n_items: int) -> np.ndarray:
    """Return whether each listed item is relevant.

    Parameters
    ----------
    lists
        Ranked lists of n users.
    users, items
        Relevant pairs, shape (m,).
    n_items
        Number of items.

    Returns
    -------
    ndarray
        Shape (n, k), bool.
    """
    relevant = users.astype(np.int64) * n_items + items
    listed = lists.users[:, None] * n_items + lists.items
    return np.isin(listed, relevant) & (lists.items != NO_ITEM)


def per_user_metrics(hit: np.ndarray, n_relevant: np.ndarray, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Return metrics of each user (definitions: methods, 1.4).

    Parameters
    ----------
    hit
        Whether the item at each rank is relevant, shape (n, k).
    n_relevant
        Number of relevant items of each user, shape (n,), at least 1.
    cutoffs
        Ranks at which lists are cut; beyond k, missing ranks count as misses.

    Returns
    -------
    dict
        `<metric>_at_<cutoff>` to float64 values in [0, 1], shape (n,), for recall, ndcg, precision, map and hit_rate.
    """
    longest = max(cutoffs)
    gains = np.zeros((len(hit), longest))
    width = min(longest, hit.shape[1])
    gains[:, :width] = hit[:, :width]
    ranks = np.arange(1, longest + 1)
    discounts = 1 / np.log2(ranks + 1)
    found = gains.cumsum(axis=1)
    discounted = (gains * discounts).cumsum(axis=1)
    ideal = discounts.cumsum()
    precision_at_hits = (gains * found / ranks).cumsum(axis=1)
    result: dict[str, np.ndarray] = {}
    for k in cutoffs:
        reachable = np.minimum(k, n_relevant)
        result[f"recall_at_{k}"] = found[:, k - 1] / n_relevant
        result[f"ndcg_at_{k}"] = discounted[:, k - 1] / ideal[reachable - 1]
        result[f"precision_at_{k}"] = found[:, k - 1] / k
        result[f"map_at_{k}"] = precision_at_hits[:, k - 1] / reachable
        result[f"hit_rate_at_{k}"] = (found[:, k - 1] > 0).astype(np.float64)
    return result


def overall_metrics(
    lists: RankedLists, popularity: np.ndarray, n_users: int, cutoffs: Sequence[int]
) -> dict[str, float]:
    """Return metrics of all lists together.

    Parameters
    ----------
    popularity
        Training interactions of each item, shape (n_items,).
    n_users
        Number of users.

    Returns
    -------
    dict
        `coverage_at_<k>`: share of all items that stand in some list, in [0, 1]; `novelty_at_<k>`: mean over listed
        items of -log2((popularity + 1) / (n_users + 1)) in bits, so that an item nobody has seen stays finite.
    """
    information = -np.log2((popularity + 1) / (n_users + 1))
    result = {}
    for k in cutoffs:
        listed = lists.items[:, :k]
        listed = listed[listed != NO_ITEM]
        result[f"coverage_at_{k}"] = len(np.unique(listed)) / len(popularity)
        result[f"novelty_at_{k}"] = float(information[listed].mean()) if len(listed) else 0.0
    return result
