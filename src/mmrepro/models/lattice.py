"""LATTICE: Mining Latent Structures for Multimedia Recommendation (Zhang et al., ACM MM 2021; methods, 3.9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
from mmrepro.ops.edges import EdgePattern, constant_graph, edge_pattern, edge_products, edge_sum
from mmrepro.ops.graphs import SparseGraph, layer_mean, product, random_walk_graph, weighted_neighbour_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr_log_sigmoid, half_squared_norm, unit
from mmrepro.ops.neighbours import nearest_neighbours


class LatticeParameters(ContentParameters):
    """Parameters of LATTICE."""

    n_layers: int = Field(2, ge=0, description="convolutions on the user-item graph")
    n_item_layers: int = Field(1, ge=0, description="convolutions on the item graph")
    neighbours: int = Field(10, ge=1, description="items a row of an item graph, the item itself included")
    item_graph_share: float = Field(0.9, ge=0, le=1, description="of the frozen graphs; the learned graph has the rest")
    reg_weight: float = Field(1e-4, ge=0, description="of the squared norms of the batch's vectors")
    learning_rate_decay: float = Field(
        0.96, gt=0, le=1, description="factor reached after `learning_rate_decay_epochs`"
    )
    trainable_features: bool = Field(True, description="fine-tune the item features, as the program does")


class Lattice(Model):
    """LightGCN beside ID vectors that flow over an item graph learned from projected features.

    The item graph mixes, with `item_graph_share`, the frozen graphs of the raw features with the graph of the k nearest
    neighbours by cosine of projected features, which follows the parameters. A softmax over the numbers `modal_weight`,
    one a modality, weighs the modalities in both.

    As in the program, the graph is built with gradient, through the kept cosines but not through the choice of
    neighbours, in the first batch of every epoch, and is a constant for the others; for scoring it is built anew from
    current parameters. Projections, feature tables and `modal_weight` hence move once an epoch. Of its collaborative
    filters only LightGCN is offered, on the graph whose rows average over neighbours and the node itself.

    No dense matrix of items by items: where the program keeps several of 4 n_items bytes an item, all graphs take about
    90 |M| `neighbours` bytes an item here (1.8 kB with two modalities and 10 neighbours), the last search 4 |M|
    (`embedding_size` + 2 `neighbours`) more, and a search itself what `ops.neighbours.nearest_neighbours` says. Its
    time is quadratic in items: one an epoch and modality, about a second for 7,050 items on one core, 80 for 63,001.
    """

    Parameters = LatticeParameters
    uses_features = True
    reference_names = {
        "modal_weight": "modal_weight",
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
        "n_layers": "n_item_layers",
        "knn_k": "neighbours",
        "lambda_coeff": "item_graph_share",
        "reg_weight": "reg_weight",
        "train_batch_size": "batch_size",
    }

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: LatticeParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        features = require_features(content, "lattice")
        self.modalities = tuple(features)
        size = parameters.embedding_size
        self.modal_weight = nn.Parameter(torch.full((len(features),), 1 / len(features)))
        self.user_embedding = xavier_uniform(interactions.n_users, size)
        self.item_embedding = xavier_uniform(interactions.n_items, size)
        self.features = FeatureTables(features, parameters.trainable_features)
        self.projection = nn.ModuleDict({m: nn.Linear(x.shape[1], size) for m, x in features.items()})
        self.graph = random_walk_graph(
            interactions.users, interactions.items, interactions.n_users, interactions.n_items, self_loops=True
        )
        for m, matrix in features.items():
            frozen = weighted_neighbour_graph(matrix, content.neighbours[m][:, : parameters.neighbours])
            setattr(self, f"frozen_{m}", frozen)  # an attribute of its own, so that it moves with the model
        self.epoch_graph: SparseGraph | None = None
        self.searches: dict[str, tuple[Tensor, Tensor]] = {}

    def start_epoch(self) -> None:
        """Have the next batch build the item graph, with gradient."""
        self.epoch_graph = None

    def frozen(self, modality: str) -> SparseGraph:
        """Return the graph of a modality's raw features, (n_items, n_items)."""
        return getattr(self, f"frozen_{modality}")

    def learned_graphs(self) -> list[tuple[EdgePattern, Tensor]]:
        """Return each modality's part of the learned graph: its edges, and their differentiable values (n_items k,).

        The modalities' cosines are weighted and summed up; the sum's rows normalise it on both sides. Where a row's sum
        is not above 0, nothing flows to or from the item, as in the frozen graphs.
        """
        graphs, sums = [], torch.zeros((), device=self.modal_weight.device)
        for m, share in zip(self.modalities, self.shares(), strict=True):
            layer = self.projection[m]
            assert isinstance(layer, nn.Linear)
            vectors = unit(self.features.linear(m, layer))
            near = self.nearest(m, vectors.detach())
            n_items, k = near.shape
            items = torch.arange(n_items, device=near.device).repeat_interleave(k)
            pattern = edge_pattern(items, near.flatten(), n_items, n_items)
            values = share * edge_products(pattern, vectors, vectors)
            sums = sums + values.view(n_items, k).sum(dim=1)
            graphs.append((pattern, values))
        scale = (torch.where(sums > 0, sums, 1.0).rsqrt() * (sums > 0))[:, None]
        return [(pattern, values * edge_products(pattern, scale, scale)) for pattern, values in graphs]

    def nearest(self, modality: str, vectors: Tensor) -> Tensor:
        """Return each item's neighbours (n_items, k) by these vectors; a search for the same ones is not repeated.

        No step lies between the scoring of an epoch and the first batch of the next, so that this saves every second.
        """
        last = self.searches.get(modality)
        if last is None or last[0].device != vectors.device or not torch.equal(last[0], vectors):
            last = self.searches[modality] = vectors, nearest_neighbours(vectors, self.parameters_.neighbours)[0]
        return last[1]

    def shares(self) -> Tensor:
        """Return the modalities' weights, shape (|M|,), which sum to 1."""
        return torch.softmax(self.modal_weight, dim=0)

    def neighbour_sum(self, learned: list[tuple[EdgePattern, Tensor]], items: Tensor) -> Tensor:
        """Return the mixed item graph times `items` (n_items, d), differentiable in the graph too."""
        kept = self.parameters_.item_graph_share
        ours = torch.stack([edge_sum(pattern, values, items) for pattern, values in learned]).sum(dim=0)
        raw = torch.stack([product(self.frozen(m), items) for m in self.modalities])
        return (1 - kept) * ours + kept * torch.einsum("m,mid->id", self.shares(), raw)

    def constant(self, learned: list[tuple[EdgePattern, Tensor]]) -> SparseGraph:
        """Return the mixed item graph as it is now, (n_items, n_items)."""
        kept = self.parameters_.item_graph_share
        parts: list[tuple[SparseGraph, Tensor]] = [(pattern, (1 - kept) * values) for pattern, values in learned]
        for m, share in zip(self.modalities, self.shares(), strict=True):
            parts.append((self.frozen(m), kept * share * self.frozen(m).matrix.values()))
        return constant_graph(parts)

    def propagate(self, through: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return the vectors of users and items, given what multiplies by the item graph."""
        near: Tensor = self.item_embedding
        for _ in range(self.parameters_.n_item_layers):
            near = through(near)
        start = torch.cat([self.user_embedding, self.item_embedding])
        nodes = layer_mean(self.graph, start, self.parameters_.n_layers)
        users, items = nodes.split([len(self.user_embedding), len(self.item_embedding)])
        return users, items + unit(near)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss and the regulariser of norms; the first call of an epoch builds the item graph."""
        if self.epoch_graph is None:
            learned = self.learned_graphs()
            self.epoch_graph = self.constant(learned)
            vectors = self.propagate(partial(self.neighbour_sum, learned))
        else:
            vectors = self.propagate(partial(product, self.epoch_graph))
        users = vectors[0].index_select(0, batch.users)
        positives, negatives = vectors[1].index_select(0, torch.cat([batch.positives, batch.negatives])).chunk(2)
        p = self.parameters_
        return {
            "bpr": bpr_log_sigmoid((users * (positives - negatives)).sum(dim=1)),
            "regulariser": p.reg_weight * half_squared_norm(users, positives, negatives, rows=p.batch_size),
        }

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the vectors that rank, with the item graph of the current parameters."""
        return self.propagate(partial(self.neighbour_sum, self.learned_graphs()))
