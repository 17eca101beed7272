"""SLMRec: Self-supervised Learning for Multimedia Recommendation (Tao et al., IEEE TMM 2022; methods, 3.14)."""

from __future__ import annotations

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
    xavier_uniform,
)
from mmrepro.ops.contrast import info_nce
from mmrepro.ops.dense import linear_of_constant
from mmrepro.ops.graphs import layer_mean, user_item_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import unit


class SLMRecParameters(ContentParameters):
    """Parameters of SLMRec."""

    n_layers: int = Field(3, ge=0, description="graph convolutions")
    temperature: float = Field(0.2, gt=0, description="of the ranking loss, on cosines")
    ssl_temperature: float = Field(0.5, gt=0, description="of the contrasts of views, on inner products")
    ssl_weight: float = Field(0.1, ge=0, description="of the contrasts of views; 0 leaves them out")
    sigmoid_scores: bool = Field(False, description="rank by the logistic function of inner products")
    weight_decay: float = Field(1e-4, ge=0, description="L2 inside Adam")


class SLMRec(Model):
    """Views of ID and of each modality, propagated apart, joined by a linear map, and contrasted along a chain.

    The self-supervised task is FAC, the only one that the program can run. From an item's ID view a chain of linear
    maps leads through one space a modality, in the order of the feature set, the last of half the width; in each space
    it is contrasted with that modality's view. Two modalities leave the space between them without a view, as in the
    program; a single one has the first space only. The ranking loss contrasts users with the items of the batch, so no
    negatives are drawn. The program ranks by the logistic function (`sigmoid_scores`), which float32 rounds to 1 above
    17, so that ties decide; here inner products rank, the same order without those ties.
    """

    Parameters = SLMRecParameters
    uses_features = True
    samples_negatives = False
    released = ReleasedBehaviour(scores_with_last_batch=True, parameters={"sigmoid_scores": True})
    reference_names = {
        "embedding_user.weight": "user_embedding",
        "embedding_item.weight": "item_embedding",
        **{
            f"{theirs}.{kind}": f"{ours}.{kind}"
            for theirs, ours in {
                "v_dense": "projection.image",
                "t_dense": "projection.text",
                "embedding_user_after_GCN": "join_users",
                "embedding_item_after_GCN": "join_items",
                "g_i_iv": "chain.0",
                "g_iv_iva": "chain.1",
                "g_iva_ivat": "chain.2",
                "g_v_iv": "head.image",
                "g_t_ivat": "head.text",
            }.items()
            for kind in ("weight", "bias")
        },
    }
    reference_parameters = {
        "layer_num": "n_layers",
        "temp": "temperature",
        "ssl_temp": "ssl_temperature",
        "ssl_alpha": "ssl_weight",
    }

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: SLMRecParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.n_users = interactions.n_users
        features = require_features(content, "slmrec")
        for modality, matrix in features.items():
            self.register_buffer(f"features_{modality}", unit(matrix), persistent=False)
        size = parameters.embedding_size
        self.user_embedding = xavier_uniform(interactions.n_users, size)
        self.item_embedding = xavier_uniform(interactions.n_items, size)
        self.projection = nn.ModuleDict({m: _linear(x.shape[1], size) for m, x in features.items()})
        self.join_users, self.join_items = (_linear((len(features) + 1) * size, size) for _ in range(2))
        self.spaces = _spaces(tuple(features))
        widths = [size] * len(self.spaces)
        if len(widths) > 1:
            widths[-1] = -(-size // 2)
        self.chain = nn.ModuleList(_linear(size, width) for width in widths)
        self.head = nn.ModuleDict({m: _linear(size, w) for m, w in zip(self.spaces, widths, strict=True) if m})
        self.graph = user_item_graph(interactions.users, interactions.items, interactions.n_users, interactions.n_items)

    def views(self) -> Tensor:
        """Return the views of all nodes side by side, ID first, (n_users + n_items, (1 + modalities) d)."""
        items: list[Tensor] = [self.item_embedding]
        for modality, layer in self.projection.items():
            weight, bias = (layer.get_parameter(name) for name in ("weight", "bias"))
            items.append(linear_of_constant(getattr(self, f"features_{modality}"), weight, bias))
        users = self.user_embedding.repeat(1, len(items))
        return layer_mean(self.graph, torch.cat([users, torch.cat(items, dim=1)]), self.parameters_.n_layers)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss over the batch and the contrast of each modality; in float32 also under autocast.

        A contrast holds products of 256 rows with the batch at a time.
        """
        p, views = self.parameters_, self.views()
        items, rows, counts = batch.positives.unique(return_inverse=True, return_counts=True)
        item_views = views.index_select(0, self.n_users + items)
        with torch.autocast(views.device.type, enabled=False):
            users = self.join_users(views.index_select(0, batch.users))
            positives = self.join_items(item_views).index_select(0, rows)
            once = torch.ones_like(users[:, 0])
            terms = {"ranking": info_nce(unit(users), unit(positives), once, p.temperature)}
            if p.ssl_weight:
                identity, *contents = item_views.split(p.embedding_size, dim=1)
                view_of = dict(zip(self.projection, contents, strict=True))
                for modality, link in zip(self.spaces, self.chain, strict=True):
                    identity = link(identity)
                    if modality is not None:
                        view = self.head[modality](view_of[modality])
                        contrast = info_nce(identity, view, counts.to(view.dtype), p.ssl_temperature)
                        terms[f"id_{modality}"] = p.ssl_weight * contrast
        return terms

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the joined views."""
        users, items = self.views().tensor_split([self.n_users])
        return self.join_users(users), self.join_items(items)

    def scores(self, products: Tensor) -> Tensor:
        """Return the products, or their logistic function as in the program."""
        return torch.sigmoid(products) if self.parameters_.sigmoid_scores else products


def _spaces(modalities: tuple[str, ...]) -> tuple[str | None, ...]:
    """The modality contrasted in each space of the chain, `None` where there is none."""
    if len(modalities) == 1:
        return modalities
    between: list[str | None] = [*modalities[1:-1]] or [None]
    return modalities[0], *between, modalities[-1]


def _linear(width: int, size: int) -> nn.Linear:
    """A layer with Xavier-uniform weights."""
    layer = nn.Linear(width, size)
    nn.init.xavier_uniform_(layer.weight)
    return layer
