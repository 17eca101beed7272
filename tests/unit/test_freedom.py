import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import (
    N_ITEMS,
    N_USERS,
    loss_terms,
    planted_batch,
    planted_content,
    planted_dataset,
    planted_model,
    planted_trainer,
    training_pairs,
)

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import ItemContent
from mmrepro.models.freedom import FREEDOM
from mmrepro.ops.graphs import neighbour_mean_graph, user_item_graph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.neighbours import nearest_neighbours

pytestmark = pytest.mark.usefixtures("one_thread")
FAIR = Protocol()
REFERENCE = Path(__file__).parents[1] / "reference" / "data"
SETS = (("image",), ("image", "text"), ("image", "text", "audio"))
DATA = training_pairs(planted_dataset())


def build(content: ItemContent | None = None, data: Interactions = DATA, **parameters: Any) -> FREEDOM:
    model = planted_model("freedom", content=content, data=data, **{"neighbours": 4, **parameters})
    assert isinstance(model, FREEDOM)
    return model


def built_on(users: list[int], items: list[int], **parameters: object) -> FREEDOM:
    pairs = Interactions(np.array(users), np.array(items), N_USERS, N_ITEMS)
    return build(None, pairs, **parameters)


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model, batch = build(planted_content(modalities), reg_weight=0.1), planted_batch()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    model.start_epoch()
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            terms = model.loss(batch)
        assert set(terms) == {"bpr", *(f"bpr_{m}" for m in modalities)}
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    users, items = model.embed()
    assert users.shape == (N_USERS, 8) and items.shape == (N_ITEMS, 8) and users.dtype == torch.float32


