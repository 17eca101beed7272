"""Item content of one or several modalities as one matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrepro.ops.losses import unit


def image_shares(modalities: tuple[str, ...], image_weight: float) -> dict[str, float]:
    """Return each modality's weight in a mixture of item graphs: that of `image`, the others share the rest equally.

    Parameters
    ----------
    modalities
        At least one; without an image, or with nothing beside it, all weigh alike.
    image_weight
        In [0, 1].
    """
    others = len(modalities) - 1
    if "image" not in modalities or not others:
        return {m: 1 / len(modalities) for m in modalities}
    return {m: image_weight if m == "image" else (1 - image_weight) / others for m in modalities}


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
