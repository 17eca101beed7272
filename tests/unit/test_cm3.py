from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmrepro.config.protocol import RELEASED_SWITCHES, Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.base import Batch, ItemContent, Model, build_model
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import uniformity, unit
from mmrepro.ops.neighbours import nearest_neighbours
from mmrepro.training.sampling import NegativeSampler, epoch_batches

N_USERS, N_ITEMS = 30, 20
SETS = (("image",), ("image", "text"), ("image", "text", "audio"), ("text", "audio"))


def interactions() -> Interactions:
    bought = np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.3
    bought[:, 0], bought[:, 1] = False, True
    users, items = bought.nonzero()
    return Interactions(users, items, N_USERS, N_ITEMS)


def content(modalities: tuple[str, ...]) -> ItemContent:
    generator = torch.Generator().manual_seed(1)
    features = {m: torch.randn(N_ITEMS, 6 + 2 * i, generator=generator) for i, m in enumerate(modalities)}
    return ItemContent(features, {m: nearest_neighbours(x, 5)[0] for m, x in features.items()})


def build(
    modalities: tuple[str, ...] = ("image", "text"), protocol: Protocol | None = None, **parameters: object
) -> Model:
    torch.manual_seed(3)
    values = {"embedding_size": 8, "neighbours": 4, **parameters}
    return build_model("cm3", interactions(), content(modalities), values, protocol or Protocol())


def a_batch() -> Batch:
    data = interactions()
    return next(iter(epoch_batches(data, NegativeSampler(data), 64, seed=0, epoch=1)))


def loss_terms(model: Model) -> dict[str, float]:
    torch.manual_seed(5)
    return {name: float(term.detach()) for name, term in model.loss(a_batch()).items()}


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


@pytest.mark.parametrize("modalities", SETS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_trains_with_any_number_of_modalities(modalities: tuple[str, ...], bfloat16: bool) -> None:
    model, data = build(modalities), interactions()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    sampler, means = NegativeSampler(data), []
    for epoch in range(1, 13):
        torch.manual_seed(epoch)
        losses = []
        for batch in epoch_batches(data, sampler, 64, 0, epoch):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = total(model.loss(batch))
            optimiser.zero_grad()
            loss.backward()
            assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
            optimiser.step()
            losses.append(float(loss.detach()))
        means.append(float(np.mean(losses)))
    assert np.isfinite(means).all()
    assert means[-1] < means[0] - 0.2
    users, items = model.embed()
    width = 8 * (len(modalities) + 1)
    assert users.shape == (N_USERS, width) and items.shape == (N_ITEMS, width)


def test_parameters_are_one_preference_a_block_and_one_set_of_layers_a_modality() -> None:
    names = {name for name, _ in build(("image", "audio")).named_parameters()}
    layers = {
        f"{layer}.{m}.{p}" for layer in ("hidden", "fusion") for m in ("image", "audio") for p in ("weight", "bias")
    }
    blocks = {f"preference.{block}" for block in ("image", "audio", "fused")}
    assert names == layers | blocks | {"output.image.weight", "output.audio.weight", "block_weights"}


def test_bezier_schemes_agree_for_two_modalities_and_differ_for_three() -> None:
    two = [loss_terms(build(bezier=scheme)) for scheme in ("triangular", "iterated")]
    three = [loss_terms(build(SETS[2], bezier=scheme)) for scheme in ("triangular", "iterated")]
    assert two[0] == two[1]
    assert three[0] != three[1]


def test_gamma_weighs_both_uniformities_and_its_switch_doubles_them() -> None:
    half, whole, none = (
        loss_terms(build(**p)) for p in ({"gamma": 0.6}, {"gamma": 0.6, "uniformity_weight": "gamma"}, {"gamma": 0.0})
    )
    assert half["alignment"] == whole["alignment"] == none["alignment"] > 0
    for term in ("user_uniformity", "item_uniformity"):
        assert half[term] != 0
        assert whole[term] == pytest.approx(2 * half[term])
        assert none[term] == 0


@pytest.mark.parametrize(
    "change", [{"min_similarity": 0.5}, {"max_similarity": 0.1}], ids=["min_similarity", "max_similarity"]
)
def test_similarity_bounds_change_the_calibrated_term_alone(change: dict[str, Any]) -> None:
    before, after = loss_terms(build()), loss_terms(build(**change))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"item_uniformity"}


