import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import ItemContent, build_model
from mmrepro.models.mmgcn import MMGCN, WIDEST
from mmrepro.ops.interactions import Interactions
from mmrepro.training.optimiser import Adam
from mmrepro.training.sampling import NegativeSampler, epoch_batches

N_USERS, N_ITEMS = 30, 20
SETS = (("image",), ("text",), ("image", "text"), ("text", "audio", "image"))


def interactions() -> Interactions:
    bought = np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.3
    bought[:, 0], bought[:, 1] = False, True
    users, items = bought.nonzero()
    return Interactions(users, items, N_USERS, N_ITEMS)


def content(modalities: tuple[str, ...], dim: int = 6) -> ItemContent:
    generator = torch.Generator().manual_seed(1)
    return ItemContent({m: torch.randn(N_ITEMS, dim + 2 * i, generator=generator) for i, m in enumerate(modalities)})


def build(modalities: tuple[str, ...] = ("image", "text"), dim: int = 6, **parameters: object) -> MMGCN:
    torch.manual_seed(3)
    values = {"embedding_size": 8, **parameters}
    model = build_model("mmgcn", interactions(), content(modalities, dim), values, Protocol())
    assert isinstance(model, MMGCN)
    return model


def loss_terms(model: MMGCN) -> dict[str, Tensor]:
    data = interactions()
    return model.loss(next(iter(epoch_batches(data, NegativeSampler(data), 64, seed=0, epoch=1))))


@pytest.mark.parametrize(
    ("modalities", "learned", "bfloat16"),
    [*((modalities, True, False) for modalities in SETS), (SETS[2], False, False), (SETS[2], True, True)],
)
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], learned: bool, bfloat16: bool) -> None:
    model = build(modalities, train_embeddings=learned)
    optimiser = Adam(model.parameters(), learning_rate=0.01, weight_decay=0.0)
    losses = []
    for _ in range(10):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.stack(list(loss_terms(model).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.03
    users, items = model.embed()
    assert users.shape == (N_USERS, 8) and items.shape == (N_ITEMS, 8)


def test_vectors_are_the_mean_over_networks_worked_out_densely() -> None:
    model = build(("image", "text"))
    data = interactions()
    adjacency = torch.zeros(N_USERS + N_ITEMS, N_USERS + N_ITEMS)
    adjacency[data.users, N_USERS + data.items] = adjacency[N_USERS + data.items, data.users] = 1
    mean = adjacency / adjacency.sum(dim=1, keepdim=True).clamp(min=1)  # item 0 has no neighbours
    p = {name: value.detach() for name, value in model.named_parameters()}
    total = torch.zeros(N_USERS + N_ITEMS, 8)
    for modality, features in content(("image", "text")).features.items():
        name = f"networks.{modality}"
        if modality == "image":
            features = features @ p[f"{name}.projection.weight"].T + p[f"{name}.projection.bias"]
        x = F.normalize(torch.cat([p[f"{name}.preference"], features]))
        for layer in range(3):
            near = F.leaky_relu(mean @ x @ p[f"{name}.neighbour.{layer}"])
            own = F.leaky_relu(x @ p[f"{name}.own.{layer}.weight"].T + p[f"{name}.own.{layer}.bias"])
            both = torch.cat([near, own + p["id_embedding"]], dim=1)
            x = F.leaky_relu(both @ p[f"{name}.combine.{layer}.weight"].T + p[f"{name}.combine.{layer}.bias"])
        total += x
    torch.testing.assert_close(torch.cat(model.embed()), total / 2)


def test_the_program_leaves_users_and_ids_as_drawn_and_its_regulariser_constant() -> None:
    learned, frozen = build(), build(**MMGCN.released.parameters)
    tables = {"id_embedding", "networks.image.preference", "networks.text.preference"}
    assert {name for name, p in frozen.named_parameters() if not p.requires_grad} == tables
    assert all(p.requires_grad for p in learned.parameters())
    assert all(torch.equal(a, b) for a, b in zip(learned.embed(), frozen.embed(), strict=True))
    assert loss_terms(learned)["regulariser"].requires_grad
    assert not loss_terms(frozen)["regulariser"].requires_grad
    assert frozen.released.scores_with_last_batch


def test_regulariser_is_the_mean_square_of_the_batchs_ids_and_of_projected_preferences() -> None:
    data = interactions()
    batch = next(iter(epoch_batches(data, NegativeSampler(data), 64, seed=0, epoch=1)))
    for modalities, projected in ((("image", "text"), ["image"]), (("text", "audio"), [])):
        model = build(modalities, reg_weight=0.5)
        ids = model.id_embedding.detach()
        total = 0.0  # over the pairs of users with positives and of users with negatives
        for user, *items in zip(batch.users, batch.positives, batch.negatives, strict=True):
            for item in items:
                total += float(ids[user].square().sum() + ids[N_USERS + item].square().sum())
        total /= 2 * len(batch.users) * 8
        total += sum(float(model.get_parameter(f"networks.{m}.preference").detach().square().mean()) for m in projected)
        assert float(loss_terms(model)["regulariser"].detach()) == pytest.approx(0.5 * total, rel=1e-5)


def test_the_image_and_what_is_wider_than_the_limit_are_projected() -> None:
    widths = {m: build(("image", "text")).get_parameter(f"networks.{m}.preference").shape[1] for m in ("image", "text")}
    assert widths == {"image": 256, "text": 8}
    wide = build(("text", "audio"), dim=WIDEST)  # text has as many columns as the limit, audio two more
    assert wide.get_parameter("networks.text.preference").shape[1] == WIDEST
    assert wide.get_parameter("networks.audio.preference").shape[1] == 256


def test_embedding_needs_no_draw_and_no_batch() -> None:
    model = build()
    before = model.embed()
    torch.manual_seed(9)
    loss_terms(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.embed_drawn(), strict=True))


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'mmgcn' needs item features; name a feature set"):
        build_model("mmgcn", interactions(), ItemContent(), {}, Protocol())


def test_graph_is_converted_along_with_parameters() -> None:
    assert {value.dtype for value in build().double().embed()} == {torch.float64}
