"""VBPR (He and McAuley, AAAI 2016; methods, 3.3)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from mmrepro.models.base import (
    Batch,
    ContentParameters,
    ItemContent,
    Model,
    require_features,
    xavier_uniform,
)
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr, embedding_norm


class VBPRParameters(ContentParameters):
    """Parameters of VBPR."""

    reg_weight: float = Field(0.1, ge=0, description="weight of the un-squared norms of the batch's full vectors")


class VBPR(Model):
    """An item is its ID vector beside its projected features, all modalities concatenated.

    As in the program, there are no bias terms, the projection has one, and the regulariser covers the projected
    features too. Modalities are concatenated in reverse order, so that text comes before image as in the reference.
    """

    Parameters = VBPRParameters
    uses_features = True
    reference_names = {
        "u_embedding": "user_embedding",
        "i_embedding": "item_embedding",
        "item_linear.weight": "projection.weight",
        "item_linear.bias": "projection.bias",
    }
    features: Tensor

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: VBPRParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        size = parameters.embedding_size
        features = torch.cat(list(reversed(require_features(content, "vbpr").values())), dim=1)
        self.register_buffer("features", features, persistent=False)
        self.user_embedding = xavier_uniform(interactions.n_users, 2 * size)
        self.item_embedding = xavier_uniform(interactions.n_items, size)
        self.projection = nn.Linear(features.shape[1], size)
        nn.init.xavier_normal_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss and the regulariser."""
        user_vectors, item_vectors = self.embed()
        users = user_vectors.index_select(0, batch.users)
        positives = item_vectors.index_select(0, batch.positives)
        negatives = item_vectors.index_select(0, batch.negatives)
        return {
            "bpr": bpr((users * (positives - negatives)).sum(dim=1)),
            "regulariser": self.parameters_.reg_weight * embedding_norm(users, positives, negatives),
        }

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return user vectors and items' [ID, projected features], each 2 * embedding_size wide."""
        return self.user_embedding, torch.cat([self.item_embedding, self.projection(self.features)], dim=1)