def test_unit_score_vectors_are_the_raw_ones_normalised() -> None:
    raw, normalised = build().embed(), build(score_vectors="unit").embed()
    for ours, theirs in zip(raw, normalised, strict=True):
        torch.testing.assert_close(unit(ours), theirs)
        assert not torch.allclose(ours, theirs)


def test_embedding_without_a_draw_is_the_curves_middle_and_leaves_the_generator_alone() -> None:
    model = build()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = model.embed()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, model.embed(), strict=True))
    setattr(model, "draw_positions", lambda: torch.full((N_ITEMS,), 0.5))  # noqa: B010
    assert all(torch.equal(a, b) for a, b in zip(first, model.embed_drawn(), strict=True))


def test_embedding_with_a_draw_follows_the_generator() -> None:
    model = build()

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model.embed_drawn()[1]

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


@pytest.mark.parametrize(("alpha", "spread"), [(0.1, 1 / 1.2), (1.0, 1 / 3), (4.0, 1 / 9)])
def test_positions_are_drawn_from_a_symmetric_beta_distribution(alpha: float, spread: float) -> None:
    model = build(alpha=alpha)
    torch.manual_seed(0)
    positions = torch.stack([model.draw_positions() for _ in range(500)])
    assert positions.shape == (500, N_ITEMS) and 0 <= float(positions.min()) <= float(positions.max()) <= 1
    assert float(positions.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(4 * positions.var()) == pytest.approx(spread, rel=0.06)  # Var = 1 / (4 (2 alpha + 1))


def test_feature_rank_narrows_wide_modalities_and_is_off_by_default() -> None:
    widths = {m: x.shape[1] for m, x in content(("image", "text")).features.items()}
    assert widths == {"image": 6, "text": 8}
    plain, narrow = build(), build(feature_rank=7)
    assert {m: plain.get_parameter(f"hidden.{m}.weight").shape[1] for m in widths} == widths
    assert {m: narrow.get_parameter(f"hidden.{m}.weight").shape[1] for m in widths} == {"image": 6, "text": 7}
    assert torch.equal(narrow.get_buffer("features_image"), content(("image", "text")).features["image"])
    assert np.isfinite(list(loss_terms(narrow).values())).all()


def test_image_weight_divides_the_item_graph_and_one_modality_has_all_of_it() -> None:
    def weights(modalities: tuple[str, ...], **parameters: object) -> list[float]:
        graph = build(modalities, **parameters).item_graph.dense()
        return sorted({round(float(v), 6) for v in graph.unique() if v > 0})

    assert weights(("image",)) == [0.25]
    assert weights(("text", "audio")) == [0.125, 0.25]
    assert weights(("image", "text"), image_weight=0.2) == [0.05, 0.2, 0.25]
    assert weights(("image", "text"), image_weight=0.0)[-1] == 0.25


def test_neighbours_parameter_shortens_the_lists() -> None:
    graph = build(("image",), neighbours=2).item_graph.dense()
    assert (graph > 0).sum(dim=1).tolist() == [2] * N_ITEMS


def test_the_programs_clamp_breaks_on_equal_feature_directions_and_the_safe_one_does_not() -> None:
    def fused(clamp: str) -> Tensor:
        model = build(protocol=Protocol(angle_clamp=clamp))
        with torch.no_grad():  # both modalities of every item on one axis
            for modality in ("image", "text"):
                model.get_parameter(f"fusion.{modality}.weight").zero_()
                model.get_parameter(f"fusion.{modality}.bias").copy_(torch.eye(8)[0])
        return model.project(torch.full((N_ITEMS,), 0.3))[1]

    assert RELEASED_SWITCHES["angle_clamp"] == "float64_only"
    assert bool(fused("float64_only").isnan().all())
    torch.testing.assert_close(fused("safe"), torch.eye(8)[[0] * N_ITEMS])


@pytest.mark.parametrize("fusion", ["mean", "sum", "concatenation"])
@pytest.mark.parametrize("modalities", SETS[:3])
def test_other_fusions_train_and_draw_nothing_that_matters(modalities: tuple[str, ...], fusion: str) -> None:
    model = build(modalities, fusion=fusion)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        loss = total(model.loss(a_batch()))
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(model.embed(), model.embed_drawn(), strict=True))
    assert model.embed()[1].shape == (N_ITEMS, 8 * (len(modalities) + 1))


