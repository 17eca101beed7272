import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmrepro.ops import losses
from mmrepro.ops.losses import (
    alignment,
    bpr,
    bpr_log_sigmoid,
    calibrated_uniformity,
    cosine_distance,
    embedding_norm,
    half_squared_norm,
    uniformity,
    unit,
)

ROUNDING = 1e-9


def random_rows(seed: int, rows: int, size: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, size, generator=generator, dtype=torch.float64) * scale


def pair_log_mean(x: Tensor, content: Tensor | None, low: float, high: float) -> Tensor:
    """The formula over explicit pairs a < b, with squared distances."""
    first, second = torch.triu_indices(len(x), len(x), offset=1)
    distance = (x[first] - x[second]).square().sum(dim=1)
    similarity = torch.ones_like(distance)
    if content is not None:
        similarity = (content[first] * content[second]).sum(dim=1).clamp(low, high)
    return torch.log(torch.exp(-2 * (distance - 2 + 2 * similarity)).mean())


@st.composite
def unit_rows(draw: st.DrawFn) -> Tensor:
    """Unit rows, some of them equal or opposite."""
    rows, size = draw(st.integers(2, 12)), draw(st.integers(1, 6))
    x = random_rows(draw(st.integers(0, 10_000)), rows, size)
    chosen = draw(st.lists(st.integers(0, rows - 1), min_size=rows, max_size=rows))
    signs = draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=rows, max_size=rows))
    return unit(x[chosen] * torch.tensor(signs, dtype=torch.float64)[:, None])


def test_unit_rows_have_length_one_and_a_zero_row_stays_zero() -> None:
    x = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert x.tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]
    assert unit(torch.ones(2, 2, dtype=torch.bfloat16)).dtype == torch.float32


def test_bpr_in_closed_form() -> None:
    assert float(bpr(torch.zeros(5, dtype=torch.float64))) == pytest.approx(math.log(2), abs=1e-9)
    mixed = bpr(torch.tensor([0.0, math.log(3)], dtype=torch.float64))
    assert float(mixed) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, abs=1e-9)
    assert float(bpr(torch.full((3,), -1e4))) == pytest.approx(-math.log(1e-10), rel=1e-6)
    assert float(bpr(torch.full((3,), 1e4))) == pytest.approx(0.0, abs=1e-6)


def test_embedding_norm_is_unsquared_and_divided_by_the_rows_of_the_last_argument() -> None:
    first, last = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.ones(4, 1)
    assert float(embedding_norm(first, last)) == pytest.approx((5 + 2) / 4)
    assert float(embedding_norm(last, first)) == pytest.approx((5 + 2) / 2)


def test_alignment_in_closed_form() -> None:
    a = torch.eye(3)
    assert float(alignment(a, a)) == 0
    assert float(alignment(a, -a)) == pytest.approx(4)
    assert float(alignment(a, a.roll(1, 0))) == pytest.approx(2)


def test_uniformity_in_closed_form() -> None:
    equal = torch.tensor([[1.0, 0.0]] * 5)
    assert float(uniformity(equal)) == pytest.approx(0, abs=1e-6)
    assert float(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))) == pytest.approx(-8)
    assert float(uniformity(torch.eye(4))) == pytest.approx(-4)
    mixed = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert float(uniformity(mixed)) == pytest.approx(math.log((1 + 2 * math.exp(-4)) / 3))


def test_calibrated_uniformity_in_closed_form() -> None:
    x, orthogonal = torch.eye(3), torch.eye(3)
    equal = torch.tensor([[1.0, 0.0]] * 3)
    assert float(calibrated_uniformity(x, orthogonal, 0.0, 1.0)) == pytest.approx(0, abs=1e-6)
    assert float(calibrated_uniformity(x, equal, 0.0, 1.0)) == pytest.approx(-4)
    assert float(calibrated_uniformity(x, equal, 0.0, 0.8)) == pytest.approx(-3.2)
    assert float(calibrated_uniformity(x, orthogonal, 0.25, 0.8)) == pytest.approx(-1)


@settings(max_examples=100, deadline=None)
@given(unit_rows(), st.data())
def test_bounds(x: Tensor, data: st.DataObject) -> None:
    content = unit(random_rows(data.draw(st.integers(0, 10_000)), len(x), 3))
    low, high = sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1))))
    assert -ROUNDING <= float(alignment(x, x.flip(0))) <= 4 + ROUNDING
    plain = float(uniformity(x))
    assert -8 - ROUNDING <= plain <= ROUNDING
    assert plain - ROUNDING <= float(calibrated_uniformity(x, content, low, high)) <= plain + 4 + ROUNDING


@settings(max_examples=50, deadline=None)
@given(unit_rows())
def test_calibration_with_similarity_one_everywhere_is_plain_uniformity(x: Tensor) -> None:
    content = unit(random_rows(1, len(x), 3))
    assert float(calibrated_uniformity(x, content, 1.0, 1.0)) == pytest.approx(float(uniformity(x)), abs=ROUNDING)


