"""Popularity: every user is shown the items with the most training interactions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmrepro.models.base import Model, ModelParameters
from mmrepro.ops.interactions import Interactions


class Popularity(Model):
    """The floor that a personalised model must clear."""

    closed_form = True
    counts: Tensor

    def __init__(self, interactions: Interactions, parameters: ModelParameters) -> None:
        super().__init__()
        self._items = interactions.items
        self.register_buffer("counts", torch.zeros(interactions.n_items))

    def fit(self) -> None:
        """Count training interactions."""
        self.counts.copy_(torch.from_numpy(np.bincount(self._items, minlength=len(self.counts))))

    def score(self, users: Tensor) -> Tensor:
        """Return the counts, the same for every user."""
        return self.counts.repeat(len(users), 1)

    def score_history(self, items: Tensor) -> Tensor:
        """Return the counts, whatever the items are."""
        return self.counts
