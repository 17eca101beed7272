"""AlignRec, stage 2: Aligning and Training in Multimodal Recommendations (Liu et al., 2024; methods, 3.5, 5.2)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from mmrepro.models.base import (
    Batch,
    ContentParameters,
    FeatureTables,
    ItemContent,
    Model,
    ReleasedBehaviour,
    require_features,
    xavier_uniform,
)
from mmrepro.ops.content import unified_matrix
from mmrepro.ops.contrast import content_id_alignment, similarity_gap
from mmrepro.ops.graphs import bipartite_graphs, layer_mean, product, weighted_neighbour_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr_log_sigmoid, cosine_distance, half_squared_norm, unit
from mmrepro.ops.neighbours import nearest_neighbours


class AlignRecParameters(ContentParameters):
    """Parameters of AlignRec; a term of the loss whose weight is 0 is left out."""

    n_layers: int = Field(2, ge=0, description="convolutions on the user-item graph")
    n_item_layers: int = Field(1, ge=0, description="convolutions on the item graph")
    neighbours: int = Field(10, ge=1, description="items a row of the item graph, the item itself included")
    content_id_weight: float = Field(0.005, ge=0, description="of content-to-ID alignment (CCA)")
    user_item_weight: float = Field(0.1, ge=0, description="of user-item alignment (UIA)")
    similarity_weight: float = Field(0.3, ge=0, description="of the similarity regulariser")
    reg_weight: float = Field(1e-4, ge=0, description="of the squared norms of the batch's vectors")
    temperature: float = Field(0.2, gt=0, description="of content-to-ID alignment")
    learning_rate_decay: float = Field(
        0.96, gt=0, le=1, description="factor reached after `learning_rate_decay_epochs`"
    )
    trainable_features: bool = Field(True, description="fine-tune the item features, as the program does")


class AlignRec(Model):
    """ID vectors and content vectors of users and items, propagated apart, aligned, and added up.

    The item features are one matrix, that of a single modality or the unit rows of several side by side. They gate the
    items' ID vectors; the gated vectors pass through the item graph and to users. With `trainable_features` the matrix
    is a parameter, and the target of the similarity regulariser, which has no gradient, follows it.
    """

    Parameters = AlignRecParameters
    uses_features = True
    released = ReleasedBehaviour(patience=30)
    reference_names = {
        "user_embedding.weight": "user_embedding",
        "item_id_embedding.weight": "item_embedding",
        "mm_embedding.weight": "features.unified",
        "mm_trs.weight": "projection.weight",
        "mm_trs.bias": "projection.bias",
        "gate_v.0.weight": "gate.weight",
        "gate_v.0.bias": "gate.bias",
    }
    reference_parameters = {
        "n_ui_layers": "n_layers",
        "n_layers": "n_item_layers",
        "knn_k": "neighbours",
        "cl_loss": "content_id_weight",
        "ui_cosine_loss_weight": "user_item_weight",
        "sim_weight": "similarity_weight",
        "reg_weight": "reg_weight",
        "train_batch_size": "batch_size",
    }
    reference_modalities = ("image",)

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: AlignRecParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.n_users = interactions.n_users
        features = unified_matrix(require_features(content, "alignrec"))
        self.features = FeatureTables({"unified": features}, parameters.trainable_features)
        size = parameters.embedding_size
        self.user_embedding = xavier_uniform(interactions.n_users, size)
        self.item_embedding = xavier_uniform(interactions.n_items, size)
        self.projection = nn.Linear(features.shape[1], size)
        self.gate = nn.Linear(size, size)
        self.graph, self.user_item_block = bipartite_graphs(
            interactions.users, interactions.items, interactions.n_users, interactions.n_items
        )
        if len(content.features) == 1:
            neighbours = next(iter(content.neighbours.values()))[:, : parameters.neighbours]
        else:
            neighbours = nearest_neighbours(features, parameters.neighbours)[0]
        self.item_graph = weighted_neighbour_graph(features, neighbours)

    def views(self) -> tuple[Tensor, Tensor]:
        """Return the ID vectors and the content vectors of all nodes, users first, each (n_users + n_items, d)."""
        nodes = torch.cat([self.user_embedding, self.item_embedding])
        items = self.item_embedding * torch.sigmoid(self.gate(self.features.linear("unified", self.projection)))
        for _ in range(self.parameters_.n_item_layers):
            items = product(self.item_graph, items)
        contents = torch.cat([product(self.user_item_block, items), items])
        return layer_mean(self.graph, nodes, self.parameters_.n_layers), contents

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss, the regulariser of norms, and the alignments; a term of weight 0 is left out."""
        p = self.parameters_
        identities, contents = self.views()
        rows = torch.cat([batch.users, self.n_users + batch.positives, self.n_users + batch.negatives])
        users, positives, negatives = (identities + contents).index_select(0, rows).split(len(batch.users))
        terms = {"bpr": bpr_log_sigmoid((users * (positives - negatives)).sum(dim=1))}
        if p.reg_weight:
            terms["regulariser"] = p.reg_weight * half_squared_norm(users, positives, negatives, rows=p.batch_size)
        if p.user_item_weight:
            terms["user_item"] = p.user_item_weight * cosine_distance(users, positives)
        if p.content_id_weight:
            groups = batch.users, self.n_users + batch.positives
            alignment = content_id_alignment(contents, identities, groups, p.temperature)
            terms["content_id"] = p.content_id_weight * alignment
        if p.similarity_weight:
            terms["similarity"] = p.similarity_weight * self._similarity_gap(contents, batch.positives)
        return terms

    def _similarity_gap(self, contents: Tensor, positives: Tensor) -> Tensor:
        """The similarity regulariser over all pairs of the batch's positive items."""
        items, counts = positives.unique(return_counts=True)
        vectors = contents.index_select(0, self.n_users + items)
        target = unit(self.features["unified"].detach().index_select(0, items))
        return similarity_gap(vectors, target, counts.to(vectors.dtype))

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the sums of ID and content vectors."""
        identities, contents = self.views()
        nodes = identities + contents
        return nodes[: self.n_users], nodes[self.n_users :]
