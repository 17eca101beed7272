import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.evaluation.significance import holm, paired_test


def differences(values: list[float]) -> float:
    a = np.asarray(values, dtype=float)
    return paired_test(a, np.zeros_like(a))


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_wilcoxon_of_n_distinct_positive_differences_is_two_of_all_sign_patterns(n: int) -> None:
    assert differences(list(range(1, n + 1))) == pytest.approx(2 / 2**n)


def test_wilcoxon_counts_sign_patterns_with_a_rank_sum_as_extreme() -> None:
    # ranks 1..4, the smallest difference negative: rank sum of the negatives 1; patterns with sum <= 1: {}, {1}
    assert differences([-1, 2, 3, 4]) == pytest.approx(2 * 2 / 16)


def test_wilcoxon_leaves_out_users_without_a_difference() -> None:
    assert differences([0, 0, 0, 1, 2, 3]) == differences([1, 2, 3])


def test_wilcoxon_with_equal_differences_is_exact() -> None:
    assert differences([0, 1 / 4, 1 / 4, 1 / 4]) == pytest.approx(2 / 8)


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.0], [0.5], []])
def test_nothing_to_compare_gives_one(values: list[float]) -> None:
    assert differences(values) == 1


def test_rounding_noise_of_means_over_seeds_is_no_difference() -> None:
    a = np.array([0.1 + 0.2, 0.3, 0.7])
    assert paired_test(a, np.array([0.3, 0.3, 0.7])) == 1


def test_order_of_the_models_and_of_the_users_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random(200), generator.random(200)
    order = generator.permutation(200)
    p = paired_test(a, b)
    assert p == pytest.approx(paired_test(b, a))
    assert p == pytest.approx(paired_test(a[order], b[order]))


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        paired_test(np.zeros(2), np.zeros(3))


def test_holm_by_hand() -> None:
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; the last is raised to the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_is_at_most_one_and_keeps_equal_values_equal() -> None:
    assert holm([0.6, 0.6, 0.9]) == pytest.approx([1, 1, 1])
    assert holm([0.01, 0.01]) == pytest.approx([0.02, 0.02])


def test_holm_of_an_empty_family_and_of_one() -> None:
    assert holm([]).shape == (0,)
    assert holm([0.2]) == pytest.approx([0.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    corrected = holm(p)
    assert (corrected >= np.array(p)).all()
    assert (corrected <= np.minimum(1, len(p) * np.array(p)) + 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()
