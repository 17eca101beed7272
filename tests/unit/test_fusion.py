import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmrepro.ops.fusion import slerp, spherical_bezier
from mmrepro.ops.losses import unit

RELATIONS = ("random", "parallel", "opposite", "nearly parallel", "nearly opposite")
OPPOSITE_GAP = 5e-3  # length of the gap at the far end of vectors that count as opposite: sqrt(2 * OPPOSITE_MARGIN)


def random_rows(seed: int, rows: int, size: int) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def control_points(draw: st.DrawFn) -> list[Tensor]:
    """Float32 rows before normalisation, each a random one or a neighbour of the modality before."""
    rows, size, count = draw(st.integers(1, 4)), draw(st.integers(2, 8)), draw(st.integers(2, 6))
    seed = draw(st.integers(0, 10_000))
    points = [random_rows(seed, rows, size)]
    for number in range(1, count):
        relation = draw(st.sampled_from(RELATIONS))
        fresh = random_rows(seed + number, rows, size)
        if relation == "random":
            points.append(fresh)
            continue
        sign = 1 if "parallel" in relation else -1
        noise = 10.0 ** draw(st.integers(-8, -2)) if "nearly" in relation else 0.0
        points.append(sign * points[-1] + noise * fresh)
    return [point.float() for point in points]


@settings(max_examples=150, deadline=None)
@given(control_points(), st.sampled_from(["triangular", "iterated"]), st.floats(0, 1, width=32), st.integers(0, 9))
def test_result_is_unit_and_gradient_finite_for_any_vectors(
    points: list[Tensor], scheme: str, t: float, weight_seed: int
) -> None:
    leaves = [point.requires_grad_() for point in points]
    result = spherical_bezier([unit(leaf) for leaf in leaves], torch.full((len(leaves[0]), 1), t), scheme)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.norm(dim=1), torch.ones(len(result)), rtol=0, atol=1e-5)
    weights = random_rows(weight_seed, *result.shape).float()
    for gradient in torch.autograd.grad((result * weights).sum(), leaves):
        assert bool(gradient.isfinite().all())


@settings(max_examples=100, deadline=None)
@given(control_points(), st.sampled_from(["triangular", "iterated"]))
def test_curve_starts_at_the_first_and_ends_at_the_last_point(points: list[Tensor], scheme: str) -> None:
    points = [unit(point) for point in points]
    start, end = (spherical_bezier(points, torch.tensor(t), scheme) for t in (0.0, 1.0))
    torch.testing.assert_close(start, points[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(end, points[-1], rtol=0, atol=OPPOSITE_GAP)


@pytest.mark.parametrize("scheme", ["triangular", "iterated"])
def test_ends_are_exact_for_vectors_that_are_not_opposite(scheme: str) -> None:
    points = [unit(random_rows(seed, 50, 6)).float() for seed in range(4)]
    torch.testing.assert_close(spherical_bezier(points, torch.tensor(0.0), scheme), points[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(spherical_bezier(points, torch.tensor(1.0), scheme), points[-1], rtol=0, atol=1e-6)


def test_slerp_equals_its_formula_in_float64() -> None:
    start, end = unit(random_rows(0, 200, 5)), unit(random_rows(1, 200, 5))
    t = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]
    angle = torch.arccos((start * end).sum(dim=1, keepdim=True))
    formula = torch.sin((1 - t) * angle) / torch.sin(angle) * start + torch.sin(t * angle) / torch.sin(angle) * end
    torch.testing.assert_close(slerp(start, end, t), formula, rtol=0, atol=1e-12)
    torch.testing.assert_close(slerp(start, end, t, safe=False), formula, rtol=0, atol=1e-12)


def test_slerp_on_the_circle_divides_the_angle() -> None:
    start, end = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    third = slerp(start, end, torch.tensor(1 / 3))
    assert third[0].tolist() == pytest.approx([3**0.5 / 2, 0.5], abs=1e-6)


def test_opposite_vectors_are_joined_by_half_a_great_circle() -> None:
    start = unit(random_rows(0, 20, 4)).float()
    quarter, middle = (slerp(start, -start, torch.tensor(t)) for t in (0.25, 0.5))
    torch.testing.assert_close((middle * start).sum(dim=1), torch.zeros(20), rtol=0, atol=1e-6)
    torch.testing.assert_close((quarter * start).sum(dim=1), torch.full((20,), 0.5**0.5), rtol=0, atol=1e-6)
    torch.testing.assert_close((quarter * middle).sum(dim=1), torch.full((20,), 0.5**0.5), rtol=0, atol=1e-6)


def test_gradient_is_right_away_from_the_clamps() -> None:
    start, end = random_rows(2, 4, 3).requires_grad_(), random_rows(3, 4, 3).requires_grad_()
    t = torch.tensor([[0.1], [0.4], [0.5], [0.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: slerp(unit(a), unit(b), t), (start, end))


def test_one_point_is_returned_as_it_is() -> None:
    point = unit(random_rows(0, 3, 4))
    assert torch.equal(spherical_bezier([point], torch.tensor(0.3)), point)


def test_schemes_agree_for_two_points_and_differ_for_three() -> None:
    points = [unit(random_rows(seed, 10, 4)) for seed in range(3)]
    t = torch.tensor(0.3, dtype=torch.float64)
    assert torch.equal(spherical_bezier(points[:2], t), spherical_bezier(points[:2], t, "iterated"))
    assert not torch.allclose(spherical_bezier(points, t), spherical_bezier(points, t, "iterated"), atol=1e-2)


def test_triangular_scheme_of_three_points_is_de_casteljau_written_out() -> None:
    a, b, c = (unit(random_rows(seed, 10, 4)) for seed in range(3))
    t = torch.rand(10, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_hand = slerp(slerp(a, b, t), slerp(b, c, t), t)
    torch.testing.assert_close(spherical_bezier([a, b, c], t), by_hand, rtol=0, atol=1e-12)


def test_the_programs_clamp_gives_nan_for_parallel_float32_vectors_and_ours_does_not() -> None:
    x = torch.eye(3)
    t = torch.full((3, 1), 0.4)
    assert bool(slerp(x, x, t, safe=False).isnan().all())
    assert not bool(slerp(x.double(), x.double(), t.double(), safe=False).isnan().any())
    torch.testing.assert_close(slerp(x, x, t), x, rtol=0, atol=1e-6)
