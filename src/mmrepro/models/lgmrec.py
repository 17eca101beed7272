"""LGMRec: Local and Global Graph Learning for Multimodal Recommendation (Guo et al., AAAI 2024; methods, 3.15)."""

from __future__ import annotations

import itertools

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
    xavier_uniform,
)
from mmrepro.ops.contrast import contrast_with_all
from mmrepro.ops.dense import linear_of_constant
from mmrepro.ops.graphs import GRAPH_EPSILON, interaction_graph, layer_mean, product, user_item_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr_log_sigmoid, embedding_norm, unit

INCIDENCE_TEMPERATURE = 0.2  # of the Gumbel softmax over hyperedges


class LGMRecParameters(ContentParameters):
    """Parameters of LGMRec; a term of the loss whose weight is 0 is left out."""

    n_layers: int = Field(2, ge=0, description="convolutions of ID vectors on the user-item graph")
    n_modality_layers: int = Field(2, ge=0, description="convolutions of modality vectors on the user-item graph")
    n_hyper_layers: int = Field(1, ge=1, description="passages from items to hyperedges and back")
    hyperedges: int = Field(4, ge=1, description="hyperedges a modality")
    keep_rate: float = Field(0.5, gt=0, le=1, description="share of the incidences that a training step keeps")
    global_weight: float = Field(0.3, ge=0, description="of the unit vectors from the hypergraphs")
    contrast_weight: float = Field(1e-4, ge=0, description="of the contrast between modalities, a sum over the batch")
    reg_weight: float = Field(1e-6, ge=0, description="of the un-squared norms of the batch's vectors")
    temperature: float = Field(0.2, gt=0, description="of the contrast between modalities")


