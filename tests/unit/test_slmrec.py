from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.evaluation.ranking import make_scorer
from mmrepro.models.base import ItemContent
from mmrepro.models.slmrec import SLMRec
from mmrepro.ops.graphs import user_item_graph

pytestmark = pytest.mark.usefixtures("one_thread")
FAIR = Protocol()
REFERENCE = Path(__file__).parents[1] / "reference" / "data"
SETS = (("image",), ("image", "text"), ("image", "text", "audio"), ("image", "text", "audio", "video"))
SPACES = (("image",), ("image", None, "text"), SETS[2], SETS[3])


def build(content: ItemContent | None = None, protocol: Protocol = FAIR, **parameters: Any) -> SLMRec:
    model = planted_model("slmrec", protocol, content=content, **parameters)
    assert isinstance(model, SLMRec)
    return model


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model = build(planted_content(modalities), ssl_weight=0.5)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = total_loss(model)
        assert loss.dtype == torch.float32
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.2
    users, items = model.embed()
    assert users.shape == (N_USERS, 8) and items.shape == (N_ITEMS, 8)


def test_graph_agrees_with_the_reference() -> None:
    data, reference = np.load(REFERENCE / "dataset.npz"), np.load(REFERENCE / "slmrec.npz")
    user, item, label = data["interactions"][:, :3].astype(int).T
    graph = user_item_graph(user[label == 0], item[label == 0], *reference["scores"].shape)
    np.testing.assert_allclose(graph.dense().numpy(), reference["graph/norm_adj"], rtol=1e-5)


@pytest.mark.parametrize(("modalities", "spaces"), list(zip(SETS, SPACES, strict=True)))
def test_loss_equals_the_formulas_over_the_batchs_rows(
    modalities: tuple[str, ...], spaces: tuple[str | None, ...]
) -> None:
    given = planted_content(modalities)
    model, (users, items, _) = build(given, ssl_weight=0.5, ssl_temperature=0.3, n_layers=2).double(), planted_batch()
    assert len(items.unique()) < len(items)
    graph = model.graph.dense()
    columns = [model.item_embedding]
    for modality, x in given.features.items():
        columns.append(model.projection[modality]((x / x.norm(dim=1, keepdim=True)).double()))
    views = []
    for column in columns:
        start = torch.cat([model.user_embedding, column])
        views.append((start + graph @ start + graph @ graph @ start) / 3)
    diagonal = torch.arange(len(users))

    def contrast(a: Tensor, b: Tensor, temperature: float) -> float:
        return float(F.cross_entropy(a @ b.T / temperature, diagonal).detach())

    side = torch.cat(views, dim=1)
    u, p = model.join_users(side[users]), model.join_items(side[N_USERS + items])
    expected = {"ranking": contrast(F.normalize(u), F.normalize(p), 0.2)}
    assert len(model.chain) == len(spaces) and set(model.head) == set(modalities)
    identity = views[0][N_USERS + items]
    for modality, link in zip(spaces, model.chain, strict=True):
        identity = link(identity)
        if modality is not None:
            view = model.head[modality](views[1 + modalities.index(modality)][N_USERS + items])
            expected[f"id_{modality}"] = 0.5 * contrast(identity, view, 0.3)
    assert identity.shape[1] == (4 if len(modalities) > 1 else 8)
    assert loss_terms(model) == {name: pytest.approx(value, rel=1e-5) for name, value in expected.items()}


def test_long_vectors_keep_loss_and_gradients_finite() -> None:
    model = build(ssl_weight=1.0, ssl_temperature=0.1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(50)
    loss = total_loss(model)
    loss.backward()
    assert float(loss.detach()) > 1e4 and bool(loss.isfinite())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_a_weight_of_zero_leaves_the_contrasts_out_and_a_double_one_doubles_them() -> None:
    none, one, two = (loss_terms(build(ssl_weight=weight)) for weight in (0, 0.1, 0.2))
    assert none == {"ranking": one["ranking"]}
    assert two == pytest.approx({name: value * (1 + (name != "ranking")) for name, value in one.items()})


def test_features_count_by_their_direction_alone() -> None:
    given = planted_content(SETS[1])
    scales = torch.rand(N_ITEMS, 1, generator=torch.Generator().manual_seed(2)) + 0.5
    scaled = ItemContent({m: x * scales for m, x in given.features.items()})
    for ours, theirs in zip(build(given).embed(), build(scaled).embed(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_sigmoid_scores_keep_the_order_until_they_saturate() -> None:
    plain, squashed = build(), build(sigmoid_scores=True)
    assert SLMRec.released.parameters == {"sigmoid_scores": True}
    assert not SLMRec.Parameters().model_dump()["sigmoid_scores"]
    everyone = torch.arange(N_USERS)
    with torch.no_grad():
        products, scores = (make_scorer(model)(everyone) for model in (plain, squashed))
    users, items = plain.embed()
    torch.testing.assert_close(products, (users @ items.T).detach())
    torch.testing.assert_close(scores, 1 / (1 + torch.exp(-products)))
    assert squashed.scores(torch.tensor([18.0, 30.0])).tolist() == [1.0, 1.0]


def test_negatives_are_neither_asked_for_nor_read() -> None:
    batch = planted_batch()
    other = batch._replace(negatives=(batch.negatives + 1) % N_ITEMS)
    assert not SLMRec.samples_negatives
    assert loss_terms(build(), batch) == loss_terms(build(), other)


def test_embeddings_are_the_joined_views_every_time() -> None:
    model = build(n_layers=0)
    users, items = model.embed()
    torch.testing.assert_close(users, model.join_users(model.user_embedding.repeat(1, 3)))
    assert all(torch.equal(a, b) for a, b in zip(model.embed_drawn(), (users, items), strict=True))


@pytest.mark.parametrize("protocol", [FAIR, Protocol.model_validate({"score_with": "last_batch"})])
def test_two_runs_are_equal_bit_for_bit(protocol: Protocol) -> None:
    first, second = (planted_trainer("slmrec", protocol) for _ in range(2))
    outcomes = first.fit(), second.fit()
    assert [r["terms"] for r in outcomes[0].history] == [r["terms"] for r in outcomes[1].history]
    states = (trainer.model.state_dict().values() for trainer in (first, second))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'slmrec' needs item features; name a feature set"):
        build(ItemContent())