@pytest.mark.parametrize("chunk_rows", [1, 3, 7, 40, 512])
@pytest.mark.parametrize("calibrated", [False, True])
def test_value_and_gradients_equal_the_formula_over_pairs(
    calibrated: bool, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", chunk_rows)
    rows = [random_rows(0, 40, 5).requires_grad_(), random_rows(1, 40, 3).requires_grad_()][: 1 + calibrated]
    x, content = unit(rows[0]), unit(rows[-1])
    ours = calibrated_uniformity(x, content, 0.0, 0.8) if calibrated else uniformity(x)
    plain = pair_log_mean(x, content if calibrated else None, 0.0, 0.8)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(3 * ours, rows, retain_graph=True), torch.autograd.grad(3 * plain, rows), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_no_gradient_reaches_content_where_every_similarity_is_clamped() -> None:
    content = unit(1 + 0.01 * random_rows(1, 6, 3)).requires_grad_()
    calibrated_uniformity(unit(random_rows(0, 6, 4)), content, 0.0, 0.8).backward()
    assert content.grad is not None and not content.grad.any()


def test_gradcheck_on_rows_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_ROWS", 3)
    x, content = random_rows(2, 7, 4).requires_grad_(), random_rows(3, 7, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: uniformity(unit(a)), x)
    assert torch.autograd.gradcheck(lambda a, c: calibrated_uniformity(unit(a), unit(c), 0.0, 0.8), (x, content))
    assert torch.autograd.gradcheck(lambda a, c: alignment(unit(a[:, :3]), unit(c)), (x, content))
    assert torch.autograd.gradcheck(lambda a: bpr(a.sum(dim=1)), x)


def test_bfloat16_autocast_is_close_to_float32() -> None:
    x = unit(random_rows(4, 60, 16).float()).requires_grad_()
    content = unit(random_rows(5, 60, 16).float()).requires_grad_()

    def loss_and_gradients() -> tuple[Tensor, ...]:
        loss = calibrated_uniformity(x, content, 0.0, 0.8) + uniformity(x)
        return (loss, *torch.autograd.grad(loss, (x, content)))

    exact = loss_and_gradients()
    with torch.autocast("cpu", torch.bfloat16):
        half = loss_and_gradients()
    assert all(value.dtype == torch.float32 for value in half)
    assert not torch.equal(half[0], exact[0])
    torch.testing.assert_close(half[0], exact[0], rtol=5e-3, atol=5e-3)
    for mine, theirs in zip(half[1:], exact[1:], strict=True):
        assert float((mine - theirs).norm() / theirs.norm()) < 0.02


def test_unit_rows_have_the_gradient_of_a_normalisation_and_none_where_the_norm_is_clamped() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(losses.unit, (x,))
    zero = torch.zeros(2, 3, requires_grad=True)
    losses.unit(zero).sum().backward()
    assert zero.grad is not None
    torch.testing.assert_close(zero.grad, torch.full((2, 3), 1e12))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8))
def test_stabilised_bpr_is_the_mean_softplus_of_the_negated_difference(differences: list[float]) -> None:
    expected = sum(math.log1p(math.exp(-x)) for x in differences) / len(differences)
    value = float(bpr_log_sigmoid(torch.tensor(differences, dtype=torch.float64)))
    assert value == pytest.approx(expected, abs=1e-12)


def test_stabilised_bpr_grows_linearly_where_the_plain_one_stops() -> None:
    far = torch.tensor([-1e4])
    assert float(bpr_log_sigmoid(far)) == pytest.approx(1e4)
    assert float(bpr(far)) < 24


def test_half_squared_norm_is_squared_and_divided_by_the_given_rows() -> None:
    first, second = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.ones(4, 1)
    assert float(half_squared_norm(first, second, rows=10)) == pytest.approx((25 + 4) / 20)


def test_cosine_distance_in_closed_form_and_whatever_the_lengths() -> None:
    a = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [0.0, 0.0]])
    b = torch.tensor([[5.0, 0.0], [0.0, -1.0], [1.0, 0.0], [1.0, 0.0]])
    assert float(cosine_distance(a, b)) == pytest.approx(1 - (1 - 1 + 2**-0.5 + 0) / 4)
    rows = random_rows(0, 6, 4)
    lengths = random_rows(1, 6, 1).exp()
    assert float(cosine_distance(rows, lengths * rows)) == pytest.approx(0, abs=1e-12)
    assert float(cosine_distance(rows, -lengths * rows)) == pytest.approx(2, abs=1e-12)


def test_a_batch_of_one_row_has_no_pairs_and_no_gradient() -> None:
    x = torch.nn.functional.normalize(torch.randn(1, 4)).requires_grad_()
    content = torch.nn.functional.normalize(torch.randn(1, 3)).requires_grad_()
    loss = uniformity(x) + calibrated_uniformity(x, content, 0.0, 0.8)
    loss.backward()
    assert float(loss.detach()) == 0
    assert x.grad is not None and content.grad is not None
    assert not x.grad.any() and not content.grad.any()
