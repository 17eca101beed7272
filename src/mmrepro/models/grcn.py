"""GRCN: Graph-Refined Convolutional Network (Wei et al., ACM MM 2020; methods, 3.10)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
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
from mmrepro.ops.dense import linear_of_constant
from mmrepro.ops.edges import (
    EdgePattern,
    edge_pattern,
    edge_products,
    edge_softmax,
    edge_sum,
    reverse_values,
    source_values,
)
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr_log_sigmoid, unit

ID_LAYERS = 2


class GRCNParameters(ContentParameters):
    """Parameters of GRCN; the vectors of a modality are as wide as those of the IDs."""

    n_layers: int = Field(3, ge=0, description="iterations of routing")
    refine_preferences: bool = Field(True, description="routing refines preferences (paper); False: nothing (program)")
    reg_weight: float = Field(1e-3, ge=0, description="weight of the mean squares of IDs and preferences")


def refined_weights(pattern: EdgePattern, weights: Sequence[Tensor], confidence: Tensor) -> Tensor:
    """Return what each edge weighs, (n_pairs,), at least 0: the most that a modality gives it.

    Parameters
    ----------
    pattern
        The edges, (n_targets, n_sources).
    weights
        Those of each modality, each (n_pairs,).
    confidence
        Of the sources in the modalities, (n_sources, |M|); multiplies the weights.
    """
    given = [w * source_values(pattern, c) for w, c in zip(weights, confidence.T, strict=True)]
    return torch.stack(given).amax(dim=0).relu()


class GRCN(Model):
    """ID vectors that flow along edges whose weights are learned from content, beside the content vectors themselves.

    Of each modality a user has a preference and an item its projected features; their product tells how well an edge
    fits. An edge weighs as much as the most confident modality says, and nothing where all of them doubt it.

    Oddity: `refine_preferences`. In the paper (the default) a user's preference p is refined by routing, `n_layers`
    times p <- unit(p + sum_i a_i f_i) over the user's items i with vectors f_i and a = softmax_i(p . f_i); in the
    program what is routed never reaches the users, so p stays and `n_layers` has no effect.

    As in the program, the ID vectors pass through two layers, and the mean square of a whole preference table is
    charged for one modality only, the first (there: the image). Its -ln sigmoid is not stabilised; the loss here
    differs only where that overflows.
    """

    Parameters = GRCNParameters
    uses_features = True
    released = ReleasedBehaviour(scores_with_last_batch=True, parameters={"refine_preferences": False})
    reference_names = {
        "id_gcn.id_embedding": "identity",
        "model_specific_conf": "confidence",
        "v_gcn.preference": "preference.image",
        "v_gcn.MLP.weight": "projection.image.weight",
        "v_gcn.MLP.bias": "projection.image.bias",
        "t_gcn.preference": "preference.text",
        "t_gcn.MLP.weight": "projection.text.weight",
        "t_gcn.MLP.bias": "projection.text.bias",
    }

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: GRCNParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.n_users, n_items = interactions.n_users, interactions.n_items
        features = require_features(content, "grcn")
        self.modalities = tuple(features)
        size = parameters.embedding_size
        self.identity = xavier_normal(self.n_users + n_items, size)
        self.confidence = xavier_normal(self.n_users + n_items, len(features))
        self.preference = nn.ParameterDict({m: xavier_normal(self.n_users, size) for m in features})
        self.projection = nn.ModuleDict({m: nn.Linear(x.shape[1], size) for m, x in features.items()})
        for modality, matrix in features.items():
            nn.init.xavier_normal_(self.projection[modality].get_parameter("weight"))
            self.register_buffer(f"features_{modality}", matrix, persistent=False)
        users, items = (torch.from_numpy(x) for x in (interactions.users, interactions.items))
        self.to_users = edge_pattern(users, items, self.n_users, n_items)
        self.to_items = self.to_users.reverse

    def view(self, modality: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a modality's vectors of users (n_users, d) and items (n_items, d), and its weights of the edges.

        The weights, each of shape (n_pairs,), are those of the edges that lead to users and to items: the softmax of
        the products over all edges that end in the same node.
        """
        weight, bias = (self.projection[modality].get_parameter(p) for p in ("weight", "bias"))
        items = unit(F.leaky_relu(linear_of_constant(getattr(self, f"features_{modality}"), weight, bias)))
        users = unit(self.preference[modality])
        if self.parameters_.refine_preferences:
            for _ in range(self.parameters_.n_layers):
                attention = edge_softmax(self.to_users, edge_products(self.to_users, users, items))
                users = unit(users + edge_sum(self.to_users, attention, items))
        products = edge_products(self.to_users, users, items)
        of_users = edge_softmax(self.to_users, products)
        of_items = edge_softmax(self.to_items, reverse_values(self.to_users, products))
        return (
            users + edge_sum(self.to_users, of_users, items),
            items + edge_sum(self.to_items, of_items, users),
            of_users,
            of_items,
        )

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the ID vectors after their layers and the modalities' vectors side by side, (1 + |M|) d wide."""
        of_users, of_items, user_weights, item_weights = zip(*(self.view(m) for m in self.modalities), strict=True)
        sizes = [self.n_users, len(of_items[0])]
        user_confidence, item_confidence = self.confidence.split(sizes)
        to_users = refined_weights(self.to_users, user_weights, item_confidence)
        to_items = refined_weights(self.to_items, item_weights, user_confidence)
        users, items = unit(self.identity).split(sizes)
        all_users, all_items = users, items
        for _ in range(ID_LAYERS):
            users, items = edge_sum(self.to_users, to_users, items), edge_sum(self.to_items, to_items, users)
            all_users, all_items = all_users + users, all_items + items
        return torch.cat([all_users, *of_users], dim=1), torch.cat([all_items, *of_items], dim=1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss and the mean squares of the batch's ID vectors and of preferences."""
        all_users, all_items = self.embed()
        items = torch.cat([batch.positives, batch.negatives])
        users = all_users.index_select(0, batch.users)
        positives, negatives = all_items.index_select(0, items).chunk(2)
        tables = [self.preference[m] for m in self.modalities]
        charged = [
            self.identity.index_select(0, batch.users),
            self.identity.index_select(0, self.n_users + items),
            tables[0],
            *(table.index_select(0, batch.users) for table in tables),
        ]
        return {
            "bpr": bpr_log_sigmoid((users * (positives - negatives)).sum(dim=1)),
            "regulariser": self.parameters_.reg_weight * torch.stack([x.square().mean() for x in charged]).sum(),
        }
