"""CM3 written down formula by formula, as the yardstick of `cm3_step.py`: nothing is fused, chunked or vectorised.

Names, shapes and order follow the description of the published program: COO graph products, `torch.pdist` over all
pairs, pair indices for the similarities, one matrix product a layer, negative items drawn again until one fits.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def normalised_graph(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> Tensor:
    """Return the user-item graph as a COO tensor: each edge divided by the roots of its nodes' degrees."""
    pairs = np.unique(np.stack([users, items + n_users]), axis=1)
    edges = np.concatenate([pairs, pairs[::-1]], axis=1)
    n = n_users + n_items
    scale = np.power(np.bincount(edges[0], minlength=n) + 1e-7, -0.5)
    values = torch.from_numpy((scale[edges[0]] * scale[edges[1]]).astype(np.float32))
    return torch.sparse_coo_tensor(torch.from_numpy(edges), values, (n, n), check_invariants=False).coalesce()


def neighbour_graph(neighbours: Tensor, weight: float) -> Tensor:
    """Return `weight` times the row average over the neighbours, as a COO tensor."""
    n, k = neighbours.shape
    indices = torch.stack([torch.arange(n).repeat_interleave(k), neighbours.reshape(-1)])
    return torch.sparse_coo_tensor(indices, torch.full((n * k,), weight / k), (n, n), check_invariants=False)


class RetryingSampler:
    """Draws items that occur in training until one is none of the user's own, one user after the other."""

    def __init__(self, users: np.ndarray, items: np.ndarray, seed: int) -> None:
        self.pool: list[int] = np.unique(items).tolist()
        self.own: dict[int, set[int]] = {}
        for user, item in zip(users.tolist(), items.tolist(), strict=True):
            self.own.setdefault(user, set()).add(item)
        self.random = random.Random(seed)

    def draw(self, users: Tensor) -> Tensor:
        """Return one negative item a user."""
        negatives = []
        for user in users.tolist():
            item = self.random.choice(self.pool)
            while item in self.own[user]:
                item = self.random.choice(self.pool)
            negatives.append(item)
        return torch.tensor(negatives)


class PlainCM3(nn.Module):
    """The model's formulas for image and text, with the program's names for the weights."""

    def __init__(
        self,
        graph: Tensor,
        item_graph: Tensor,
        image: Tensor,
        text: Tensor,
        n_users: int,
        *,
        size: int,
        n_layers: int,
        gamma: float,
        min_similarity: float,
        max_similarity: float,
        alpha: float,
    ) -> None:
        super().__init__()
        self.graph, self.item_graph, self.image, self.text = graph, item_graph, image, text
        self.n_users, self.n_layers, self.gamma, self.alpha = n_users, n_layers, gamma, alpha
        self.similarities = (min_similarity, max_similarity)
        self.theta = nn.Parameter(torch.zeros(n_users, 3))
        self.v_preference, self.t_preference, self.id_preference = (
            nn.Parameter(torch.zeros(n_users, size)) for _ in range(3)
        )
        self.v_MLP, self.v_MLP_1 = nn.Linear(image.shape[1], 4 * size), nn.Linear(4 * size, size, bias=False)
        self.t_MLP, self.t_MLP_1 = nn.Linear(text.shape[1], 4 * size), nn.Linear(4 * size, size, bias=False)
        self.image_nn, self.text_nn = nn.Linear(image.shape[1], size), nn.Linear(text.shape[1], size)

    def mix(self, positions: Tensor) -> Tensor:
        """Return the fused content, on the arc between the text's and the image's unit vectors."""
        a, b = F.normalize(self.text_nn(self.text), dim=1), F.normalize(self.image_nn(self.image), dim=1)
        angle = torch.arccos((a * b).sum(dim=1, keepdim=True).clamp(-1 + 1e-8, 1 - 1e-8))
        t = positions[:, None]
        return torch.sin(t * angle) / torch.sin(angle) * a + torch.sin((1 - t) * angle) / torch.sin(angle) * b

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return user vectors, item vectors and the fused content of all users and items."""
        visual = self.v_MLP_1(F.leaky_relu(self.v_MLP(self.image)))
        textual = self.t_MLP_1(F.leaky_relu(self.t_MLP(self.text)))
        mixed = self.mix(positions)
        blocks = [(self.v_preference, visual), (self.t_preference, textual), (self.id_preference, mixed)]
        layer = torch.cat([F.normalize(torch.cat(block), dim=1) for block in blocks], dim=1)
        layers = [layer]
        for _ in range(self.n_layers):
            layer = torch.sparse.mm(self.graph, layer)
            layers.append(layer)
        nodes = torch.stack(layers, dim=1).sum(dim=1)
        users, items = nodes[: self.n_users], nodes[self.n_users :]
        shares = torch.softmax(self.theta, dim=1)
        users = torch.cat([shares[:, [i]] * part for i, part in enumerate(users.chunk(3, dim=1))], dim=1)
        return users, items + torch.sparse.mm(self.item_graph, items), mixed

    def loss(self, batch_users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return alignment plus half gamma times both uniformity terms."""
        alpha = torch.full((len(self.image),), self.alpha)
        users, items, mixed = self.forward(torch.distributions.Beta(alpha, alpha).sample())
        users, items = F.normalize(users, dim=1), F.normalize(items, dim=1)
        u, p, n, m = users[batch_users], items[positives], items[negatives], mixed[negatives]
        align = (u - p).norm(dim=1).pow(2).mean()
        uniform = torch.pdist(u).pow(2).mul(-2).exp().mean().log()
        first, second = torch.triu_indices(len(n), len(n), offset=1)
        m = m / m.norm(dim=1, keepdim=True)
        similarity = (m @ m.T)[first, second].clamp(*self.similarities)
        calibrated = (torch.pdist(n).pow(2) - 2 + 2 * similarity).mul(-2).exp().mean().log()
        return align + self.gamma / 2 * (uniform + calibrated)
