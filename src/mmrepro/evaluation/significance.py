"""Paired significance over users, and the correction for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


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
