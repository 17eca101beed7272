"""Paired significance over users, and the correction for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

TestKind = Literal["wilcoxon", "t"]


def paired_test(a: np.ndarray, b: np.ndarray, kind: TestKind = "wilcoxon") -> float:
    """Test whether the differences of paired values are centred at zero, two-sided.

    Parameters
    ----------
    a, b
        One value a user, shape (n_users,), in the same order; each is the user's mean over seeds.
    kind
        `wilcoxon`: signed-rank test (Wilcoxon 1945), users without a difference left out, exact for few users and the
        normal approximation otherwise; `t`: paired t-test (Student 1908).

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
    if kind == "wilcoxon":
        return float(stats.wilcoxon(differences, zero_method="wilcox").pvalue)
    if np.ptp(differences) == 0:
        return 0.0
    statistic = differences.mean() / (differences.std(ddof=1) / np.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(statistic), df=len(differences) - 1))


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
