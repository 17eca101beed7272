"""Projection of wide features onto their principal components."""

from __future__ import annotations

import torch
from torch import Tensor


def principal_components(features: Tensor, rank: int) -> Tensor:
    """Return the features' leading principal components.

    Parameters
    ----------
    features
        Shape (n_items, dim); returned unchanged when dim <= rank.
    rank
        Number of components to keep, at least 1.

    Returns
    -------
    Tensor
        Shape (n_items, min(rank, dim)), float32, centred, by decreasing variance. The sign of a component makes its
        largest loading positive, so that results do not depend on the solver. Memory: dim x dim float64.
    """
    if features.shape[1] <= rank:
        return features
    centred = (features - features.mean(dim=0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    leading = vectors[:, -rank:].flip(1)
    signs = leading.gather(0, leading.abs().argmax(dim=0, keepdim=True)).sign()
    return (centred @ (leading * signs)).float()
