"""CM3: Calibrating Multimodal Recommendation (Zhou, Wang, Shen, arXiv 2508.01226, 2025; methods, 3.4 and 5.1)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mmrepro.config.protocol import Protocol
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
from mmrepro.ops.dense import linear_of_constant
from mmrepro.ops.fusion import spherical_bezier
from mmrepro.ops.graphs import layer_sum, neighbour_mean_graph, product, user_item_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import alignment, calibrated_uniformity, uniformity, unit


class CM3Parameters(ContentParameters):
    """Parameters of CM3."""

    n_layers: int = Field(3, ge=0, description="convolutions on the user-item graph")
    n_item_layers: int = Field(1, ge=0, description="convolutions on the item graph")
    neighbours: int = Field(10, ge=1, description="items a row of the item graph, the item itself included")
    image_weight: float = Field(0.1, ge=0, le=1, description="of `image` in the item graph; the others share the rest")
    alignment_weight: float = Field(1.0, ge=0, description="of the alignment term; 0 leaves it out")
    gamma: float = Field(0.5, ge=0, description="weight of the uniformity terms")
    uniformity_weight: Literal["half_gamma", "gamma"] = Field(
        "half_gamma", description="program, or re-implementations"
    )
    min_similarity: float = Field(0.0, ge=-1, le=1, description="lower clamp of content similarity")
    max_similarity: float = Field(0.8, ge=-1, le=1, description="upper clamp of content similarity")
    fusion: Literal["spherical_bezier", "mean", "sum", "concatenation"] = Field(
        "spherical_bezier", description="of the modalities' unit vectors; concatenation: through a linear layer"
    )
    mixing: bool = Field(True, description="false: the curve's middle is taken in training too, nothing is drawn")
    alpha: float = Field(0.5, gt=0, description="the mixing position is drawn from Beta(alpha, alpha)")
    bezier: Literal["triangular", "iterated"] = Field("triangular", description="scheme for three modalities and more")
    score_vectors: Literal["raw", "unit"] = Field("raw", description="vectors whose inner products rank")


class CM3(Model):
    """Alignment of users with their items, and uniformity calibrated by the items' fused content.

    There are no item IDs: items are their content, one block a modality and one for the fused vector. Departures of
    the program from the paper are parameters here (`uniformity_weight`, `bezier`, `score_vectors`) or switches of the
    protocol (`score_with`, `ranking_draw`, `angle_clamp`, `weight_decay`). Parts are taken away by `fusion`, `mixing`,
    `alignment_weight` 0, `n_item_layers` 0, and for plain uniformity `min_similarity` and `max_similarity` 1.
    """

    Parameters = CM3Parameters
    uses_features = True
    released = ReleasedBehaviour(patience=10, scores_with_last_batch=True, ignores_weight_decay=True)
    reference_names = {
        "theta": "block_weights",
        "v_preference": "preference.image",
        "t_preference": "preference.text",
        "id_preference": "preference.fused",
        "v_MLP.weight": "hidden.image.weight",
        "v_MLP.bias": "hidden.image.bias",
        "v_MLP_1.weight": "output.image.weight",
        "t_MLP.weight": "hidden.text.weight",
        "t_MLP.bias": "hidden.text.bias",
        "t_MLP_1.weight": "output.text.weight",
        "image_nn.weight": "fusion.image.weight",
        "image_nn.bias": "fusion.image.bias",
        "text_nn.weight": "fusion.text.weight",
        "text_nn.bias": "fusion.text.bias",
    }
    reference_parameters = {
        "n_ui_layers": "n_layers",
        "n_mm_layers": "n_item_layers",
        "knn_k": "neighbours",
        "mm_image_weight": "image_weight",
        "gamma": "gamma",
        "min_sim": "min_similarity",
        "max_sim": "max_similarity",
        "alpha": "alpha",
    }
    reference_draws = {"lambda": "draw_positions"}

    def __init__(
        self, interactions: Interactions, content: ItemContent, parameters: CM3Parameters, protocol: Protocol
    ) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.safe_angle = protocol.angle_clamp == "safe"
        self.n_users = interactions.n_users
        features = require_features(content, "cm3")
        self.modalities = tuple(features)
        for modality, matrix in features.items():
            self.register_buffer(f"features_{modality}", matrix, persistent=False)
        size = parameters.embedding_size
        self.preference = nn.ParameterDict(
            {block: xavier_normal(self.n_users, size) for block in (*self.modalities, "fused")}
        )
        self.hidden = nn.ModuleDict({m: nn.Linear(x.shape[1], 4 * size) for m, x in features.items()})
        self.output = nn.ModuleDict({m: nn.Linear(4 * size, size, bias=False) for m in features})
        self.fusion = nn.ModuleDict({m: nn.Linear(x.shape[1], size) for m, x in features.items()})
        for layer in self.fusion.children():
            nn.init.xavier_normal_(layer.get_parameter("weight"))
        self.block_weights = xavier_normal(self.n_users, len(self.modalities) + 1)
        if parameters.fusion == "concatenation":
            self.narrow = nn.Linear(len(features) * size, size, bias=False)
        self.graph = user_item_graph(interactions.users, interactions.items, interactions.n_users, interactions.n_items)
        neighbours = {m: content.neighbours[m][:, : parameters.neighbours] for m in self.modalities}
        self.item_graph = neighbour_mean_graph(neighbours, image_shares(self.modalities, parameters.image_weight))
        self.n_items = interactions.n_items

    def draw_positions(self) -> Tensor:
        """Draw the position on the fusion curve, one an item, from Beta(alpha, alpha), shape (n_items,)."""
        if not self.parameters_.mixing:
            return self.middle()
        alpha = torch.full((self.n_items,), self.parameters_.alpha)
        return torch.distributions.Beta(alpha, alpha).sample().to(self.block_weights.device)

    def middle(self) -> Tensor:
        """Return the middle of the fusion curve for every item, shape (n_items,)."""
        return torch.full((self.n_items,), 0.5, device=self.block_weights.device)

    def project(self, positions: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return each modality's vectors and the fused ones, each (n_items, d) (methods, 3.4, steps 1 and 2)."""
        projected, points = {}, []
        for modality in self.modalities:
            layers = (self.hidden[modality], self.fusion[modality])
            weight, bias = (torch.cat([layer.get_parameter(p) for layer in layers]) for p in ("weight", "bias"))
            both = linear_of_constant(
                getattr(self, f"features_{modality}"), weight, bias
            )  # one product for both first layers
            first, point = both.split([4 * self.parameters_.embedding_size, self.parameters_.embedding_size], dim=1)
            projected[modality] = self.output[modality](F.leaky_relu(first))
            points.append(unit(point))
        return projected, self.fuse(points, positions.to(points[0].dtype)[:, None])

    def fuse(self, points: list[Tensor], positions: Tensor) -> Tensor:
        """Return one vector an item, (n_items, d), from its modalities' unit vectors.

        Mean, sum and concatenation leave the sphere, and `propagate` leaves them their length: brought back to it, mean
        and sum would be one thing, for two modalities the curve's middle.
        """
        match self.parameters_.fusion:
            case "mean":
                return torch.stack(points).mean(dim=0)
            case "sum":
                return torch.stack(points).sum(dim=0)
            case "concatenation":
                return self.narrow(torch.cat(points, dim=1)).to(points[0].dtype)
        return spherical_bezier(points, positions, self.parameters_.bezier, self.safe_angle)

    def propagate(self, projected: dict[str, Tensor], fused: Tensor) -> tuple[Tensor, Tensor]:
        """Return user nodes and item vectors, each ((|M| + 1) d) wide (methods, 3.4, steps 3, 4 and 6)."""
        blocks = [unit(torch.cat([self.preference[m], projected[m].to(fused.dtype)])) for m in self.modalities]
        fused = unit(fused) if self.parameters_.fusion == "spherical_bezier" else fused
        blocks.append(torch.cat([unit(self.preference["fused"]), fused]))
        nodes = layer_sum(self.graph, torch.cat(blocks, dim=1), self.parameters_.n_layers)
        items = near = nodes[self.n_users :]
        for _ in range(self.parameters_.n_item_layers):
            near = product(self.item_graph, near)
        return nodes[: self.n_users], items + near

    def weigh_blocks(self, nodes: Tensor, weights: Tensor) -> Tensor:
        """Weigh the blocks of user vectors by a softmax over each user's numbers (methods, 3.4, step 5)."""
        shares = torch.softmax(weights, dim=1)[:, :, None]
        return (nodes.view(len(nodes), shares.shape[1], -1) * shares).reshape(len(nodes), -1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return alignment, uniformity of users and calibrated uniformity of negative items."""
        projected, fused = self.project(self.draw_positions())
        nodes, items = self.propagate(projected, fused)
        weights = self.block_weights.index_select(0, batch.users)
        users = unit(self.weigh_blocks(nodes.index_select(0, batch.users), weights))
        both = unit(items.index_select(0, torch.cat([batch.positives, batch.negatives])))
        positives, negatives = both.split([len(batch.positives), len(batch.negatives)])
        p = self.parameters_
        gamma = p.gamma / 2 if p.uniformity_weight == "half_gamma" else p.gamma
        contents = unit(fused.index_select(0, batch.negatives))
        calibrated = calibrated_uniformity(negatives, contents, p.min_similarity, p.max_similarity)
        terms = {"alignment": p.alignment_weight * alignment(users, positives)} if p.alignment_weight else {}
        return {**terms, "user_uniformity": gamma * uniformity(users), "item_uniformity": gamma * calibrated}

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the vectors whose inner products rank, from the middle of the curve."""
        return self._vectors(self.middle())

    def embed_drawn(self) -> tuple[Tensor, Tensor]:
        """Return them from drawn positions on the curve."""
        return self._vectors(self.draw_positions())

    def _vectors(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        projected, fused = self.project(positions)
        nodes, items = self.propagate(projected, fused)
        users = self.weigh_blocks(nodes, self.block_weights)
        return (unit(users), unit(items)) if self.parameters_.score_vectors == "unit" else (users, items)
