import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import (
    N_ITEMS,
    N_USERS,
    planted_batch,
    planted_content,
    planted_dataset,
    planted_model,
    planted_trainer,
    training_pairs,
)

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import Model
from mmrepro.ops.feature_tower import FeatureTower, propagate_modalities
from mmrepro.ops.graphs import neighbour_mean_graph
from mmrepro.ops.neighbours import nearest_neighbours

pytestmark = pytest.mark.usefixtures("one_thread")
FAIR = Protocol()
REFERENCE = Path(__file__).parents[1] / "reference/data"
SETS = (("image",), ("text", "image"), ("image", "text", "audio"))
DATA = training_pairs(planted_dataset())


def build(modalities: tuple[str, ...] = SETS[1], **parameters: Any) -> Model:
    return planted_model("dragon", content=planted_content(modalities), **{"neighbours": 4, **parameters})


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
    width = 8 * len(modalities)
    users, items = model.embed()
    assert users.shape == (N_USERS, width) and items.shape == (N_ITEMS, width) and users.dtype == torch.float32


@pytest.mark.parametrize("n_item_layers", [0, 1, 2])
def test_vectors_are_weighed_blocks_plus_sums_over_neighbours(n_item_layers: int) -> None:
    model = build(SETS[2], n_item_layers=n_item_layers, user_neighbours=N_USERS)
    towers, preference = model.get_submodule("towers"), model.get_submodule("preference")
    assert isinstance(towers, torch.nn.ModuleDict) and isinstance(preference, torch.nn.ParameterDict)
    nodes = propagate_modalities(model.graph, preference, towers, 2)
    blocks = [nodes[:, n] for n in range(3)]
    weights = model.get_parameter("user_weights")
    users = torch.cat([weights[:, [n]] * x[:N_USERS] for n, x in enumerate(blocks)], dim=1)
    items = torch.cat([x[N_USERS:] for x in blocks], dim=1)
    taken = torch.zeros(N_USERS, N_ITEMS)
    taken[DATA.users, DATA.items] = 1
    common = (taken @ taken.T).fill_diagonal_(0)
    omega = torch.where(common > 0, common, -torch.inf).softmax(dim=1)
    lists = {m: x[:, :4] for m, x in planted_content(SETS[2]).neighbours.items()}
    near = neighbour_mean_graph(lists, {"image": 0.1, "text": 0.45, "audio": 0.45}).dense()
    ours = model.embed()
    torch.testing.assert_close(ours[0], users + omega @ users, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ours[1], items + torch.linalg.matrix_power(near, n_item_layers) @ items, rtol=1e-4, atol=1e-5
    )


def test_item_graph_of_the_program_agrees() -> None:
    data, reference = np.load(REFERENCE / "dataset.npz"), np.load(REFERENCE / "dragon.npz")
    share = json.loads(str(reference["config"]))["mm_image_weight"]
    lists = {m: nearest_neighbours(torch.from_numpy(data[m]).float(), 10)[0] for m in ("image", "text")}
    ours = neighbour_mean_graph(lists, {"image": share, "text": 1 - share}).dense()
    np.testing.assert_allclose(ours.numpy(), reference["graph/mm_adj"], rtol=1e-5, atol=1e-7)


def test_parameters_of_the_item_graph_take_effect() -> None:
    before = build(SETS[2]).embed()[1]
    for change in ({"neighbours": 7}, {"image_weight": 0.7}):
        assert not torch.equal(build(SETS[2], **change).embed()[1], before)


def test_loss_equals_the_formulas() -> None:
    model, batch = build(reg_weight=0.1), planted_batch()
    state = model.state_dict()
    users, items = (x.detach().double() for x in model.embed())
    delta = (users[batch.users] * (items[batch.positives] - items[batch.negatives])).sum(dim=1)
    squares = [state[f"preference.{m}"][batch.users].square().mean() for m in SETS[1]]
    decayed = float(sum(squares) + state["user_weights"].square().mean())
    expected = {"bpr": float(torch.log1p(torch.exp(-delta)).mean()) / math.log(2), "regulariser": 0.1 * decayed}
    ours = {name: float(term.detach()) for name, term in model.loss(batch).items()}
    assert ours == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


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


def test_tower_of_zero_weights_returns_the_output_bias_and_keeps_features_out_of_the_state() -> None:
    tower = FeatureTower(torch.randn(5, 3), 2)
    assert set(tower.state_dict()) == {
        f"{layer}.{part}" for layer in ("hidden", "output") for part in ("weight", "bias")
    }
    assert tower.hidden.weight.shape == (8, 3)
    with torch.no_grad():
        tower.hidden.weight.zero_()
        tower.hidden.bias.fill_(-1.0)
        tower.output.weight.fill_(1.0)
        tower.output.bias.copy_(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(tower(), torch.tensor([[0.92, 1.92]]).expand(5, 2))  # eight times -0.01


def test_two_runs_as_released_are_equal_bit_for_bit() -> None:
    protocol = Protocol.model_validate({"score_with": "last_batch"})
    first, second = (planted_trainer("dragon", protocol, repeat_neighbours=True) for _ in range(2))
    outcomes = first.fit(), second.fit()
    assert [r["terms"] for r in outcomes[0].history] == [r["terms"] for r in outcomes[1].history]
    states = (trainer.model.state_dict().values() for trainer in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'dragon' needs item features; name a feature set"):
        build(())