def test_mean_and_sum_are_worked_out_by_hand_and_keep_their_length() -> None:
    a, b, c = (unit(torch.randn(N_ITEMS, 8, generator=torch.Generator().manual_seed(seed))) for seed in range(3))
    anywhere = torch.rand(N_ITEMS, 1)
    torch.testing.assert_close(build(SETS[2], fusion="mean").fuse([a, b, c], anywhere), (a + b + c) / 3)
    torch.testing.assert_close(build(SETS[2], fusion="sum").fuse([a, b, c], anywhere), a + b + c)
    middle = build(mixing=False).fuse([a, b], torch.full((N_ITEMS, 1), 0.5))
    torch.testing.assert_close(middle, unit(a + b))  # why the length has to stay
    scaled = build(fusion="sum", n_layers=0, n_item_layers=0), build(fusion="mean", n_layers=0, n_item_layers=0)
    added, averaged = (model.embed()[1] for model in scaled)
    torch.testing.assert_close(added[:, 16:], 2 * averaged[:, 16:])
    assert torch.equal(added[:, :16], averaged[:, :16])


def test_concatenation_is_a_linear_layer_on_the_vectors_side_by_side() -> None:
    model = build(fusion="concatenation")
    assert model.get_parameter("narrow.weight").shape == (8, 16)
    a, b = torch.randn(N_ITEMS, 8), torch.randn(N_ITEMS, 8)
    left, right = model.get_parameter("narrow.weight").split(8, dim=1)
    torch.testing.assert_close(model.fuse([a, b], torch.zeros(N_ITEMS, 1)), a @ left.T + b @ right.T)
    shared = {name: p for name, p in model.named_parameters() if name != "narrow.weight"}
    assert all(torch.equal(p, shared.pop(name)) for name, p in build().named_parameters()) and not shared


def test_without_mixing_training_takes_the_middle_and_draws_nothing() -> None:
    model = build(mixing=False)
    state = torch.get_rng_state()
    terms = model.loss(a_batch())
    assert torch.equal(torch.get_rng_state(), state)
    mixed = build()
    setattr(mixed, "draw_positions", mixed.middle)  # noqa: B010
    assert all(torch.equal(terms[name], term) for name, term in mixed.loss(a_batch()).items())
    assert loss_terms(model) != loss_terms(build())


def test_alignment_is_weighed_and_left_out_at_zero() -> None:
    whole, twice, none = (loss_terms(build(alignment_weight=weight)) for weight in (1.0, 2.0, 0.0))
    assert whole == loss_terms(build())
    assert twice == {**whole, "alignment": pytest.approx(2 * whole["alignment"])}
    assert none == {name: value for name, value in whole.items() if name != "alignment"}


def test_similarity_bounds_of_one_give_plain_uniformity() -> None:
    model = build(min_similarity=1.0, max_similarity=1.0, n_layers=0, n_item_layers=0)
    items = unit(model.embed()[1]).index_select(0, a_batch().negatives)
    setattr(model, "draw_positions", model.middle)  # noqa: B010
    expected = model.parameters_.gamma / 2 * uniformity(items)
    assert float(model.loss(a_batch())["item_uniformity"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_without_features_it_says_what_to_add() -> None:
    with pytest.raises(MmreproError, match="model 'cm3' needs item features; name a feature set"):
        build_model("cm3", interactions(), ItemContent(), {}, Protocol())


def test_graphs_are_converted_along_with_parameters() -> None:
    model = build().double()
    assert {value.dtype for value in model.embed()} == {torch.float64}
