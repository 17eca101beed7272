import math
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
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import Model
from mmrepro.ops.graphs import user_item_graph
from mmrepro.ops.interactions import Interactions

pytestmark = pytest.mark.usefixtures("one_thread")
FAIR = Protocol()
SETS = (("image",), ("text", "image"), ("image", "text", "audio"))
DATA = training_pairs(planted_dataset())


def build(modalities: tuple[str, ...] = SETS[1], data: Interactions = DATA, **parameters: Any) -> Model:
    return planted_model("dualgnn", content=planted_content(modalities), data=data, **parameters)


def propagated(model: Model) -> dict[str, Tensor]:
    """Each modality's x + G x + G^2 x in float64 from dense matrices."""
    state = {name: value.double() for name, value in model.state_dict().items()}
    features = planted_content(SETS[2]).features
    graph = user_item_graph(DATA.users, DATA.items, N_USERS, N_ITEMS).dense().double()
    nodes = {}
    for m in (name.removeprefix("preference.") for name in state if name.startswith("preference.")):
        hidden = features[m].double() @ state[f"towers.{m}.hidden.weight"].T + state[f"towers.{m}.hidden.bias"]
        hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
        items = hidden @ state[f"towers.{m}.output.weight"].T + state[f"towers.{m}.output.bias"]
        start = torch.cat([state[f"preference.{m}"], items])
        start = start / start.norm(dim=1, keepdim=True)
        nodes[m] = start + graph @ start + graph @ graph @ start
    return nodes


def common_items() -> np.ndarray:
    taken = np.zeros((N_USERS, N_ITEMS))
    taken[DATA.users, DATA.items] = 1
    common = taken @ taken.T
    np.fill_diagonal(common, 0)
    return common


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model, batch, losses = build(modalities), planted_batch(), []
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(15):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.stack(list(model.loss(batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    users, items = model.embed()
    assert users.shape == (N_USERS, 8) and items.shape == (N_ITEMS, 8) and users.dtype == torch.float32


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("modalities", SETS)
def test_vectors_equal_the_formulas(modalities: tuple[str, ...], in_place: bool) -> None:
    model = build(modalities, accumulate_in_place=in_place, user_neighbours=N_USERS)
    parts = propagated(model)
    weights = model.get_parameter("user_weights").detach().double()
    whole = torch.stack(list(parts.values())).sum(dim=0)
    if in_place:
        parts[modalities[0]] = whole
    users = sum(weights[:, [n]] * parts[m][:N_USERS] for n, m in enumerate(modalities))
    common = torch.from_numpy(common_items())
    omega = torch.where(common > 0, common, -torch.inf).softmax(dim=1)
    ours = model.embed()
    torch.testing.assert_close(ours[0].double(), users + omega @ users, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1].double(), whole[N_USERS:], rtol=1e-4, atol=1e-5)


def test_in_place_accumulation_moves_users_only_and_nothing_with_one_modality() -> None:
    for modalities, moves in ((SETS[0], False), (SETS[1], True)):
        plain, odd = (build(modalities, accumulate_in_place=value).embed() for value in (False, True))
        assert torch.equal(plain[0], odd[0]) is not moves and torch.equal(plain[1], odd[1])


def test_loss_equals_the_formulas_and_item_weights_only_add_their_mean_square() -> None:
    model, odd = (build(reg_weight=0.1, item_weights=value) for value in (False, True))
    batch, state = planted_batch(), model.state_dict()
    users, items = (x.detach().double() for x in model.embed())
    delta = (users[batch.users] * (items[batch.positives] - items[batch.negatives])).sum(dim=1)
    squares = [state[f"preference.{m}"][batch.users].square().mean() for m in SETS[1]]
    decayed = float(sum(squares) + state["user_weights"].square().mean())
    expected = {"bpr": float(torch.log1p(torch.exp(-delta)).mean()) / math.log(2), "regulariser": 0.1 * decayed}
    assert loss_terms(model) == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}
    table = odd.get_parameter("item_weights").detach()
    assert set(dict(odd.named_parameters())) - set(dict(model.named_parameters())) == {"item_weights"}
    odd.load_state_dict({**state, "item_weights": table})
    expected["regulariser"] += 0.1 * float(table.square().mean())
    assert loss_terms(odd) == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


def test_weights_start_as_shares_of_the_modalities() -> None:
    model = build(SETS[2], item_weights=True)
    for name, rows in (("user_weights", N_USERS), ("item_weights", N_ITEMS)):
        table = model.get_parameter(name).detach()
        assert table.shape == (rows, 3) and bool((table > 0).all()) and float(table.std()) > 0
        torch.testing.assert_close(table.sum(dim=1), torch.ones(rows))


def test_repeats_are_drawn_every_epoch_for_training_and_ranking_uses_the_real_neighbours() -> None:
    plain, odd = (build(repeat_neighbours=value, user_neighbours=N_USERS) for value in (False, True))
    expected = plain.embed()[0]
    drawn = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        odd.start_epoch()
        assert torch.equal(odd.embed()[0], expected)
        drawn.append(odd.embed_drawn()[0])
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], expected)
    plain.start_epoch()
    assert torch.equal(plain.embed_drawn()[0], expected)


def test_a_user_without_interactions_gets_its_own_vector_and_gives_none() -> None:
    data = Interactions(DATA.users, DATA.items, N_USERS + 1, N_ITEMS)
    model = build(SETS[1], data, repeat_neighbours=True)
    model.start_epoch()
    state = model.state_dict()
    own = [state[f"preference.{m}"][-1] / state[f"preference.{m}"][-1].norm() for m in SETS[1]]
    expected = sum(w * x for w, x in zip(state["user_weights"][-1], own, strict=True))
    torch.testing.assert_close(model.embed_drawn()[0][-1], expected)
    others = model.embed_drawn()[0][:-1]
    with torch.no_grad():
        model.get_parameter("user_weights")[-1] = 100.0
    assert torch.equal(model.embed_drawn()[0][:-1], others)


def test_two_runs_as_released_are_equal_bit_for_bit() -> None:
    odd = {"repeat_neighbours": True, "accumulate_in_place": True, "item_weights": True}
    first, second = (
        planted_trainer("dualgnn", Protocol.model_validate({"score_with": "last_batch"}), **odd) for _ in range(2)
    )
    outcomes = first.fit(), second.fit()
    assert [r["terms"] for r in outcomes[0].history] == [r["terms"] for r in outcomes[1].history]
    states = (trainer.model.state_dict().values() for trainer in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'dualgnn' needs item features; name a feature set"):
        build(())


def test_graphs_are_converted_along_with_parameters() -> None:
    model = build(repeat_neighbours=True).double()
    model.start_epoch()
    assert {value.dtype for found in (model.embed(), model.embed_drawn()) for value in found} == {torch.float64}
