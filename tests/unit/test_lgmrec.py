import math
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
)
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import Batch, ItemContent, build_model
from mmrepro.models.lgmrec import LGMRec
from mmrepro.ops.interactions import Interactions

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Path(__file__).parents[1] / "reference/data"
FAIR = Protocol()
SETS = (("image",), ("image", "text"), ("text", "audio", "image"))


def build(modalities: tuple[str, ...] = SETS[1], **parameters: Any) -> LGMRec:
    model = planted_model("lgmrec", content=planted_content(modalities), **parameters)
    assert isinstance(model, LGMRec)
    return model


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model, batch = build(modalities, contrast_weight=1e-3), planted_batch()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            terms = model.loss(batch)
        assert set(terms) == {"bpr", "regulariser"} | ({"contrast"} if len(modalities) > 1 else set())
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    users, items = model.embed()
    assert users.shape == (N_USERS, 8) and items.shape == (N_ITEMS, 8) and users.dtype == torch.float32


def plain_parts(model: LGMRec, modality: str, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Modality vectors and global vectors of all nodes by the formulas, two hypergraph layers, no noise, no dropout."""
    pairs, graph = model.interactions.dense().double(), model.graph.dense().double()
    projection, hyper = (model.get_parameter(f"{name}.{modality}").double() for name in ("projections", "hyperedges"))
    y = x @ projection
    means = (pairs @ y) / (pairs.sum(dim=1, keepdim=True) + 1e-7)
    of_items = (x @ hyper / 0.2).softmax(dim=1)
    of_users = (pairs @ (x @ hyper) / 0.2).softmax(dim=1)
    items = start
    for _ in range(2):
        edges = of_items.T @ items
        items, users = of_items @ edges, of_users @ edges
    return graph @ graph @ torch.cat([means, y]), torch.cat([users, items])


@pytest.mark.parametrize("modalities", SETS)
def test_vectors_and_loss_equal_the_formulas(modalities: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"contrast_weight": 0.1, "reg_weight": 0.1, "global_weight": 0.7}
    model = build(modalities, n_hyper_layers=2, keep_rate=1, **weights)
    users, positives, negatives = planted_batch()
    monkeypatch.setattr(model, "draw_noise", lambda rows: torch.zeros(rows, 4))
    with torch.no_grad():
        start = torch.cat([model.user_embedding, model.item_embedding]).double()
        graph = model.graph.dense().double()
        identities = (start + graph @ start + graph @ graph @ start) / 3
        given = {m: x.double() for m, x in planted_content(modalities).features.items()}
        parts = [plain_parts(model, m, x, identities[N_USERS:]) for m, x in given.items()]
    across = [part[1] for part in parts]
    nodes = identities + torch.stack([F.normalize(part[0]) for part in parts]).sum(dim=0)
    nodes = nodes + 0.7 * F.normalize(torch.stack(across).sum(dim=0))
    for ours, plain in zip(model.embed(), nodes.split([N_USERS, N_ITEMS]), strict=True):
        torch.testing.assert_close(ours.detach().double(), plain, rtol=1e-5, atol=1e-5)
    u, p, n = nodes[users], nodes[N_USERS + positives], nodes[N_USERS + negatives]
    expected = {
        "bpr": float(torch.log1p(torch.exp((u * n).sum(1) - (u * p).sum(1))).mean()),
        "regulariser": 0.1 * float(u.norm() + p.norm() + n.norm()) / len(users),
    }
    contrasts = []
    for a, b in ((a, b) for k, a in enumerate(across) for b in across[k + 1 :]):
        of_users = F.normalize(a[:N_USERS])[users] @ F.normalize(b[:N_USERS]).T / 0.2
        of_items = F.normalize(a[N_USERS:])[positives] @ F.normalize(b[N_USERS:]).T / 0.2
        sums = (F.cross_entropy(x, i, reduction="sum") for x, i in ((of_users, users), (of_items, positives)))
        contrasts.append(float(sum(sums)))
    if contrasts:
        expected["contrast"] = 0.1 * sum(contrasts) / len(contrasts)
    assert loss_terms(model) == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


@pytest.mark.parametrize(("term", "weight"), [("regulariser", "reg_weight"), ("contrast", "contrast_weight")])
def test_a_weight_of_zero_removes_its_term_alone(term: str, weight: str) -> None:
    whole, without = loss_terms(build()), loss_terms(build(**{weight: 0}))
    assert without == {name: value for name, value in whole.items() if name != term}


def test_the_contrast_is_a_sum_over_the_batch() -> None:
    model, batch = build(keep_rate=1), planted_batch()
    twice = Batch(*(torch.cat([column, column]) for column in batch))
    terms = []
    for given in (batch, twice):
        torch.manual_seed(0)
        terms.append({name: float(term.detach()) for name, term in model.loss(given).items()})
    assert terms[1]["contrast"] == pytest.approx(2 * terms[0]["contrast"], rel=1e-5)
    assert terms[1]["bpr"] == pytest.approx(terms[0]["bpr"], rel=1e-5)


def test_ranking_draws_noise_only_where_asked_for_and_then_that_of_the_training_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, drawn = build(), []
    inner = model.draw_noise

    def recorded(rows: int) -> Tensor:
        drawn.append(inner(rows))
        return drawn[-1]

    monkeypatch.setattr(model, "draw_noise", recorded)
    first, second = model.embed(), model.embed()
    assert drawn == [] and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.manual_seed(9)
    model.loss(planted_batch())
    torch.manual_seed(9)
    noisy, other = model.embed_drawn(), model.embed_drawn()
    assert [x.shape for x in drawn] == [(N_USERS + N_ITEMS, 4)] * 6
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3]) and not torch.equal(drawn[0], drawn[4])
    assert not torch.allclose(noisy[1], first[1], atol=1e-3) and not torch.equal(noisy[1], other[1])


def test_constant_noise_such_as_its_mean_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    monkeypatch.setattr(model, "draw_noise", lambda rows: torch.full((rows, 4), 0.5772))
    torch.testing.assert_close(model.embed_drawn(), model.embed())


def test_noise_has_the_moments_of_the_gumbel_distribution() -> None:
    model = build(hyperedges=50)
    torch.manual_seed(0)
    noise = model.draw_noise(2000).double()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, abs=0.05)
    assert float((noise <= 0).double().mean()) == pytest.approx(math.exp(-1), abs=0.01)


def test_a_training_step_drops_incidences_and_scales_the_rest_but_ranking_keeps_all() -> None:
    model = build(keep_rate=0.25)
    logits = [torch.zeros(4000, 4)]
    torch.manual_seed(0)
    dropped = model.incidences(logits, draw=False, drop=True)[0]
    assert dropped.unique().tolist() == [0, 1]
    assert float((dropped > 0).double().mean()) == pytest.approx(0.25, abs=0.02)
    assert model.incidences(logits, draw=False, drop=False)[0].unique().tolist() == [0.25]
    model.train()
    torch.testing.assert_close(model.embed(), build(keep_rate=1).embed())


def test_a_user_without_interactions_has_no_modality_vector_and_belongs_to_all_hyperedges_alike() -> None:
    pairs = Interactions(np.array([0, 0, 2]), np.array([1, 3, 3]), 3, N_ITEMS)
    model = build_model("lgmrec", pairs, planted_content(SETS[1]), SMALL, FAIR)
    assert isinstance(model, LGMRec)
    vectors, logits = model.project()
    assert not vectors[1].any() and not any(bool(x[1].any()) for x in logits)
    torch.testing.assert_close(vectors[0], (vectors[3 + 1] + vectors[3 + 3]) / 2)
    torch.testing.assert_close(logits[0][0], logits[0][3 + 1] + logits[0][3 + 3])
    assert all(bool(x.isfinite().all()) for x in model.embed())


def test_graphs_agree_with_the_reference() -> None:
    data, reference = np.load(DATA / "dataset.npz"), np.load(DATA / "lgmrec.npz")
    user, item, label = data["interactions"][:, :3].astype(int).T
    pairs = Interactions(user[label == 0], item[label == 0], *reference["scores"].shape)
    given = ItemContent({m: torch.from_numpy(data[m]).float() for m in ("image", "text")})
    model = build_model("lgmrec", pairs, given, {}, FAIR)
    assert isinstance(model, LGMRec)
    for name, ours in (("norm_adj", model.graph), ("adj", model.interactions)):
        np.testing.assert_allclose(ours.dense().numpy(), reference[f"graph/{name}"], rtol=1e-5, atol=1e-7)


def test_two_runs_are_equal_bit_for_bit_and_released_ranking_scores_differently() -> None:
    last_batch = Protocol(ranking_draw="last_batch")
    trainers = [planted_trainer("lgmrec", p, max_epochs=2) for p in (FAIR, FAIR, last_batch, last_batch)]
    outcomes = [trainer.fit() for trainer in trainers]
    assert len({str([r["terms"] for r in outcome.history]) for outcome in outcomes}) == 1
    users = [outcome.embeddings[0] for outcome in outcomes if outcome.embeddings is not None]
    assert torch.equal(users[0], users[1]) and torch.equal(users[2], users[3]) and not torch.equal(users[0], users[2])


def test_graphs_are_converted_along_with_parameters() -> None:
    assert {value.dtype for value in build().double().embed()} == {torch.float64}


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'lgmrec' needs item features; name a feature set"):
        build(())
