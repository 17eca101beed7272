"""MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation (Wei et al., MM 2019; methods, 3.11)."""

from __future__ import annotations

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
from mmrepro.ops.graphs import SparseGraph, product, random_walk_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import bpr_log_sigmoid, unit

N_LAYERS = 3
PROJECTED = 256  # columns of the image after its projection
WIDEST = 1024  # columns of a modality that enters the graph as it is


class MMGCNParameters(ContentParameters):
    """Parameters of MMGCN."""

    reg_weight: float = Field(1e-3, ge=0, description="of the mean squares of ID vectors and preferences")
    train_embeddings: bool = Field(True, description="learn ID vectors and preferences; the program leaves them random")


class MMGCN(Model):
    """One graph network a modality, tied by the ID vectors; the final vectors are the mean over modalities.

    In a layer, a node's own vector is projected and its ID vector added; the mean of its neighbours' transformed
    vectors is set beside it, and both are combined (the paper's concatenation). A network starts from the unit rows of
    the users' preferences and the items' features. As in the program, the image is first projected to 256 columns and
    other modalities enter as they are; here those wider than 1,024 are projected too.

    The program never trains the preferences and the ID vectors, which stay as drawn; in the paper, which is the
    default, they are learned (`train_embeddings`). The rest is the program's: the mean over modalities where the paper
    has their sum, and a regulariser of the batch's ID vectors and the preferences of projected modalities alone, which
    is a constant in the program. Its unstabilised ranking loss differs only where that overflows.
    """

    Parameters = MMGCNParameters
    uses_features = True
    released = ReleasedBehaviour(scores_with_last_batch=True, parameters={"train_embeddings": False})
    reference_names = {
        "id_embedding": "id_embedding",
        "v_gcn.MLP.weight": "networks.image.projection.weight",
        "v_gcn.MLP.bias": "networks.image.projection.bias",
        **{
            f"{short}_gcn.{theirs.format(layer + 1)}": f"networks.{modality}.{ours}.{layer}{kind}"
            for short, modality in (("v", "image"), ("t", "text"))
            for layer in range(N_LAYERS)
            for theirs, ours, kind in (
                ("conv_embed_{}.weight", "neighbour", ""),
                ("linear_layer{}.weight", "own", ".weight"),
                ("linear_layer{}.bias", "own", ".bias"),
                ("g_layer{}.weight", "combine", ".weight"),
                ("g_layer{}.bias", "combine", ".bias"),
            )
        },
        "v_preference": "networks.image.preference",
        "t_preference": "networks.text.preference",
    }

    def __init__(self, interactions: Interactions, content: ItemContent, parameters: MMGCNParameters) -> None:
        super().__init__()
        self.parameters_ = parameters
        self.n_users = interactions.n_users
        self.graph = random_walk_graph(
            interactions.users, interactions.items, interactions.n_users, interactions.n_items
        )
        self.networks = nn.ModuleDict(
            {
                modality: _Network(matrix, self.n_users, parameters.embedding_size, modality == "image")
                for modality, matrix in require_features(content, "mmgcn").items()
            }
        )
        self.id_embedding = xavier_normal(interactions.n_users + interactions.n_items, parameters.embedding_size)
        for table in (self.id_embedding, *(network.preference for network in self._networks())):
            table.requires_grad_(parameters.train_embeddings)

    def _networks(self) -> list[_Network]:
        return [network for network in self.networks.children() if isinstance(network, _Network)]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the ranking loss and the regulariser."""
        user_vectors, item_vectors = self.embed()
        users = user_vectors.index_select(0, batch.users)
        items = torch.cat([batch.positives, batch.negatives])
        positives, negatives = item_vectors.index_select(0, items).split(len(batch.users))
        squares = [self.id_embedding.index_select(0, nodes) for nodes in (batch.users, self.n_users + items)]
        squares += [network.preference for network in self._networks() if network.projection is not None]
        return {
            "bpr": bpr_log_sigmoid((users * (positives - negatives)).sum(dim=1)),
            "regulariser": self.parameters_.reg_weight * torch.stack([x.square().mean() for x in squares]).sum(),
        }

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return the mean of the networks' vectors."""
        networks = self._networks()
        nodes = torch.stack([network(self.graph, self.id_embedding) for network in networks]).mean(dim=0)
        return nodes[: self.n_users], nodes[self.n_users :]


class _Network(nn.Module):
    """The graph network of a modality: three layers, of which the first keeps the modality's width."""

    features: Tensor

    def __init__(self, features: Tensor, n_users: int, size: int, project: bool) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        dim = features.shape[1]
        self.projection = nn.Linear(dim, PROJECTED) if project or dim > WIDEST else None
        dim = PROJECTED if self.projection is not None else dim
        self.preference = xavier_normal(n_users, dim)
        widths = (dim, size, size)
        self.neighbour = nn.ParameterList([xavier_normal(width, width) for width in widths])
        self.own = nn.ModuleList([nn.Linear(width, size) for width in widths])
        self.combine = nn.ModuleList([nn.Linear(width + size, size) for width in widths])
        for layer in (*self.own, self.combine[0]):  # the other two keep PyTorch's own start, as in the program
            nn.init.xavier_normal_(layer.get_parameter("weight"))

    def forward(self, graph: SparseGraph, identities: Tensor) -> Tensor:
        """Return the vectors of all nodes after the last layer, users first."""
        items, layer = self.features, self.projection
        if layer is not None:
            items = linear_of_constant(items, layer.weight, layer.bias)
        x = unit(torch.cat([self.preference, items]))
        for transform, own, combine in zip(self.neighbour, self.own, self.combine, strict=True):
            near = F.leaky_relu(product(graph, x @ transform))
            x = F.leaky_relu(combine(torch.cat([near, F.leaky_relu(own(x)) + identities], dim=1)))
        return x