class LGMRec(Model):
    """ID vectors and modality vectors from the user-item graph, and vectors from learned hyperedges of each modality.

    An item belongs to hyperedges by its features, a user by the sum of its items'; both through a softmax with Gumbel
    noise. The program draws the noise also while ranking; here that is `ranking_draw: last_batch` of the protocol, and
    otherwise ranking uses the noise's mean, which is the same for all hyperedges and cancels in the softmax.

    Any number of modalities: local and global vectors are summed over them. The contrast, which the program defines for
    image against text, is the mean over all pairs of modalities in the order of the feature set, the first of a pair
    contrasted with all rows of the second; a single modality has no pair and no such term. As in the program it is a
    sum over the batch, so that its weight grows with `batch_size`, and the features are fixed.
    """

    Parameters = LGMRecParameters
    uses_features = True
    released = ReleasedBehaviour(patience=20)
    reference_names = {
        "user_embedding.weight": "user_embedding",
        "item_id_embedding.weight": "item_embedding",
        "item_image_trs": "projections.image",
        "item_text_trs": "projections.text",
        "v_hyper": "hyperedges.image",
        "t_hyper": "hyperedges.text",
    }
    reference_parameters = {
        "n_ui_layers": "n_layers",
        "n_mm_layers": "n_modality_layers",
        "n_hyper_layer": "n_hyper_layers",
        "hyper_num": "hyperedges",
        "keep_rate": "keep_rate",
        "alpha": "global_weight",
        "cl_weight": "contrast_weight",
        "reg_weight": "reg_weight",
    }
    reference_draws = {"zero": "draw_noise"}

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: LGMRecParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.n_users = interactions.n_users
        features, size = require_features(content, "lgmrec"), parameters.embedding_size
        self.modalities = tuple(features)
        for modality, matrix in features.items():
            self.register_buffer(f"features_{modality}", matrix, persistent=False)
        self.user_embedding = xavier_uniform(interactions.n_users, size)
        self.item_embedding = xavier_uniform(interactions.n_items, size)
        self.projections = nn.ParameterDict({m: xavier_uniform(x.shape[1], size) for m, x in features.items()})
        self.hyperedges = nn.ParameterDict(
            {m: xavier_uniform(x.shape[1], parameters.hyperedges) for m, x in features.items()}
        )
        pairs = interactions.users, interactions.items, interactions.n_users, interactions.n_items
        self.graph, self.interactions = user_item_graph(*pairs), interaction_graph(*pairs)
        degrees = product(self.interactions, torch.ones(interactions.n_items, 1))
        self.register_buffer("user_scale", 1 / (degrees + GRAPH_EPSILON), persistent=False)

    def draw_noise(self, rows: int) -> Tensor:
        """Draw standard Gumbel noise on the CPU, as a replayed draw needs it, shape (rows, hyperedges)."""
        noise = torch.empty(rows, self.parameters_.hyperedges).exponential_().log_().neg_()
        return noise.to(self.user_embedding.device)

    def project(self) -> tuple[Tensor, list[Tensor]]:
        """Return modality vectors side by side, and each modality's logits (.., hyperedges), users first.

        Vectors of users are means over their items, logits of users sums.
        """
        widths, items = (self.parameters_.embedding_size, self.parameters_.hyperedges), []
        for modality in self.modalities:
            weight = torch.cat([self.projections[modality], self.hyperedges[modality]], dim=1).T
            features, bias = self.get_buffer(f"features_{modality}"), weight.new_zeros(len(weight))
            items.append(linear_of_constant(features, weight, bias))
        users = product(self.interactions, torch.cat(items, dim=1)).chunk(len(items), dim=1)
        vectors, logits = [], []
        for both in zip(users, items, strict=True):
            (sums, own), of_edges = zip(*(x.split(widths, dim=1) for x in both), strict=True)
            vectors.append(torch.cat([self.user_scale * sums, own]))
            logits.append(torch.cat(of_edges))
        return torch.cat(vectors, dim=1), logits

    def incidences(self, logits: list[Tensor], draw: bool, drop: bool) -> list[Tensor]:
        """Return each modality's membership of nodes in hyperedges, (n_users + n_items, hyperedges)."""
        noisy = [x + self.draw_noise(len(x)) for x in logits] if draw else logits
        soft = [(x / INCIDENCE_TEMPERATURE).softmax(dim=1) for x in noisy]
        return [F.dropout(x, 1 - self.parameters_.keep_rate, drop) for x in soft]

    def global_view(self, incidence: Tensor, items: Tensor) -> Tensor:
        """Pass item vectors (n_items, d) to a modality's hyperedges and on to all nodes, (n_users + n_items, d)."""
        of_items = incidence[self.n_users :]
        edges = of_items.T @ items
        for _ in range(self.parameters_.n_hyper_layers - 1):
            edges = of_items.T @ (of_items @ edges)
        return incidence @ edges

    def views(self, draw: bool, drop: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return ID vectors, modality vectors side by side, and each modality's global vectors, users first."""
        p = self.parameters_
        local, logits = self.project()
        identities = layer_mean(self.graph, torch.cat([self.user_embedding, self.item_embedding]), p.n_layers)
        for _ in range(p.n_modality_layers):
            local = product(self.graph, local)
        items = identities[self.n_users :]
        return identities, local, [self.global_view(x, items) for x in self.incidences(logits, draw, drop)]

    def fuse(self, identities: Tensor, local: Tensor, across: Tensor) -> Tensor:
        """Return the final vectors (rows, d) of nodes; `across` is the sum of their global vectors."""
        by_modality = local.view(len(local), len(self.modalities), -1)
        return identities + unit(by_modality).sum(dim=1) + self.parameters_.global_weight * unit(across)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss, the regulariser and the contrast between modalities."""
        p = self.parameters_
        identities, local, across = self.views(draw=True, drop=True)
        nodes = torch.cat([batch.users, self.n_users + batch.positives, self.n_users + batch.negatives])
        distinct, places = nodes.unique(return_inverse=True)
        vectors = self.fuse(*(x.index_select(0, distinct) for x in (identities, local, torch.stack(across).sum(dim=0))))
        users, positives, negatives = vectors.index_select(0, places).split(len(batch.users))
        terms = {"bpr": bpr_log_sigmoid((users * (positives - negatives)).sum(dim=1))}
        if p.reg_weight:
            terms["regulariser"] = p.reg_weight * embedding_norm(users, positives, negatives)
        if p.contrast_weight and len(across) > 1:
            terms["contrast"] = p.contrast_weight * self._contrast(across, batch)
        return terms

    def _contrast(self, across: list[Tensor], batch: Batch) -> Tensor:
        """The batch's users and positive items in one modality against all in another, mean over the pairs."""
        terms = []
        for pair in itertools.combinations(across, 2):
            for side, members in ((slice(self.n_users), batch.users), (slice(self.n_users, None), batch.positives)):
                vectors, others = (x[side] for x in pair)
                terms.append(contrast_with_all(vectors, others, members, self.parameters_.temperature))
        return 2 * torch.stack(terms).mean()

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return final vectors with all incidences kept and without noise."""
        return self._vectors(draw=False)

    def embed_drawn(self) -> tuple[Tensor, Tensor]:
        """Return them with Gumbel noise in the incidences."""
        return self._vectors(draw=True)

    def _vectors(self, draw: bool) -> tuple[Tensor, Tensor]:
        identities, local, across = self.views(draw, drop=False)
        vectors = self.fuse(identities, local, torch.stack(across).sum(dim=0))
        return vectors[: self.n_users], vectors[self.n_users :]
