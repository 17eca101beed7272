"""FREEDOM: A Tale of Two Graphs, frozen and denoised (Zhou and Shen, ACM MM 2023; methods, 3.7)."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mmrepro.models.base import (
    Batch,
    ContentParameters,
    FeatureTables,
    ItemContent,
    Model,
    require_features,
    xavier_uniform,
)
from mmrepro.ops.content import image_shares
from mmrepro.ops.graphs import (
    GRAPH_EPSILON,
    SparseGraph,
    layer_mean,
    neighbour_mean_graph,
    product,
    user_item_graph,
)
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr_log_sigmoid


class FREEDOMParameters(ContentParameters):
    """Parameters of FREEDOM."""

    n_layers: int = Field(2, ge=0, description="convolutions on the user-item graph")
    n_item_layers: int = Field(1, ge=0, description="convolutions on the item graph")
    neighbours: int = Field(10, ge=1, description="items a row of the item graph, the item itself included")
    image_weight: float = Field(0.1, ge=0, le=1, description="of `image` in the item graph; the others share the rest")
    dropout: float = Field(0.8, ge=0, lt=1, description="share of the user-item edges that an epoch trains without")
    reg_weight: float = Field(1e-3, ge=0, description="of the modalities' ranking losses; 0 leaves them out")
    trainable_features: bool = Field(True, description="fine-tune the item features, as the program does")


class FREEDOM(Model):
    """LightGCN on a user-item graph pruned anew for each epoch, plus a frozen graph of items with similar content.

    Edges between popular nodes are pruned more often. Scores come from the whole graph. In the modalities' ranking
    losses an item is its projected features alone. As in the program, the features are trained. Any number of
    modalities.
    """

    Parameters = FREEDOMParameters
    uses_features = True
    reference_names = {
        "user_embedding.weight": "user_embedding",
        "item_id_embedding.weight": "item_embedding",
        "image_embedding.weight": "features.image",
        "text_embedding.weight": "features.text",
        "image_trs.weight": "projection.image.weight",
        "image_trs.bias": "projection.image.bias",
        "text_trs.weight": "projection.text.weight",
        "text_trs.bias": "projection.text.bias",
    }
    reference_parameters = {
        "n_ui_layers": "n_layers",
        "n_mm_layers": "n_item_layers",
        "knn_k": "neighbours",
        "mm_image_weight": "image_weight",
        "dropout": "dropout",
        "reg_weight": "reg_weight",
    }

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: FREEDOMParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.n_users, self.n_items = interactions.n_users, interactions.n_items
        features = require_features(content, "freedom")
        size = parameters.embedding_size
        self.user_embedding = xavier_uniform(self.n_users, size)
        self.item_embedding = xavier_uniform(self.n_items, size)
        self.features = FeatureTables(features, parameters.trainable_features)
        self.projection = nn.ModuleDict({m: nn.Linear(x.shape[1], size) for m, x in features.items()})
        self.edges = interactions.distinct
        degrees = [np.bincount(nodes)[nodes] + GRAPH_EPSILON for nodes in self.edges]
        self.mean_arrivals = np.sqrt(degrees[0] * degrees[1])
        self.graph = user_item_graph(*self.edges, self.n_users, self.n_items)
        self.pruned_graph: SparseGraph | None = None
        neighbours = {m: content.neighbours[m][:, : parameters.neighbours] for m in features}
        self.item_graph = neighbour_mean_graph(neighbours, image_shares(tuple(features), parameters.image_weight))

    def draw_edges(self) -> np.ndarray:
        """Draw the positions of an epoch's edges, increasing, the popular ones' least likely.

        Without replacement, with probabilities proportional to (degree of user x degree of item)^-1/2 at each draw. The
        first arrivals of exponential clocks with these rates have the same distribution as draws one after the other
        (Efraimidis and Spirakis 2006).
        """
        n_edges = len(self.mean_arrivals)
        n_kept = int(n_edges * (1 - self.parameters_.dropout))
        arrivals = -np.log1p(-torch.rand(n_edges, dtype=torch.float64).numpy()) * self.mean_arrivals
        return np.sort(np.argpartition(arrivals, max(n_kept - 1, 0))[:n_kept])

    def start_epoch(self) -> None:
        """Prune the training graph; its edges are weighed by the degrees that are left."""
        if self.parameters_.dropout:
            kept = self.draw_edges()
            users, items = (nodes[kept] for nodes in self.edges)
            pruned = user_item_graph(users, items, self.n_users, self.n_items)
            self.pruned_graph = pruned.apply(lambda matrix: matrix.to(self.user_embedding))

    def propagate(self, graph: SparseGraph) -> tuple[Tensor, Tensor]:
        """Return user vectors and item vectors, the latter with those of the item graph added."""
        start = torch.cat([self.user_embedding, self.item_embedding])
        nodes = layer_mean(graph, start, self.parameters_.n_layers)
        near: Tensor = self.item_embedding
        for _ in range(self.parameters_.n_item_layers):
            near = product(self.item_graph, near)
        return nodes[: self.n_users], nodes[self.n_users :] + near

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss on the pruned graph and one a modality; there is no regulariser of norms."""
        user_vectors, item_vectors = self.propagate(self.graph if self.pruned_graph is None else self.pruned_graph)
        users = user_vectors.index_select(0, batch.users)
        positives, negatives = (item_vectors.index_select(0, i) for i in (batch.positives, batch.negatives))
        terms = {"bpr": bpr_log_sigmoid((users * (positives - negatives)).sum(dim=1))}
        if self.parameters_.reg_weight:
            items, rows = torch.cat([batch.positives, batch.negatives]).unique(return_inverse=True)
            for modality, layer in self.projection.items():
                contents = layer(self.features[modality].index_select(0, items)).index_select(0, rows)
                positives, negatives = contents.split(len(batch.users))
                difference = (users * (positives - negatives)).sum(dim=1)
                terms[f"bpr_{modality}"] = self.parameters_.reg_weight * bpr_log_sigmoid(difference)
        return terms

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the vectors propagated on the whole graph."""
        return self.propagate(self.graph)
