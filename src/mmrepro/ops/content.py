"""Item content of one or several modalities as one matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrepro.ops.losses import unit


def unified_matrix(features: dict[str, Tensor]) -> Tensor:
    """Return the item features as one matrix, for methods and measurements that know no modalities.

    Parameters
    ----------
    features
        Modality to its matrix, shape (n_items, dim), at least one.

    Returns
    -------
    Tensor
        The matrix of a single modality as it is. Of several, each modality's rows are divided by their lengths, so that
        each counts alike whatever its scale and width, and set side by side: shape (n_items, sum of dims). An inner
        product is then the sum of the modalities' cosines; a row of zeros stays one and adds nothing.
    """
    matrices = list(features.values())
    return matrices[0] if len(matrices) == 1 else torch.cat([unit(x) for x in matrices], dim=1)
