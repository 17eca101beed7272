"""BM3: Bootstrap Latent Representations for Multi-modal Recommendation (Zhou et al., WWW 2023; methods, 3.6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
from mmrepro.ops.graphs import layer_mean, user_item_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import cosine_distance, embedding_norm


class BM3Parameters(ContentParameters):
    """Parameters of BM3."""

    n_layers: int = Field(2, ge=0, description="graph convolutions")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of the targets' entries set to zero")
    content_weight: float = Field(2.0, ge=0, description="of the terms of the modalities; 0 leaves them out")
    reg_weight: float = Field(0.1, ge=0, description="of the un-squared norms of all users and items")
    trainable_features: bool = Field(True, description="fine-tune the item features, as the program does")


class BM3(Model):
    """Users and items predict each other's vectors, and modalities the items', from perturbed copies; no negatives.

    A prediction is a linear map of a vector, its target a copy with dropout and without gradient. As in the program:
    the regulariser's norms are un-squared and divided by the number of items, the modalities' terms have a weight, and
    the features are trained. Any number of modalities, in the order of the feature set.
    """

    Parameters = BM3Parameters
    uses_features = True
    samples_negatives = False
    reference_names = {
        "user_embedding.weight": "user_embedding",
        "item_id_embedding.weight": "item_embedding",
        "predictor.weight": "predictor.weight",
        "predictor.bias": "predictor.bias",
        "image_embedding.weight": "features.image",
        "text_embedding.weight": "features.text",
        "image_trs.weight": "projection.image.weight",
        "image_trs.bias": "projection.image.bias",
        "text_trs.weight": "projection.text.weight",
        "text_trs.bias": "projection.text.bias",
    }
    reference_parameters = {
        "n_layers": "n_layers",
        "dropout": "dropout",
        "cl_weight": "content_weight",
        "reg_weight": "reg_weight",
    }

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: BM3Parameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.n_users = interactions.n_users
        features = require_features(content, "bm3")
        size = parameters.embedding_size
        self.user_embedding = xavier_uniform(interactions.n_users, size)
        self.item_embedding = xavier_uniform(interactions.n_items, size)
        self.features = FeatureTables(features, parameters.trainable_features)
        self.projection = nn.ModuleDict({m: nn.Linear(x.shape[1], size) for m, x in features.items()})
        self.predictor = nn.Linear(size, size)
        for layer in (*self.projection.children(), self.predictor):
            nn.init.xavier_normal_(layer.get_parameter("weight"))
        self.graph = user_item_graph(interactions.users, interactions.items, interactions.n_users, interactions.n_items)

    def propagate(self) -> tuple[Tensor, Tensor]:
        """Return the mean over layers of users and of items, to the latter their own table added."""
        nodes = layer_mean(self.graph, torch.cat([self.user_embedding, self.item_embedding]), self.parameters_.n_layers)
        return nodes[: self.n_users], nodes[self.n_users :] + self.item_embedding

    def target(self, vectors: Tensor) -> Tensor:
        """Return a copy with dropout and without gradient, in evaluation mode too."""
        return F.dropout(vectors.detach(), self.parameters_.dropout)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return reconstruction, alignment and masking (of the modalities), and the regulariser.

        Dropout is drawn for the batch's distinct rows: a row that occurs twice has one target, as if whole tables were
        perturbed.
        """
        p = self.parameters_
        all_users, all_items = self.propagate()
        users, user_rows = batch.users.unique(return_inverse=True)
        items, item_rows = batch.positives.unique(return_inverse=True)
        user_vectors, item_vectors = all_users.index_select(0, users), all_items.index_select(0, items)
        item_target = self.target(item_vectors).index_select(0, item_rows)

        def distance(vectors: Tensor, rows: Tensor, target: Tensor) -> Tensor:
            return cosine_distance(self.predictor(vectors).index_select(0, rows), target)

        terms = {
            "reconstruction": distance(user_vectors, user_rows, item_target)
            + distance(item_vectors, item_rows, self.target(user_vectors).index_select(0, user_rows)),
            "regulariser": p.reg_weight * embedding_norm(all_users, all_items),
        }
        if p.content_weight:
            contents = [self.project(modality, items) for modality in self.projection]
            align = [distance(x, item_rows, item_target) for x in contents]
            mask = [distance(x, item_rows, self.target(x).index_select(0, item_rows)) for x in contents]
            terms["alignment"] = p.content_weight * torch.stack(align).sum()
            terms["masking"] = p.content_weight * torch.stack(mask).sum()
        return terms

    def project(self, modality: str, items: Tensor) -> Tensor:
        """Return the projected features of some items, (len(items), d)."""
        return self.projection[modality](self.features[modality].index_select(0, items))

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the predictions of users and items, without dropout."""
        users, items = self.propagate()
        return self.predictor(users), self.predictor(items)
