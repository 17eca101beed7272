import math
from typing import Any

import pytest
import torch
from planted import (
    N_ITEMS,
    N_USERS,
    loss_terms,
    planted_batch,
    planted_content,
    planted_model,
    planted_trainer,
    total_loss,
)

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import ItemContent, Model
from mmrepro.ops.content import unified_matrix
from mmrepro.ops.graphs import weighted_neighbour_graph
from mmrepro.ops.neighbours import nearest_neighbours

pytestmark = pytest.mark.usefixtures("one_thread")
FAIR = Protocol()
SETS = (("image",), ("image", "text"), ("image", "text", "audio"))
TERMS = {
    "regulariser": "reg_weight",
    "user_item": "user_item_weight",
    "content_id": "content_id_weight",
    "similarity": "similarity_weight",
}


def build(content: ItemContent | None = None, **parameters: Any) -> Model:
    return planted_model("alignrec", content=content, **{"neighbours": 4, **parameters})


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model, batch = build(planted_content(modalities), content_id_weight=0.1), planted_batch()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = total_loss(model, batch)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    users, items = model.embed()
    assert users.shape == (N_USERS, 8) and items.shape == (N_ITEMS, 8) and users.dtype == torch.float32


@pytest.mark.parametrize("term", TERMS)
def test_a_weight_of_zero_removes_its_term_alone_and_a_double_one_doubles_it(term: str) -> None:
    weight = {TERMS[term]: 0.1}
    before, without, twice = (
        loss_terms(build(**{name: factor * value for name, value in weight.items()})) for factor in (1, 0, 2)
    )
    assert set(before) == {"bpr", *TERMS} and before[term] > 0
    assert without == {name: value for name, value in before.items() if name != term}
    assert twice == {**before, term: pytest.approx(2 * before[term])}


def test_the_regulariser_is_divided_by_the_configured_batch_size_not_by_the_rows() -> None:
    small, large = (loss_terms(build(batch_size=size))["regulariser"] for size in (128, 1280))
    assert small == pytest.approx(10 * large)


def test_loss_equals_the_formulas_over_the_batchs_rows() -> None:
    model, (users, positives, negatives) = build(content_id_weight=0.5, reg_weight=0.1), planted_batch()
    identities, contents = (x.detach().double() for x in model.views())
    nodes = identities + contents
    u, p, n = nodes[users], nodes[N_USERS + positives], nodes[N_USERS + negatives]
    cosines = (u * p).sum(1) / (u.norm(dim=1) * p.norm(dim=1))
    expected = {
        "bpr": torch.log1p(torch.exp((u * n).sum(1) - (u * p).sum(1))).mean(),
        "regulariser": 0.1 * (u.square().sum() + p.square().sum() + n.square().sum()) / (2 * 128),
        "user_item": 0.1 * (1 - cosines.mean()),
    }
    contrast = []
    for rows in (users, N_USERS + positives):
        a, b = (x[rows] / x[rows].norm(dim=1, keepdim=True) for x in (contents, identities))
        logits = a @ b.T / 0.2
        contrast.append((logits.exp().sum(1).log() - logits.diagonal()).mean())
    expected["content_id"] = 0.5 * (contrast[0] + contrast[1])
    rows = model.get_parameter("features.unified").detach().double()[positives]
    rows = rows / rows.norm(dim=1, keepdim=True)
    s = contents[N_USERS + positives]
    expected["similarity"] = 0.3 * torch.linalg.matrix_norm(s @ s.T - rows @ rows.T) / len(users)
    assert loss_terms(model) == {name: pytest.approx(float(value), rel=1e-5) for name, value in expected.items()}


