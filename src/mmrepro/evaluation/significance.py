"""Paired significance over users, and the correction for many comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

BOOTSTRAP_SEED, DRAWS = 0, 1000
LEVEL = 0.05


class Comparison(NamedTuple):
    """Two columns of paired values, one value a user, compared.

    Attributes
    ----------
    mean, other_mean, difference
        Of the one, of the other, and the one less the other.
    lower, upper
        The 95 % interval of the difference, by the paired bootstrap over users.
    effect
        `rank_biserial`.
    p
        `paired_test`, not corrected for other comparisons.
    n_users
        How many users both have a value for.
    """

    mean: float
    other_mean: float
    difference: float
    lower: float
    upper: float
    effect: float
    p: float
    n_users: int


def compare_columns(values: np.ndarray) -> Iterator[tuple[int, int, Comparison]]:
    """Compare every two columns, over the same draws of users.

    Parameters
    ----------
    values
        A row a user, shape (n_users, n_columns).

    Yields
    ------
    tuple of int, int and Comparison
        Two columns, the earlier first, and how they compare.
    """
    draws = bootstrap_means(values, DRAWS)
    means = values.mean(axis=0)
    for one, other in itertools.combinations(range(values.shape[1]), 2):
        lower, upper = interval(draws[:, one] - draws[:, other], 1 - LEVEL)
        a, b = values[:, one], values[:, other]
        ends = float(means[one]), float(means[other])
        tests = rank_biserial(a, b), paired_test(a, b)
        yield one, other, Comparison(*ends, ends[0] - ends[1], lower, upper, *tests, len(values))


def paired_test(a: np.ndarray, b: np.ndarray) -> float:
    """Test whether the differences of paired values are centred at zero, two-sided (Wilcoxon 1945, signed ranks).

    Users without a difference are left out; exact for few users, the normal approximation otherwise.

    Parameters
    ----------
    a, b
        One value a user, shape (n_users,), in the same order; each is the user's mean over seeds.

    Returns
    -------
    float
        The p-value; 1 where no user differs or a single user leaves nothing to compare.

    Raises
    ------
    ValueError
        For shapes that differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"paired values have shapes {a.shape} and {b.shape}")
    # means over seeds carry rounding noise, which must neither count as a difference nor break ties
    differences = np.round(a.astype(np.float64) - b.astype(np.float64), 12)
    if not differences.any() or len(differences) < 2:
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="wilcox").pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Correct p-values for the family they form, step down (Holm 1979).

    Parameters
    ----------
    p_values
        The m p-values of a family.

    Returns
    -------
    np.ndarray
        Shape (m,), in the same order: the running maximum of (m - i) p_(i) over the sorted values, at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected


def rank_biserial(a: np.ndarray, b: np.ndarray) -> float:
    """Return the matched-pairs rank-biserial correlation of paired values (Kerby 2014), in [-1, 1].

    The ranks of the positive differences less those of the negative ones, over all ranks: 1 where `a` is larger
    wherever the two differ, 0 where the ranks balance or nothing differs. Parameters are those of `paired_test`.
    """
    differences = np.round(a.astype(np.float64) - b.astype(np.float64), 12)
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = stats.rankdata(np.abs(differences))
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


def bootstrap_means(values: np.ndarray, n_draws: int) -> np.ndarray:
    """Return means over users that are drawn with replacement, the same users for every column (Efron 1979).

    Parameters
    ----------
    values
        A row a user, shape (n_users, n_columns).
    n_draws
        How often as many users as there are are drawn.

    Returns
    -------
    np.ndarray
        Shape (n_draws, n_columns). Always the same for the same values: the generator is seeded by their number.
    """
    n = len(values)
    generator = np.random.default_rng([BOOTSTRAP_SEED, n])
    means = np.empty((n_draws, values.shape[1]))
    for draw in range(n_draws):  # one count a user at a time, which is all that is held
        counts = np.bincount(generator.integers(0, n, n), minlength=n)
        means[draw] = counts @ values / n
    return means


def interval(draws: np.ndarray, share: float) -> tuple[float, float]:
    """Return the bounds between which the middle `share` of the draws lies."""
    lower, upper = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2])
    return float(lower), float(upper)
