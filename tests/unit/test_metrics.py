import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmrepro.evaluation.metrics import hits, overall_metrics, per_user_metrics
from mmrepro.evaluation.ranking import NO_ITEM, RankedLists, rank

DATA = Path(__file__).parents[1] / "reference/data"
CUTOFFS = range(1, 21)


def ranked(items: list[list[int]], users: list[int] | None = None) -> RankedLists:
    array = np.array(items, dtype=np.int64)
    order = np.arange(len(items)) if users is None else np.array(users)
    return RankedLists(order, array, np.zeros(array.shape, dtype=np.float32))


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "metrics.npz"))


@pytest.fixture(scope="module")
def pairs() -> np.ndarray:
    return np.load(DATA / "dataset.npz")["interactions"]


def test_lists_equal_the_reference(reference: dict[str, np.ndarray], pairs: np.ndarray) -> None:
    training = pairs[pairs[:, 2] == 0]
    training = training[np.argsort(training[:, 0], kind="stable")]
    scores = torch.from_numpy(reference["scores"])
    lists = rank(lambda u: scores[u], reference["users"], 40, (training[:, 0], training[:, 1]), 20)
    np.testing.assert_array_equal(lists.items, reference["topk"])


def test_hits_equal_the_reference(reference: dict[str, np.ndarray], pairs: np.ndarray) -> None:
    relevant = pairs[pairs[:, 2] > 0]
    lists = RankedLists(reference["users"], reference["topk"], np.zeros((60, 20), dtype=np.float32))
    np.testing.assert_array_equal(hits(lists, relevant[:, 0], relevant[:, 1], 40), reference["hits"])


@pytest.mark.parametrize("metric", ["recall", "ndcg", "precision", "map"])
def test_means_equal_the_reference_at_every_cutoff(reference: dict[str, np.ndarray], metric: str) -> None:
    values = per_user_metrics(reference["hits"], reference["n_relevant"], CUTOFFS)
    means = [values[f"{metric}_at_{k}"].mean() for k in CUTOFFS]
    np.testing.assert_allclose(means, reference[f"metric/{metric}"], rtol=1e-12)


def test_metrics_worked_out_by_hand() -> None:
    # three relevant items, found at ranks 1 and 4; two relevant items, found at rank 3; one relevant item, not found
    hit = np.array([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=bool)
    values = per_user_metrics(hit, np.array([3, 2, 1]), (1, 3, 5))
    expected: dict[str, list[Any]] = {
        "recall_at_1": [Fraction(1, 3), 0, 0],
        "recall_at_3": [Fraction(1, 3), Fraction(1, 2), 0],
        "recall_at_5": [Fraction(2, 3), Fraction(1, 2), 0],
        "precision_at_1": [1, 0, 0],
        "precision_at_3": [Fraction(1, 3), Fraction(1, 3), 0],
        "precision_at_5": [Fraction(2, 5), Fraction(1, 5), 0],
        "map_at_1": [1, 0, 0],
        "map_at_3": [Fraction(1, 3), Fraction(1, 3) / 2, 0],
        "map_at_5": [(1 + Fraction(2, 4)) / 3, Fraction(1, 3) / 2, 0],
        "hit_rate_at_1": [1, 0, 0],
        "hit_rate_at_3": [1, 1, 0],
        "hit_rate_at_5": [1, 1, 0],
    }
    ideal_2, ideal_3 = 1 + 1 / math.log2(3), 1 + 1 / math.log2(3) + Fraction(1, 2)
    expected["ndcg_at_1"] = [1, 0, 0]
    expected["ndcg_at_3"] = [1 / ideal_3, 0.5 / ideal_2, 0]
    expected["ndcg_at_5"] = [(1 + 1 / math.log2(5)) / ideal_3, 0.5 / ideal_2, 0]
    assert set(values) == set(expected)
    for name, fractions in expected.items():
        assert values[name].tolist() == pytest.approx([float(value) for value in fractions], abs=1e-15), name


def test_a_perfect_list_has_ndcg_and_map_one_at_every_cutoff() -> None:
    hit = np.array([[1, 1, 1, 0, 0, 0]], dtype=bool)
    values = per_user_metrics(hit, np.array([3]), range(1, 7))
    for k in range(1, 7):
        assert values[f"ndcg_at_{k}"][0] == pytest.approx(1) and values[f"map_at_{k}"][0] == pytest.approx(1)


def test_ranks_beyond_a_short_list_are_misses() -> None:
    values = per_user_metrics(np.array([[1, 0]], dtype=bool), np.array([4]), (2, 10))
    assert values["recall_at_10"].tolist() == [0.25]
    assert values["precision_at_10"].tolist() == [pytest.approx(0.1)]
    assert values["map_at_10"].tolist() == [0.25]


def test_hits_belong_to_the_listed_user_and_empty_places_are_none() -> None:
    lists = ranked([[1, 0, NO_ITEM], [2, NO_ITEM, NO_ITEM]], users=[1, 3])
    # user 0 with the last item has the key of user 1 with item -1
    hit = hits(lists, np.array([0, 1, 2, 3]), np.array([2, 0, 2, 1]), 3)
    assert hit.tolist() == [[False, True, False], [False, False, False]]


def test_coverage_and_novelty_worked_out_by_hand() -> None:
    # (popularity + 1) / (n_users + 1) = 1, 1/2, 1/8, 1/8: 0, 1, 3 and 3 bits
    popularity = np.array([7, 3, 0, 0])
    lists = ranked([[0, 1, 2], [0, 2, NO_ITEM], [1, 0, NO_ITEM]])
    values = overall_metrics(lists, popularity, 7, (1, 2, 3))
    expected = {
        "coverage_at_1": Fraction(2, 4),
        "coverage_at_2": Fraction(3, 4),
        "coverage_at_3": Fraction(3, 4),
        "novelty_at_1": Fraction(0 + 0 + 1, 3),
        "novelty_at_2": Fraction(0 + 1 + 0 + 3 + 1 + 0, 6),
        "novelty_at_3": Fraction(0 + 1 + 3 + 0 + 3 + 1 + 0, 7),
    }
    assert values == {name: pytest.approx(float(value)) for name, value in expected.items()}


def test_lists_without_items_cover_nothing() -> None:
    assert overall_metrics(ranked([[NO_ITEM]]), np.array([1, 2]), 3, (1,)) == {"coverage_at_1": 0, "novelty_at_1": 0}
