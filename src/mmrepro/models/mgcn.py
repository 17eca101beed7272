"""MGCN: Multi-View Graph Convolutional Network for Multimedia Recommendation (Yu et al., MM 2023; methods, 3.8)."""

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
from mmrepro.ops.contrast import content_id_alignment
from mmrepro.ops.graphs import SparseGraph, bipartite_graphs, layer_mean, product, weighted_neighbour_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr_log_sigmoid, half_squared_norm


class MGCNParameters(ContentParameters):
    """Parameters of MGCN; a term of the loss whose weight is 0 is left out."""

    n_layers: int = Field(2, ge=0, description="convolutions on the user-item graph")
    n_item_layers: int = Field(1, ge=0, description="convolutions on each modality's item graph")
    neighbours: int = Field(10, ge=1, description="items a row of an item graph, the item itself included")
    content_id_weight: float = Field(0.01, ge=0, description="of the contrast of content with ID vectors")
    reg_weight: float = Field(1e-4, ge=0, description="of the squared norms of the batch's vectors")
    temperature: float = Field(0.2, gt=0, description="of the contrast")
    learning_rate_decay: float = Field(
        0.96, gt=0, le=1, description="factor reached after `learning_rate_decay_epochs`"
    )
    trainable_features: bool = Field(True, description="fine-tune the item features, as the program does")


class MGCN(Model):
    """Behaviour-gated content, one view a modality, split into what the modalities share and what each has of its own.

    A modality's features gate the items' ID vectors; the gated vectors pass through its item graph and to users. An
    attention over the modalities' views gives their common part; what a view has beyond it is gated by the ID view. The
    content vector is the sum of the common part and the gated rests over their number, one more than the modalities. A
    single modality is its own common part and leaves no rest: attention and preference gates then have no effect.

    As in the program, the features are trained along (`trainable_features`) while the item graphs stay those of the
    features given, and the regulariser is divided by the configured batch size.
    """

    Parameters = MGCNParameters
    uses_features = True
    released = ReleasedBehaviour(patience=20)
    reference_names = {
        "user_embedding.weight": "user_embedding",
        "item_id_embedding.weight": "item_embedding",
        **{f"{m}_embedding.weight": f"features.{m}" for m in ("image", "text")},
        **{f"{m}_trs.{part}": f"projections.{m}.{part}" for m in ("image", "text") for part in ("weight", "bias")},
        **{
            f"gate_{theirs}.0.{part}": f"{ours}.{part}"
            for theirs, ours in (
                ("v", "behaviour_gates.image"),
                ("t", "behaviour_gates.text"),
                ("image_prefer", "preference_gates.image"),
                ("text_prefer", "preference_gates.text"),
            )
            for part in ("weight", "bias")
        },
        "query_common.0.weight": "attention.0.weight",
        "query_common.0.bias": "attention.0.bias",
        "query_common.2.weight": "attention.2.weight",
    }
    reference_parameters = {
        "n_ui_layers": "n_layers",
        "n_layers": "n_item_layers",
        "knn_k": "neighbours",
        "cl_loss": "content_id_weight",
        "reg_weight": "reg_weight",
        "train_batch_size": "batch_size",
    }

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: MGCNParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.n_users = interactions.n_users
        features, size = require_features(content, "mgcn"), parameters.embedding_size
        self.features = FeatureTables(features, parameters.trainable_features)
        self.user_embedding = xavier_uniform(interactions.n_users, size)
        self.item_embedding = xavier_uniform(interactions.n_items, size)
        self.projections = nn.ModuleDict({m: nn.Linear(x.shape[1], size) for m, x in features.items()})
        self.behaviour_gates = nn.ModuleDict({m: nn.Linear(size, size) for m in features})
        self.attention = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))
        self.preference_gates = nn.ModuleDict({m: nn.Linear(size, size) for m in features})
        self.graph, self.user_item_block = bipartite_graphs(
            interactions.users, interactions.items, interactions.n_users, interactions.n_items
        )
        for modality, matrix in features.items():
            neighbours = content.neighbours[modality][:, : parameters.neighbours]
            setattr(self, f"item_graph_{modality}", weighted_neighbour_graph(matrix, neighbours))

    def item_graph(self, modality: str) -> SparseGraph:
        """Return the item graph of a modality, (n_items, n_items)."""
        return getattr(self, f"item_graph_{modality}")

    def views(self) -> tuple[Tensor, Tensor]:
        """Return the ID view (n_users + n_items, d) and the modalities' views side by side, users first."""
        items = []
        for modality in self.features.modalities:
            layer = self.projections[modality]
            assert isinstance(layer, nn.Linear)
            gate = torch.sigmoid(self.behaviour_gates[modality](self.features.linear(modality, layer)))
            gated = self.item_embedding * gate
            for _ in range(self.parameters_.n_item_layers):
                gated = product(self.item_graph(modality), gated)
            items.append(gated)
        side_by_side = torch.cat(items, dim=1)
        nodes = torch.cat([self.user_embedding, self.item_embedding])
        contents = torch.cat([product(self.user_item_block, side_by_side), side_by_side])
        return layer_mean(self.graph, nodes, self.parameters_.n_layers), contents

    def fuse(self, identities: Tensor, views: Tensor) -> Tensor:
        """Return content vectors (rows, d) of nodes from their ID vectors and modalities' vectors side by side."""
        by_modality = views.view(len(views), len(self.features.modalities), -1)
        weights = torch.softmax(self.attention(by_modality), dim=1)
        common = (weights * by_modality).sum(dim=1)
        total = common
        for modality, view in zip(self.features.modalities, by_modality.unbind(dim=1), strict=True):
            total = total + torch.sigmoid(self.preference_gates[modality](identities)) * (view - common)
        return total / (len(self.features.modalities) + 1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss, the regulariser of norms and the contrast; only the batch's nodes are fused."""
        p, size = self.parameters_, len(batch.users)
        nodes = torch.cat([batch.users, self.n_users + batch.positives, self.n_users + batch.negatives])
        distinct, places = nodes.unique(return_inverse=True)
        identities, views = (x.index_select(0, distinct) for x in self.views())
        contents = self.fuse(identities, views)
        users, positives, negatives = (identities + contents).index_select(0, places).split(size)
        terms = {"bpr": bpr_log_sigmoid((users * (positives - negatives)).sum(dim=1))}
        if p.reg_weight:
            terms["regulariser"] = p.reg_weight * half_squared_norm(users, positives, negatives, rows=p.batch_size)
        if p.content_id_weight:
            alignment = content_id_alignment(contents, identities, places.split(size)[:2], p.temperature)
            terms["content_id"] = p.content_id_weight * alignment
        return terms

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the sums of ID and content vectors."""
        identities, views = self.views()
        nodes = identities + self.fuse(identities, views)
        return nodes[: self.n_users], nodes[self.n_users :]
