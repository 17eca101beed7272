"""DirectAU: Towards Representation Alignment and Uniformity in Collaborative Filtering (Wang et al., KDD 2022)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from mmrepro.models.base import Batch, Model, TrainedParameters, xavier_uniform
from mmrepro.ops.graphs import layer_mean, user_item_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import alignment, uniformity, unit


class DirectAUParameters(TrainedParameters):
    """Parameters of DirectAU."""

    n_layers: int = Field(0, ge=0, description="graph convolutions: 0 for matrix factorisation, else LightGCN")
    gamma: float = Field(1.0, ge=0, description="weight of the mean of the uniformities of users and items")
    weight_decay: float = Field(1e-6, ge=0, description="L2 inside Adam")


class DirectAU(Model):
    """Pulls users to their items on the unit sphere, and spreads a batch's users and its items over it; no negatives.

    The loss sees unit vectors; the score is the inner product of the raw ones, as the paper defines it. Users and items
    that occur more than once in a batch are as many rows of the uniformities.
    """

    Parameters = DirectAUParameters
    samples_negatives = False

    def __init__(self, interactions: Interactions, parameters: DirectAUParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.user_embedding = xavier_uniform(interactions.n_users, parameters.embedding_size)
        self.item_embedding = xavier_uniform(interactions.n_items, parameters.embedding_size)
        if parameters.n_layers:
            self.graph = user_item_graph(
                interactions.users, interactions.items, interactions.n_users, interactions.n_items
            )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the alignment of the batch's pairs, and the uniformities of its users and items."""
        user_vectors, item_vectors = self.embed()
        users = unit(user_vectors.index_select(0, batch.users))
        items = unit(item_vectors.index_select(0, batch.positives))
        half = self.parameters_.gamma / 2
        return {
            "alignment": alignment(users, items),
            "user_uniformity": half * uniformity(users),
            "item_uniformity": half * uniformity(items),
        }

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the tables, or with layers their mean over layers 0..n_layers."""
        if not self.parameters_.n_layers:
            return self.user_embedding, self.item_embedding
        start = torch.cat([self.user_embedding, self.item_embedding])
        nodes = layer_mean(self.graph, start, self.parameters_.n_layers)
        n_users = len(self.user_embedding)
        return nodes[:n_users], nodes[n_users:]
