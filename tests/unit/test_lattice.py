from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mmrepro.models.lattice as module
from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import Batch, ItemContent, build_model
from mmrepro.models.lattice import Lattice
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import half_squared_norm, unit
from mmrepro.ops.neighbours import nearest_neighbours
from mmrepro.training.optimiser import Adam
from mmrepro.training.sampling import NegativeSampler, epoch_batches

pytestmark = pytest.mark.usefixtures("one_thread")
REFERENCE = Path(__file__).parents[1] / "reference/data"
N_USERS, N_ITEMS = 30, 20
SETS = (("image",), ("image", "text"), ("text", "audio", "image"))
ONCE_AN_EPOCH = ("modal_weight", "features", "projection")


def interactions() -> Interactions:
    users, items = (np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.3).nonzero()
    return Interactions(users, items, N_USERS, N_ITEMS)


def content(modalities: tuple[str, ...]) -> ItemContent:
    generator = torch.Generator().manual_seed(1)
    features = {m: torch.randn(N_ITEMS, 6 + 2 * i, generator=generator) for i, m in enumerate(modalities)}
    return ItemContent(features, {m: nearest_neighbours(x, 10)[0] for m, x in features.items()})


def build(modalities: tuple[str, ...] = SETS[1], **parameters: object) -> Lattice:
    torch.manual_seed(3)
    values = {"embedding_size": 8, "neighbours": 4, "batch_size": 64, **parameters}
    model = build_model("lattice", interactions(), content(modalities), values, Protocol())
    assert isinstance(model, Lattice)
    with torch.no_grad():
        model.modal_weight += torch.linspace(-0.5, 0.5, len(modalities))
    return model


def a_batch() -> Batch:
    data = interactions()
    return next(iter(epoch_batches(data, NegativeSampler(data), 64, seed=0, epoch=1)))


def total(model: Lattice) -> Tensor:
    return torch.stack(list(model.loss(a_batch()).values())).sum()


def dense_item_graph(model: Lattice) -> Tensor:
    """The mixed item graph by dense matrices, in float64; its rank order of cosines is that of float64."""
    shares, k = torch.softmax(model.modal_weight.double(), dim=0), model.parameters_.neighbours
    learned = raw = torch.zeros(N_ITEMS, N_ITEMS, dtype=torch.float64)
    for m, share in zip(model.modalities, shares, strict=True):
        layer = model.projection[m]
        vectors = model.features[m].double() @ layer.weight.double().T + layer.bias.double()
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        cosines = vectors @ vectors.T
        kept = torch.zeros_like(cosines).scatter(1, cosines.topk(k, dim=1).indices, 1.0)
        learned = learned + share * kept * cosines
        raw = raw + share * model.frozen(m).dense().double()
    scale = torch.where(learned.sum(1) > 0, learned.sum(1), torch.inf) ** -0.5
    lam = model.parameters_.item_graph_share
    return (1 - lam) * scale[:, None] * learned * scale + lam * raw


def test_graphs_agree_with_the_reference() -> None:
    data, reference = np.load(REFERENCE / "dataset.npz"), np.load(REFERENCE / "lattice.npz")
    user, item, label = data["interactions"][:, :3].astype(int).T
    training = Interactions(user[label == 0], item[label == 0], *reference["scores"].shape)
    raw = {m: torch.from_numpy(data[m]).float() for m in ("image", "text")}
    neighbours = {m: nearest_neighbours(x, 10)[0] for m, x in raw.items()}
    model = build_model("lattice", training, ItemContent(raw, neighbours), {"item_graph_share": 0.9}, Protocol())
    assert isinstance(model, Lattice)
    with torch.no_grad():
        for theirs, ours in Lattice.reference_names.items():
            model.get_parameter(ours).copy_(torch.from_numpy(reference[f"param/{theirs}"]))
        learned = model.learned_graphs()
        found = {
            "norm_adj": model.graph.dense(),
            "image_original_adj": model.frozen("image").dense(),
            "text_original_adj": model.frozen("text").dense(),
            "image_adj": learned[0][0].dense(),  # the kept pairs; their cosines stand in `item_adj`
            "text_adj": learned[1][0].dense(),
            "item_adj": model.constant(learned).dense(),
        }
    for name, ours in found.items():
        theirs = reference[f"graph/{name}"]
        theirs = (theirs != 0).astype(np.float32) if name in ("image_adj", "text_adj") else theirs
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_item_graph_equals_that_of_dense_matrices(modalities: tuple[str, ...], share: float) -> None:
    model, items = build(modalities, item_graph_share=share), torch.randn(N_ITEMS, 5)
    with torch.no_grad():
        expected, learned = dense_item_graph(model), model.learned_graphs()
        torch.testing.assert_close(model.constant(learned).dense().double(), expected, rtol=1e-5, atol=1e-6)
        found = model.neighbour_sum(learned, items).double()
        torch.testing.assert_close(found, expected @ items.double(), rtol=1e-4, atol=1e-5)