def test_frozen_features_are_a_buffer_that_stays_and_scores_alike() -> None:
    given = planted_content(SETS[1])
    trained, frozen = build(given), build(given, trainable_features=False)
    assert set(dict(trained.named_parameters())) == {*dict(frozen.named_parameters()), "features.unified"}
    assert loss_terms(frozen) == {name: pytest.approx(value, rel=1e-5) for name, value in loss_terms(trained).items()}
    for model in (trained, frozen):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
        total_loss(model).backward()
        optimiser.step()
    matrix = unified_matrix(given.features)
    assert (
        torch.equal(frozen.get_buffer("features.unified"), matrix)
        and frozen.get_buffer("features.unified").grad is None
    )
    assert not torch.equal(trained.get_parameter("features.unified"), matrix)


def test_training_leaves_the_given_features_alone() -> None:
    given = planted_content(SETS[0])
    before = given.features["image"].clone()
    model = build(given)
    with torch.no_grad():
        model.get_parameter("features.unified").zero_()
    assert torch.equal(given.features["image"], before)


def test_the_similarity_target_follows_the_table_and_gives_it_no_gradient() -> None:
    model = build(planted_content(SETS[0]))
    with torch.no_grad():
        model.get_parameter("projection.weight").zero_()  # now nothing but the target reads the table
    before = loss_terms(model)["similarity"]
    with torch.no_grad():
        model.get_parameter("features.unified").normal_(generator=torch.Generator().manual_seed(0))
    moved = loss_terms(model)["similarity"]
    assert abs(moved - before) > 1e-3
    model.loss(planted_batch())["similarity"].backward()
    gradient = model.get_parameter("features.unified").grad
    assert gradient is not None and not gradient.any()


def test_item_graph_of_one_modality_takes_its_lists_and_of_several_those_of_the_unified_matrix() -> None:
    one, two = planted_content(SETS[0]), planted_content(SETS[1])
    lists = one.neighbours["image"][:, :4]
    expected = weighted_neighbour_graph(one.features["image"], lists).dense()
    assert torch.equal(build(one).item_graph.dense(), expected)
    shifted = ItemContent(one.features, {"image": (lists + 1) % N_ITEMS})
    assert not torch.equal(build(shifted).item_graph.dense(), expected)
    matrix = unified_matrix(two.features)
    expected = weighted_neighbour_graph(matrix, nearest_neighbours(matrix, 4)[0]).dense()
    assert torch.equal(build(two).item_graph.dense(), expected)


def test_item_without_features_harms_nothing() -> None:
    features = {m: x.clone() for m, x in planted_content(SETS[1]).features.items()}
    for matrix in features.values():
        matrix[5] = 0
    image = ItemContent({"image": features["image"]}, {"image": nearest_neighbours(features["image"], 10)[0]})
    for given in (image, ItemContent(features)):
        model = build(given)
        loss = total_loss(model)
        loss.backward()
        assert math.isfinite(float(loss.detach()))
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        assert all(bool(x.isfinite().all()) for x in model.embed())


def test_without_convolutions_users_have_their_own_vectors_and_of_the_gated_items_they_took() -> None:
    model = build(n_layers=0, n_item_layers=0)
    with torch.no_grad():  # gate open by half
        for name in ("gate.weight", "gate.bias"):
            model.get_parameter(name).zero_()
    own = {name: model.get_parameter(f"{name}_embedding") for name in ("user", "item")}
    users, items = model.embed()
    torch.testing.assert_close(items, 1.5 * own["item"])
    torch.testing.assert_close(users, own["user"] + model.user_item_block.dense() @ own["item"] / 2)


def test_two_runs_are_equal_bit_for_bit() -> None:
    first, second = (planted_trainer("alignrec", FAIR) for _ in range(2))
    outcomes = first.fit(), second.fit()
    assert [r["terms"] for r in outcomes[0].history] == [r["terms"] for r in outcomes[1].history]
    states = (trainer.model.state_dict().values() for trainer in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'alignrec' needs item features; name a feature set"):
        build(ItemContent())


def test_graphs_are_converted_along_with_parameters() -> None:
    assert {value.dtype for value in build().double().embed()} == {torch.float64}
