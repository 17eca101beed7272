"""DRAGON: Enhancing Dyadic Relations with Homogeneous Graphs (Zhou et al., ECAI 2023; methods, 3.13)."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from mmrepro.models.base import (
    Batch,
    ContentParameters,
    ItemContent,
    Model,
    ReleasedBehaviour,
    require_features,
    xavier_normal,
)
from mmrepro.ops.content import image_shares
from mmrepro.ops.feature_tower import FeatureTower, propagate_modalities
from mmrepro.ops.graphs import neighbour_mean_graph, product, user_item_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr_log_sigmoid
from mmrepro.ops.user_neighbours import UserGraph, users_with_common_items


class DRAGONParameters(ContentParameters):
    """Parameters of DRAGON."""

    n_layers: int = Field(2, ge=0, description="propagation steps on the user-item graph")
    n_item_layers: int = Field(1, ge=0, description="propagation steps on the item graph")
    neighbours: int = Field(10, ge=1, description="items a row of the item graph, the item itself included")
    image_weight: float = Field(0.1, ge=0, le=1, description="of `image` in the item graph; the others share the rest")
    user_neighbours: int = Field(40, ge=1, description="users with the most common items that a user learns from")
    reg_weight: float = Field(1e-3, ge=0, description="of the mean squares of preferences and modality weights")
    repeat_neighbours: bool = Field(False, description="program: fill short lists of neighbours with random repeats")


class DRAGON(Model):
    """Modalities propagated apart and set side by side; graphs among items and among users add their neighbours.

    Blocks of a user are weighed by the user's own numbers, which start as a softmax. The ranking loss is BPR to the
    base 2, here as the stabilised natural one over ln 2: they differ only where the program's overflows. One departure
    of the program from the paper is a parameter, whose default is the paper's: `repeat_neighbours` (drawn every epoch;
    without the draw users have their real neighbours only). The number of steps on the user-item graph follows the
    program, where it is fixed. The program's lists of dropped items, never used, are left out.
    """

    Parameters = DRAGONParameters
    uses_features = True
    released = ReleasedBehaviour(scores_with_last_batch=True, parameters={"repeat_neighbours": True})
    reference_names = {
        "weight_u": "user_weights",
        "v_preference": "preference.image",
        "t_preference": "preference.text",
        "v_gcn.MLP.weight": "towers.image.hidden.weight",
        "v_gcn.MLP.bias": "towers.image.hidden.bias",
        "v_gcn.MLP_1.weight": "towers.image.output.weight",
        "v_gcn.MLP_1.bias": "towers.image.output.bias",
        "t_gcn.MLP.weight": "towers.text.hidden.weight",
        "t_gcn.MLP.bias": "towers.text.hidden.bias",
        "t_gcn.MLP_1.weight": "towers.text.output.weight",
        "t_gcn.MLP_1.bias": "towers.text.output.bias",
    }
    reference_parameters = {
        "n_mm_layers": "n_item_layers",
        "knn_k": "neighbours",
        "mm_image_weight": "image_weight",
        "reg_weight": "reg_weight",
    }
    reference_draws = {
        "draw/epoch_user_graph": "user_graph.drawn_neighbours",
        "draw/user_weight_matrix": "user_graph.drawn_weights",
    }

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: DRAGONParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        features, size = require_features(content, "dragon"), parameters.embedding_size
        pairs = (interactions.users, interactions.items, interactions.n_users, interactions.n_items)
        self.n_users = interactions.n_users
        self.preference = nn.ParameterDict({m: xavier_normal(self.n_users, size) for m in features})
        self.towers = nn.ModuleDict({m: FeatureTower(x, size) for m, x in features.items()})
        self.user_weights = nn.Parameter(xavier_normal(self.n_users, len(features)).detach().softmax(dim=1))
        self.graph = user_item_graph(*pairs)
        neighbours = {m: content.neighbours[m][:, : parameters.neighbours] for m in features}
        self.item_graph = neighbour_mean_graph(neighbours, image_shares(tuple(features), parameters.image_weight))
        nearest = users_with_common_items(*pairs, parameters.user_neighbours)
        self.user_graph = UserGraph(nearest, repeat=parameters.repeat_neighbours)

    def start_epoch(self) -> None:
        """Draw repeats for users with too few neighbours, if the parameters say so."""
        self.user_graph.start_epoch()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss and the regulariser."""
        user_vectors, item_vectors = self.embed_drawn()
        users = user_vectors.index_select(0, batch.users)
        difference = item_vectors.index_select(0, batch.positives) - item_vectors.index_select(0, batch.negatives)
        decayed = [table.index_select(0, batch.users) for table in self.preference.values()] + [self.user_weights]
        return {
            "bpr": bpr_log_sigmoid((users * difference).sum(dim=1)) / math.log(2),
            "regulariser": self.parameters_.reg_weight * torch.stack([x.square().mean() for x in decayed]).sum(),
        }

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return users and items with their neighbours' sums."""
        return self._vectors(draw=False)

    def embed_drawn(self) -> tuple[Tensor, Tensor]:
        """Return them with the user neighbours drawn for the epoch."""
        return self._vectors(draw=True)

    def _vectors(self, draw: bool) -> tuple[Tensor, Tensor]:
        nodes = propagate_modalities(self.graph, self.preference, self.towers, self.parameters_.n_layers)
        users = (nodes[: self.n_users] * self.user_weights[:, :, None]).flatten(1)
        items = near = nodes[self.n_users :].flatten(1)
        for _ in range(self.parameters_.n_item_layers):
            near = product(self.item_graph, near)
        return self.user_graph(users, draw), items + near
