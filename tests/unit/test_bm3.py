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
    planted_model,
    planted_trainer,
)
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import Batch, ItemContent
from mmrepro.models.bm3 import BM3
from mmrepro.ops.graphs import user_item_graph

pytestmark = pytest.mark.usefixtures("one_thread")
FAIR = Protocol()
REFERENCE = Path(__file__).parents[1] / "reference" / "data"
SETS = (("image",), ("image", "text"), ("image", "text", "audio"))


def build(content: ItemContent | None = None, **parameters: Any) -> BM3:
    model = planted_model("bm3", content=content, **parameters)
    assert isinstance(model, BM3)
    return model


def distance(a: Tensor, b: Tensor) -> float:
    return float(1 - ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean())


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model, batch = build(planted_content(modalities)), planted_batch()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.stack(list(model.loss(batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 1
    users, items = model.embed()
    assert users.shape == (N_USERS, 8) and items.shape == (N_ITEMS, 8)


def test_graph_agrees_with_the_reference() -> None:
    data, reference = np.load(REFERENCE / "dataset.npz"), np.load(REFERENCE / "bm3.npz")
    user, item, label = data["interactions"][:, :3].astype(int).T
    graph = user_item_graph(user[label == 0], item[label == 0], *reference["scores"].shape)
    np.testing.assert_allclose(graph.dense().numpy(), reference["graph/norm_adj"], rtol=1e-5)


@pytest.mark.parametrize("modalities", SETS)
def test_loss_equals_the_formulas_over_the_batchs_rows(modalities: tuple[str, ...]) -> None:
    model, (users, items, _) = build(planted_content(modalities), dropout=0, reg_weight=0.2), planted_batch()
    assert len(items.unique()) < len(items)
    start = torch.cat([model.user_embedding, model.item_embedding]).detach().double()
    graph = model.graph.dense().double()
    nodes = (start + graph @ start + graph @ graph @ start) / 3
    h_users, h_items = nodes[:N_USERS], nodes[N_USERS:] + start[N_USERS:]

    def predict(x: Tensor) -> Tensor:
        return x @ model.predictor.weight.detach().double().T + model.predictor.bias.detach().double()

    expected = {
        "reconstruction": distance(predict(h_users)[users], h_items[items])
        + distance(predict(h_items)[items], h_users[users]),
        "regulariser": 0.2 * float(h_users.norm() + h_items.norm()) / N_ITEMS,
        "alignment": 0.0,
        "masking": 0.0,
    }
    for modality in modalities:
        layer = model.projection[modality]
        f = (model.features[modality] @ layer.get_parameter("weight").T + layer.get_parameter("bias")).detach().double()
        expected["alignment"] += 2 * distance(predict(f)[items], h_items[items])
        expected["masking"] += 2 * distance(predict(f)[items], f[items])
    assert loss_terms(model) == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


def test_target_has_dropout_with_inverted_scaling_in_evaluation_too_and_no_gradient() -> None:
    vectors = torch.ones(400, 50, requires_grad=True)
    target = build(dropout=0.3).eval().target(vectors)
    assert not target.requires_grad
    assert torch.equal(target.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert float((target == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(build(dropout=0).target(vectors), vectors.detach())


def test_a_row_that_occurs_twice_has_one_target() -> None:
    once, model = planted_batch(), build(dropout=0.5)
    twice = Batch(*(torch.cat([column, column.flip(0)]) for column in once))
    assert loss_terms(model, twice) == pytest.approx(loss_terms(model, once), rel=1e-5)
    assert loss_terms(model, once) != pytest.approx(loss_terms(build(dropout=0), once), rel=1e-2)


def test_content_weight_scales_the_modalities_terms_alone_and_zero_removes_them() -> None:
    one, two, none = (loss_terms(build(content_weight=weight, dropout=0)) for weight in (1, 2, 0))
    of_content = {"alignment", "masking"}
    assert two == pytest.approx({name: value * (1 + (name in of_content)) for name, value in one.items()})
    assert none == {name: value for name, value in one.items() if name not in of_content}


def test_negatives_are_neither_asked_for_nor_read() -> None:
    batch = planted_batch()
    other = batch._replace(negatives=(batch.negatives + 1) % N_ITEMS)
    assert not BM3.samples_negatives
    assert loss_terms(build(), batch) == loss_terms(build(), other)


def test_frozen_features_are_no_parameters_and_give_the_same_loss() -> None:
    trained, frozen = build(), build(trainable_features=False)
    gone = set(dict(trained.named_parameters())) - set(dict(frozen.named_parameters()))
    assert gone == {"features.image", "features.text"}
    assert loss_terms(frozen) == pytest.approx(loss_terms(trained))
    optimiser = torch.optim.Adam(frozen.parameters(), lr=0.1)
    torch.stack(list(frozen.loss(planted_batch()).values())).sum().backward()
    optimiser.step()
    assert torch.equal(frozen.features["image"], planted_content(SETS[1]).features["image"])


def test_embeddings_are_predictions_without_dropout() -> None:
    model = build(n_layers=0, dropout=0.9)
    users, items = model.embed()
    assert torch.equal(users, model.predictor(model.user_embedding))
    torch.testing.assert_close(items, model.predictor(2 * model.item_embedding))
    assert all(torch.equal(a, b) for a, b in zip(model.embed_drawn(), (users, items), strict=True))


def test_two_runs_are_equal_bit_for_bit() -> None:
    first, second = (planted_trainer("bm3", FAIR) for _ in range(2))
    outcomes = first.fit(), second.fit()
    assert [r["terms"] for r in outcomes[0].history] == [r["terms"] for r in outcomes[1].history]
    states = (trainer.model.state_dict().values() for trainer in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'bm3' needs item features; name a feature set"):
        build(ItemContent())