def test_gradients_flow_through_cosines_normalisation_and_shares() -> None:
    model, items, weight = build(item_graph_share=0.5), torch.randn(N_ITEMS, 5), torch.randn(N_ITEMS, 5)
    parameters = [p for name, p in model.named_parameters() if name.startswith(ONCE_AN_EPOCH)]
    ours = torch.autograd.grad((model.neighbour_sum(model.learned_graphs(), items) * weight).sum(), parameters)
    theirs = torch.autograd.grad((dense_item_graph(model) @ items.double() * weight).sum(), parameters)
    assert len(parameters) == 7
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_vectors_are_those_of_lightgcn_plus_the_unit_vectors_of_the_item_graph() -> None:
    model = build(n_layers=2, n_item_layers=2)
    with torch.no_grad():
        start, graph = torch.cat([model.user_embedding, model.item_embedding]), model.graph.dense()
        torch.testing.assert_close(graph.sum(dim=1), torch.ones(N_USERS + N_ITEMS))
        expected = (start + graph @ start + graph @ graph @ start) / 3
        near = dense_item_graph(model).float()
        expected[N_USERS:] += unit(near @ near @ model.item_embedding)
        torch.testing.assert_close(torch.cat(model.embed()), expected, rtol=1e-4, atol=1e-5)
        terms = model.loss(a_batch())
    users, positives, negatives = expected[a_batch().users], *(expected[N_USERS + rows] for rows in a_batch()[1:])
    difference = (users * (positives - negatives)).sum(dim=1)
    assert float(terms["bpr"]) == pytest.approx(float(torch.log1p(torch.exp(-difference)).mean()), rel=1e-4)
    squares = 1e-4 * half_squared_norm(users, positives, negatives, rows=64)
    assert float(terms["regulariser"]) == pytest.approx(float(squares), rel=1e-4)


def test_the_first_batch_of_an_epoch_builds_the_graph_and_the_others_take_it_as_constant() -> None:
    model = build(item_graph_share=0.5)

    def with_gradient() -> set[str]:
        model.zero_grad()
        total(model).backward()
        return {name for name, p in model.named_parameters() if p.grad is not None}

    model.start_epoch()
    first, everything = total(model), {name for name, _ in model.named_parameters()}
    model.start_epoch()
    assert with_gradient() == everything
    assert with_gradient() == {"user_embedding", "item_embedding"} == with_gradient()
    torch.testing.assert_close(total(model), first)
    with torch.no_grad():
        for layer in model.projection.values():
            layer.weight.copy_(torch.randn_like(layer.weight))
    torch.testing.assert_close(total(model), first)  # the epoch's graph is up to one epoch old
    model.start_epoch()
    assert abs(float((total(model) - first).detach())) > 1e-4


def test_scoring_builds_the_graph_anew() -> None:
    model = build(item_graph_share=0.5)
    with torch.no_grad():
        total(model)
        before = model.embed()[1]
        model.epoch_graph = None
        assert torch.equal(model.embed()[1], before) and model.epoch_graph is None
        total(model)
        model.projection["image"].weight.copy_(torch.randn_like(model.projection["image"].weight))
        assert not torch.equal(model.embed()[1], before)


def test_a_search_is_repeated_only_for_other_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    model, searched = build(), []

    def counted(vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
        searched.append(vectors.shape)
        return nearest_neighbours(vectors, k)

    monkeypatch.setattr(module, "nearest_neighbours", counted)
    with torch.no_grad():
        first = model.embed()[1]
        model.start_epoch()
        total(model)
        assert len(searched) == 2 and torch.equal(model.embed()[1], first)
        model.projection["text"].bias += 1.0
        second = model.embed()[1]
        assert len(searched) == 3
        model.searches.clear()
        assert torch.equal(model.embed()[1], second) and not torch.equal(first, second)


def test_an_item_whose_row_sum_is_not_above_zero_gets_nothing_and_stays_finite() -> None:
    model = build(("image",), item_graph_share=0.0)
    with torch.no_grad():
        model.features["image"][3] = 0.0
        model.projection["image"].bias.zero_()  # a vector of zeros: all its cosines are 0
    learned = model.learned_graphs()
    dense = model.constant(learned).dense()
    assert bool((dense[3] == 0).all()) and bool((dense[:, 3] == 0).all()) and bool(dense.isfinite().all())
    total(model).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("modalities", "bfloat16", "trainable"),
    [*((m, False, True) for m in SETS), (SETS[1], True, True), (SETS[1], False, False)],
)
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool, trainable: bool) -> None:
    model, losses = build(modalities, trainable_features=trainable), []
    before = {m: model.features[m].clone() for m in modalities}
    optimiser = Adam(model.parameters(), learning_rate=0.02, weight_decay=0.0)
    for step in range(6):
        if step % 3 == 0:
            model.start_epoch()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = total(model)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.03
    assert all(torch.equal(model.features[m], before[m]) != trainable for m in modalities)
    with torch.no_grad():
        users, items = model.embed()
        assert users.shape == (N_USERS, 8) and items.shape == (N_ITEMS, 8) and users.dtype == torch.float32
        assert torch.equal(items, model.embed()[1])


def test_error_lines() -> None:
    with pytest.raises(MmreproError, match="model 'lattice' needs item features"):
        build_model("lattice", interactions(), ItemContent(), {}, Protocol())
    with pytest.raises(MmreproError, match="21 wanted of 20 items"):
        build(neighbours=21).embed()