def test_graphs_agree_with_the_reference() -> None:
    data, reference = np.load(REFERENCE / "dataset.npz"), np.load(REFERENCE / "freedom.npz")
    user, item, label = data["interactions"][:, :3].astype(int).T
    shape = reference["scores"].shape
    features = {m: torch.from_numpy(data[m]).float() for m in ("image", "text")}
    given = ItemContent(features, {m: nearest_neighbours(x, 10)[0] for m, x in features.items()})
    pairs = Interactions(user[label == 0], item[label == 0], *shape)
    model = build(given, pairs, neighbours=10, dropout=0)
    model.start_epoch()
    assert model.pruned_graph is None
    for name, ours in (("norm_adj", model.graph), ("masked_adj", model.graph), ("mm_adj", model.item_graph)):
        np.testing.assert_allclose(ours.dense().numpy(), reference[f"graph/{name}"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_item_graph_weighs_the_image_or_is_that_of_the_only_modality(weight: float) -> None:
    lists = {m: x[:, :4] for m, x in planted_content(SETS[1]).neighbours.items()}
    image, text = (neighbour_mean_graph({m: lists[m]}, {m: 1.0}).dense() for m in SETS[1])
    mixed = build(image_weight=weight).item_graph.dense()
    torch.testing.assert_close(mixed, weight * image + (1 - weight) * text)
    torch.testing.assert_close(build(planted_content(SETS[0]), image_weight=weight).item_graph.dense(), image)


@pytest.mark.parametrize(("dropout", "kept"), [(0.8, 199), (0.9, 99), (0.5, 500), (0.9999, 0)])
def test_so_many_edges_stay(dropout: float, kept: int) -> None:
    # 1 - 0.9 and 1 - 0.8 lie below 0.1 and 0.2: one edge fewer, as in the program
    users, items = (nodes.tolist() for nodes in np.divmod(np.arange(1000), N_ITEMS))
    model = built_on(users, items, dropout=dropout)
    drawn = model.draw_edges()
    assert len(drawn) == kept and bool((np.diff(drawn) > 0).all())
    model.start_epoch()
    assert model.pruned_graph is not None
    assert model.pruned_graph.matrix.values().shape == (2 * kept,)


def test_edges_are_drawn_as_one_after_the_other_without_replacement() -> None:
    # degrees: users 1, 2, 2; items 3, 1, 1
    model = built_on([0, 1, 1, 2, 2], [0, 0, 1, 0, 2], dropout=0.6)
    weights = np.array([3, 6, 2, 6, 2]) ** -0.5
    expected: Counter[tuple[int, ...]] = Counter()
    for first, second in itertools.permutations(range(5), 2):
        chance = weights[first] / weights.sum() * weights[second] / (weights.sum() - weights[first])
        expected[tuple(sorted((first, second)))] += chance
    torch.manual_seed(0)
    draws = 4000
    found = Counter(tuple(model.draw_edges()) for _ in range(draws))
    assert set(found) == set(expected)
    chi_square = sum((found[pair] - draws * p) ** 2 / (draws * p) for pair, p in expected.items())
    assert chi_square < 27.9  # 9 degrees of freedom, 0.1 %
    uniform = sum((found[pair] - draws / 10) ** 2 / (draws / 10) for pair in expected)
    assert uniform > 100


def test_pruned_graph_is_that_of_the_drawn_pairs() -> None:
    model = build(dropout=0.5)
    torch.manual_seed(7)
    kept = model.draw_edges()
    torch.manual_seed(7)
    model.start_epoch()
    assert model.pruned_graph is not None
    users, items = (nodes[kept] for nodes in model.edges)
    assert torch.equal(model.pruned_graph.dense(), user_item_graph(users, items, N_USERS, N_ITEMS).dense())


def test_an_epochs_graph_depends_on_its_seed_alone() -> None:
    graphs = []
    for before in (0, 3):
        model = build(dropout=0.5)
        for _ in range(before):
            model.start_epoch()
        torch.manual_seed(11)
        model.start_epoch()
        assert model.pruned_graph is not None
        graphs.append(model.pruned_graph.dense())
    model.start_epoch()
    assert torch.equal(*graphs) and not torch.equal(model.pruned_graph.dense(), graphs[0])


def test_training_sees_the_pruned_graph_and_scoring_the_whole_one() -> None:
    model = build(dropout=0.5)
    before, loss = model.embed(), loss_terms(model)
    model.start_epoch()
    assert all(torch.equal(a, b) for a, b in zip(model.embed(), before, strict=True))
    assert abs(loss_terms(model)["bpr"] - loss["bpr"]) > 1e-4
    whole = build(dropout=0)
    loss = loss_terms(whole)
    whole.start_epoch()
    assert loss_terms(whole) == loss


def test_repeated_pairs_are_one_edge() -> None:
    model, repeated = (built_on([0, 1, 1, *u], [0, 0, 1, *i], dropout=0.5) for u, i in (([], []), ([1, 1], [1, 0])))
    assert torch.equal(model.graph.dense(), repeated.graph.dense())
    assert len(repeated.edges[0]) == 3 and len(repeated.draw_edges()) == 1


def test_loss_equals_the_formulas_on_the_pruned_graph() -> None:
    model, (users, positives, negatives) = build(dropout=0.5, reg_weight=0.3, n_item_layers=2), planted_batch()
    model.start_epoch()
    assert model.pruned_graph is not None
    graph, item_graph = model.pruned_graph.dense().double(), model.item_graph.dense().double()
    start = torch.cat([model.user_embedding, model.item_embedding]).detach().double()
    nodes = (start + graph @ start + graph @ graph @ start) / 3
    u, items = nodes[users], nodes[N_USERS:] + item_graph @ item_graph @ start[N_USERS:]

    def bpr(vectors: torch.Tensor) -> float:
        margin = (u * (vectors[positives] - vectors[negatives])).sum(1)
        return float(torch.log1p(torch.exp(-margin)).mean())

    expected = {"bpr": bpr(items)}
    for modality in SETS[1]:
        layer = model.projection[modality]
        projected = model.features[modality] @ layer.get_parameter("weight").T + layer.get_parameter("bias")
        expected[f"bpr_{modality}"] = 0.3 * bpr(projected.detach().double())
    assert loss_terms(model) == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


def test_a_weight_of_zero_leaves_the_modalities_losses_out() -> None:
    model = build(reg_weight=0)
    terms = model.loss(planted_batch())
    assert set(terms) == {"bpr"}
    terms["bpr"].backward()
    untouched = {name for name, p in model.named_parameters() if p.grad is None}
    assert untouched == {name for name, _ in model.named_parameters() if name.startswith(("features", "projection"))}


def test_frozen_features_are_no_parameters_and_give_the_same_loss() -> None:
    trained, frozen = build(), build(trainable_features=False)
    gone = set(dict(trained.named_parameters())) - set(dict(frozen.named_parameters()))
    assert gone == {"features.image", "features.text"}
    assert loss_terms(frozen) == pytest.approx(loss_terms(trained))


def test_every_graph_follows_the_parameters() -> None:
    model = build(dropout=0.5)
    for _ in range(2):  # one graph that is converted, and one made afterwards
        model.start_epoch()
        model = model.double()
        assert model.pruned_graph is not None
        assert {g.matrix.dtype for g in (model.graph, model.item_graph, model.pruned_graph)} == {torch.float64}
        assert model.loss(planted_batch())["bpr"].dtype == torch.float64


def test_two_runs_are_equal_bit_for_bit() -> None:
    first, second = (planted_trainer("freedom", FAIR) for _ in range(2))
    outcomes = first.fit(), second.fit()
    assert [r["terms"] for r in outcomes[0].history] == [r["terms"] for r in outcomes[1].history]
    states = (trainer.model.state_dict().values() for trainer in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'freedom' needs item features; name a feature set"):
        build(ItemContent())
