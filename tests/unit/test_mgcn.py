from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted import (
    N_ITEMS,
    N_USERS,
    SMALL,
    loss_terms,
    planted_batch,
    planted_content,
    planted_model,
    planted_trainer,
    total_loss,
)
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import ItemContent
from mmrepro.models.mgcn import MGCN
from mmrepro.ops.graphs import bipartite_graphs, weighted_neighbour_graph
from mmrepro.ops.neighbours import nearest_neighbours

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Path(__file__).parents[1] / "reference/data"
FAIR = Protocol()
SETS = (("image",), ("image", "text"), ("text", "audio", "image"))


def build(modalities: tuple[str, ...] = SETS[1], **parameters: Any) -> MGCN:
    model = planted_model("mgcn", content=planted_content(modalities), **{"neighbours": 4, **parameters})
    assert isinstance(model, MGCN)
    return model


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model = build(modalities, content_id_weight=0.1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = total_loss(model)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    first, second = model.embed(), model.embed()
    assert [x.shape for x in first] == [(N_USERS, 8), (N_ITEMS, 8)]
    assert all(torch.equal(x, y) and x.dtype == torch.float32 for x, y in zip(first, second, strict=True))


def linear(model: MGCN, name: str, x: Tensor) -> Tensor:
    bias = dict(model.named_parameters()).get(f"{name}.bias", torch.zeros(1))
    return x @ model.get_parameter(f"{name}.weight").double().T + bias.double()


def plain_views(model: MGCN, given: ItemContent) -> tuple[Tensor, Tensor]:
    """ID vectors and content vectors by the formulas, in float64 with dense graphs."""
    users, items = (model.get_parameter(f"{side}_embedding").double() for side in ("user", "item"))
    graph, block = model.graph.dense().double(), model.user_item_block.dense().double()
    start = torch.cat([users, items])
    identities = (start + graph @ start + graph @ graph @ start) / 3
    views = {}
    for m, x in given.features.items():
        own = weighted_neighbour_graph(x, given.neighbours[m][:, :4]).dense().double()
        gate = torch.sigmoid(linear(model, f"behaviour_gates.{m}", linear(model, f"projections.{m}", x.double())))
        moved = own @ (items * gate)
        views[m] = torch.cat([block @ moved, moved])
    numbers = [linear(model, "attention.2", torch.tanh(linear(model, "attention.0", view))) for view in views.values()]
    shares = torch.cat(numbers, dim=1).softmax(dim=1)
    common = torch.stack([shares[:, k, None] * view for k, view in enumerate(views.values())]).sum(dim=0)
    rests = [torch.sigmoid(linear(model, f"preference_gates.{m}", identities)) * (v - common) for m, v in views.items()]
    return identities, (torch.stack(rests).sum(dim=0) + common) / (len(views) + 1)


@pytest.mark.parametrize("modalities", SETS)
def test_vectors_and_loss_equal_the_formulas(modalities: tuple[str, ...]) -> None:
    model, (users, positives, negatives) = build(modalities, content_id_weight=0.5, reg_weight=0.1), planted_batch()
    with torch.no_grad():
        identities, contents = plain_views(model, planted_content(modalities))
    nodes = identities + contents
    for ours, plain in zip(model.embed(), nodes.split([N_USERS, N_ITEMS]), strict=True):
        torch.testing.assert_close(ours.detach().double(), plain, rtol=1e-5, atol=1e-6)
    u, p, n = nodes[users], nodes[N_USERS + positives], nodes[N_USERS + negatives]
    contrast = 0.0
    for rows in (users, N_USERS + positives):
        logits = F.normalize(contents[rows]) @ F.normalize(identities[rows]).T / 0.2
        contrast += float(F.cross_entropy(logits, torch.arange(len(rows))))
    expected = {
        "bpr": float(torch.log1p(torch.exp((u * n).sum(1) - (u * p).sum(1))).mean()),
        "regulariser": 0.1 * float(u.square().sum() + p.square().sum() + n.square().sum()) / (2 * SMALL["batch_size"]),
        "content_id": 0.5 * contrast,
    }
    assert loss_terms(model) == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


@pytest.mark.parametrize(("term", "weight"), [("regulariser", "reg_weight"), ("content_id", "content_id_weight")])
def test_a_weight_of_zero_removes_its_term_alone(term: str, weight: str) -> None:
    whole, without = loss_terms(build()), loss_terms(build(**{weight: 0}))
    assert without == {name: value for name, value in whole.items() if name != term}


def test_the_regulariser_is_divided_by_the_configured_batch_size_not_by_the_rows() -> None:
    small, large = (loss_terms(build(batch_size=size))["regulariser"] for size in (128, 1280))
    assert small == pytest.approx(10 * large)


def test_of_a_single_modality_the_view_is_halved_whatever_attention_and_gates_say() -> None:
    model = build(("image",))
    before = model.embed()
    identities, views = model.views()
    torch.testing.assert_close(torch.cat(before), identities + views / 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("attention", "preference_gates")):
                parameter.normal_()
    torch.testing.assert_close(model.embed(), before)


def test_frozen_features_are_no_parameters_and_score_alike() -> None:
    trained, frozen = build(), build(trainable_features=False)
    names = set(dict(trained.named_parameters())) - set(dict(frozen.named_parameters()))
    assert names == {"features.image", "features.text"}
    torch.testing.assert_close(trained.embed(), frozen.embed())


def test_graphs_agree_with_the_reference() -> None:
    data, reference = np.load(DATA / "dataset.npz"), np.load(DATA / "mgcn.npz")
    user, item, label = data["interactions"][:, :3].astype(int).T
    graph, block = bipartite_graphs(user[label == 0], item[label == 0], *reference["scores"].shape)
    graphs = {"norm_adj": graph, "R": block}
    for modality in ("image", "text"):
        x = torch.from_numpy(data[modality]).float()
        graphs[f"{modality}_original_adj"] = weighted_neighbour_graph(x, nearest_neighbours(x, 10)[0])
    for name, ours in graphs.items():
        np.testing.assert_allclose(ours.dense().numpy(), reference[f"graph/{name}"], rtol=1e-5, atol=1e-7)


def test_two_runs_are_equal_bit_for_bit() -> None:
    first, second = (planted_trainer("mgcn", FAIR, max_epochs=2) for _ in range(2))
    outcomes = first.fit(), second.fit()
    assert [r["terms"] for r in outcomes[0].history] == [r["terms"] for r in outcomes[1].history]
    states = (trainer.model.state_dict().values() for trainer in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_graphs_are_converted_along_with_parameters() -> None:
    assert {value.dtype for value in build().double().embed()} == {torch.float64}


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'mgcn' needs item features; name a feature set"):
        build(())
