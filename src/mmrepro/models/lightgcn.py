"""LightGCN (He et al., SIGIR 2020; methods, 3.2)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from mmrepro.models.base import Batch, Model, TrainedParameters, xavier_uniform
from mmrepro.ops.graphs import layer_mean, user_item_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr, embedding_norm


class LightGCNParameters(TrainedParameters):
    """Parameters of LightGCN."""

    n_layers: int = Field(2, ge=0, description="graph convolutions")
    reg_weight: float = Field(1e-4, ge=0, description="weight of the un-squared norms of the batch's layer-0 rows")


class LightGCN(Model):
    """Mean over layers of neighbourhood averages; the regulariser's norms are un-squared, as in the program."""

    Parameters = LightGCNParameters
    reference_names = {
        "embedding_dict.user_emb": "user_embedding",
        "embedding_dict.item_emb": "item_embedding",
    }

    def __init__(self, interactions: Interactions, parameters: LightGCNParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.user_embedding = xavier_uniform(interactions.n_users, parameters.embedding_size)
        self.item_embedding = xavier_uniform(interactions.n_items, parameters.embedding_size)
        self.graph = user_item_graph(interactions.users, interactions.items, interactions.n_users, interactions.n_items)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss on the propagated vectors and the regulariser on layer 0."""
        user_vectors, item_vectors = self.embed()
        users = user_vectors.index_select(0, batch.users)
        difference = item_vectors.index_select(0, batch.positives) - item_vectors.index_select(0, batch.negatives)
        layer_0 = (
            self.user_embedding.index_select(0, batch.users),
            self.item_embedding.index_select(0, batch.positives),
            self.item_embedding.index_select(0, batch.negatives),
        )
        return {
            "bpr": bpr((users * difference).sum(dim=1)),
            "regulariser": self.parameters_.reg_weight * embedding_norm(*layer_0),
        }

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the mean over layers 0..n_layers."""
        start = torch.cat([self.user_embedding, self.item_embedding])
        nodes = layer_mean(self.graph, start, self.parameters_.n_layers)
        n_users = len(self.user_embedding)
        return nodes[:n_users], nodes[n_users:]
