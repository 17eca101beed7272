"""Item features through two layers, and their propagation to users, one modality beside the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrepro.ops.dense import linear_of_constant
from mmrepro.ops.graphs import SparseGraph, layer_sum
from mmrepro.ops.losses import unit

HIDDEN_FACTOR = 4  # the programs' 256 hidden numbers for vectors of 64


class FeatureTower(nn.Module):
    """Two linear layers with a leaky ReLU (slope 0.01) between, applied to constant features (methods, 3.12).

    Parameters
    ----------
    features
        Shape (n_items, dim).
    size
        Length d of the resulting vectors; 4 d numbers are between the layers.
    """

    def __init__(self, features: Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.hidden = nn.Linear(features.shape[1], HIDDEN_FACTOR * size)
        self.output = nn.Linear(HIDDEN_FACTOR * size, size)

    def forward(self) -> Tensor:
        """Return the vectors of all items, shape (n_items, size)."""
        hidden = linear_of_constant(self.get_buffer("features"), self.hidden.weight, self.hidden.bias)
        return self.output(F.leaky_relu(hidden))


def propagate_modalities(
    graph: SparseGraph, preferences: nn.ParameterDict, towers: nn.ModuleDict, n_layers: int
) -> Tensor:
    """Sum the layers of each modality's user-item graph, starting from unit rows (methods, 3.12, T_m).

    Parameters
    ----------
    graph
        Graph over users and items, n = n_users + n_items nodes.
    preferences
        Modality to the users' vectors, shape (n_users, d).
    towers
        Modality to the `FeatureTower` of the items; their order is that of the result (a ParameterDict sorts its own).
    n_layers
        Number of propagation steps, at least 0.

    Returns
    -------
    Tensor
        Shape (n, modalities, d), users first.
    """
    starts = [unit(torch.cat([preferences[m], tower().to(preferences[m].dtype)])) for m, tower in towers.items()]
    nodes = layer_sum(graph, torch.cat(starts, dim=1), n_layers)
    return nodes.view(len(nodes), len(starts), -1)
