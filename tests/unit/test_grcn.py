from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import Batch, ItemContent, build_model
from mmrepro.models.grcn import GRCN
from mmrepro.ops.interactions import Interactions
from mmrepro.training.optimiser import Adam
from mmrepro.training.sampling import NegativeSampler, epoch_batches

N_USERS, N_ITEMS, SIZE = 30, 20, 8
pytestmark = pytest.mark.usefixtures("one_thread")
SETS = (("image",), ("text",), ("image", "text"), ("text", "audio", "image"))


def interactions() -> Interactions:
    """User 0 and item 0 have no pair, and one pair stands twice."""
    bought = np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.3
    bought[0], bought[:, 0] = False, False
    users, items = bought.nonzero()
    return Interactions(np.append(users, users[0]), np.append(items, items[0]), N_USERS, N_ITEMS)


def content(modalities: tuple[str, ...]) -> ItemContent:
    generator = torch.Generator().manual_seed(1)
    return ItemContent({m: torch.randn(N_ITEMS, 6 + 2 * i, generator=generator) for i, m in enumerate(modalities)})


def build(modalities: tuple[str, ...] = SETS[2], **parameters: object) -> GRCN:
    torch.manual_seed(3)
    model = build_model("grcn", interactions(), content(modalities), {"embedding_size": SIZE, **parameters}, Protocol())
    assert isinstance(model, GRCN)
    return model


def a_batch() -> Batch:
    data = interactions()
    return next(iter(epoch_batches(data, NegativeSampler(data), 64, seed=0, epoch=1)))


def dense_vectors(model: GRCN, routings: int) -> Tensor:
    """All nodes' vectors by dense masks over all pairs of nodes, in float64."""
    data, n = interactions(), N_USERS + N_ITEMS
    edges = torch.zeros(n, n, dtype=torch.bool)
    edges[data.users, data.items + N_USERS] = edges[data.items + N_USERS, data.users] = True
    weight, confidence = torch.full((n, n), -torch.inf).double(), model.confidence.detach().double()
    parts = []
    for number, m in enumerate(model.modalities):
        layer = model.projection[m].double()
        items = F.normalize(F.leaky_relu(layer(model.get_buffer(f"features_{m}").double())).detach())
        layer.float()
        users = F.normalize(model.preference[m].detach().double())
        for _ in range(routings):
            shares = torch.softmax((users @ items.T).masked_fill(~edges[:N_USERS, N_USERS:], -torch.inf), dim=1)
            users = F.normalize(users + shares.nan_to_num(0) @ items)
        x = torch.cat([users, items])
        shares = torch.softmax((x @ x.T).masked_fill(~edges, -torch.inf), dim=1).nan_to_num(0)
        parts.append(x + shares @ x)
        weight = torch.maximum(weight, shares * confidence[:, number])
    layers = [F.normalize(model.identity.detach().double())]
    for _ in range(2):
        layers.append(weight.clamp(min=0) @ layers[-1])
    return torch.cat([sum(layers[1:], layers[0]), *parts], dim=1)


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize(("refined", "layers", "routings"), [(True, 2, 2), (True, 0, 0), (False, 2, 0)])
def test_vectors_equal_those_of_dense_matrices(
    modalities: tuple[str, ...], refined: bool, layers: int, routings: int
) -> None:
    model = build(modalities, refine_preferences=refined, n_layers=layers)
    vectors = torch.cat(model.embed())
    assert vectors.shape == (N_USERS + N_ITEMS, SIZE * (1 + len(modalities)))
    torch.testing.assert_close(vectors.double(), dense_vectors(model, routings), rtol=1e-5, atol=1e-6)


def test_routing_moves_preferences_and_only_where_it_is_asked_for() -> None:
    by_layers = [build(n_layers=n).embed()[0] for n in (0, 1, 2)]
    assert all(float((a - b).detach().abs().max()) > 0.01 for a, b in pairwise(by_layers))
    program = [build(n_layers=n, refine_preferences=False).embed()[0] for n in (0, 3)]
    assert torch.equal(program[0], program[1]) and torch.equal(program[0], by_layers[0])
    assert GRCN.released.parameters == {"refine_preferences": False} and GRCN.released.scores_with_last_batch


@pytest.mark.parametrize("modalities", [SETS[0], SETS[2]])
def test_an_edge_that_every_modality_doubts_carries_nothing(modalities: tuple[str, ...]) -> None:
    model = build(modalities)
    start = F.normalize(model.identity.detach())
    with torch.no_grad():
        model.confidence.fill_(-1.0)
        torch.testing.assert_close(torch.cat(model.embed())[:, :SIZE], start)
        model.confidence[:, -1] = 0.5  # one modality alone trusts its edges
        moved = (torch.cat(model.embed())[:, :SIZE] - start).abs().amax(dim=1) > 1e-4
    with_edges = {*interactions().users, *(N_USERS + interactions().items)}
    assert {0, N_USERS}.isdisjoint(with_edges) and {*moved.nonzero().flatten().tolist()} == with_edges


def test_loss_equals_the_formulas_and_charges_one_whole_table() -> None:
    model, (users, positives, negatives) = build(reg_weight=0.5), a_batch()
    vectors = dense_vectors(model, 3)
    scores = [(vectors[users] * vectors[N_USERS + i]).sum(1) for i in (positives, negatives)]
    identity = model.identity.detach().double()
    pairs = [identity[users].square().sum() + identity[N_USERS + i].square().sum() for i in (positives, negatives)]
    tables = [model.preference[m].detach().double() for m in ("image", "text")]
    squares = (pairs[0] + pairs[1]) / (2 * len(users) * SIZE) + tables[0].square().mean()
    squares = squares + sum(t[users].square().mean() for t in tables)
    found = {name: float(term.detach()) for name, term in model.loss(a_batch()).items()}
    expected = {"bpr": -torch.log(torch.sigmoid(scores[0] - scores[1])).mean(), "regulariser": 0.5 * squares}
    assert found == {name: pytest.approx(float(value), rel=1e-5) for name, value in expected.items()}


@pytest.mark.parametrize(("modalities", "bfloat16"), [*((m, False) for m in SETS), (SETS[2], True)])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model, losses = build(modalities), []
    optimiser = Adam(model.parameters(), learning_rate=0.02, weight_decay=0.0)
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.stack(list(model.loss(a_batch()).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    with torch.no_grad():
        assert all(
            torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(model.embed(), model.embed(), strict=True)
        )


def test_needs_features() -> None:
    with pytest.raises(MmreproError, match="model 'grcn' needs item features"):
        build_model("grcn", interactions(), ItemContent(), {}, Protocol())
