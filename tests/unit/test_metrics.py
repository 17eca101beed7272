import ast
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.evaluation.lists import NO_ITEM, RankedLists, lists_frame, lists_of_rows
from mmrepro.evaluation.metrics import METRICS, Content, Measured, Metric, means
from mmrepro.evaluation.ranking import rank
from mmrepro.ops.interactions import Interactions
from mmrepro.study.products import metric_names

DATA = Path(__file__).parents[1] / "reference/data"
SOURCE = Path(__file__).parents[2] / "src/mmrepro"
CUTOFFS = range(1, 21)
BY_NAME = {metric.name: metric for metric in METRICS}


def ranked(items: list[list[int]], users: list[int] | None = None) -> RankedLists:
    array = np.array(items, dtype=np.int64)
    order = np.arange(len(items)) if users is None else np.array(users)
    return RankedLists(order, array, np.zeros(array.shape, dtype=np.float32))


def interactions(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> Interactions:
    users, items = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    return Interactions(users, items, n_users, n_items)


def measured(
    lists: list[list[int]], relevant: list[tuple[int, int]], popularity: list[int], n_users: int | None = None,
    users: list[int] | None = None, content: Content | None = None,
) -> Measured:  # fmt: skip
    n, n_items = n_users or len(lists), len(popularity)
    training = [(0, item) for item, count in enumerate(popularity) for _ in range(count)]
    pairs = interactions(relevant, n, n_items)
    return Measured(ranked(lists, users), pairs, interactions(training, n, n_items), content)


def values_of(found: Measured, names: list[str], cutoffs: Any) -> dict[str, np.ndarray]:
    return {f"{name}_at_{k}": BY_NAME[name].values(found, k) for name in names for k in cutoffs}


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "metrics.npz"))


@pytest.fixture(scope="module")
def pairs() -> np.ndarray:
    return np.load(DATA / "dataset.npz")["interactions"].astype(np.int64)


@pytest.fixture(scope="module")
def found(reference: dict[str, np.ndarray], pairs: np.ndarray) -> Measured:
    held_out, training = pairs[pairs[:, 2] > 0], pairs[pairs[:, 2] == 0]
    lists = RankedLists(reference["users"], reference["topk"], np.zeros((60, 20), dtype=np.float32))
    return Measured(lists, Interactions(*held_out[:, :2].T, 60, 40), Interactions(*training[:, :2].T, 60, 40))


def test_lists_equal_the_reference(reference: dict[str, np.ndarray], pairs: np.ndarray) -> None:
    training = pairs[pairs[:, 2] == 0]
    training = training[np.argsort(training[:, 0], kind="stable")]
    scores = torch.from_numpy(reference["scores"])
    lists = rank(lambda u: scores[u], reference["users"], 40, (training[:, 0], training[:, 1]), 20)
    np.testing.assert_array_equal(lists.items, reference["topk"])


def test_hits_equal_the_reference(found: Measured, reference: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(found.hits, reference["hits"])
    np.testing.assert_array_equal(found.n_relevant, reference["n_relevant"])


@pytest.mark.parametrize("metric", ["recall", "ndcg", "precision", "map"])
def test_means_equal_the_reference_at_every_cutoff(
    found: Measured, reference: dict[str, np.ndarray], metric: str
) -> None:
    average = [BY_NAME[metric].values(found, k).mean() for k in CUTOFFS]
    np.testing.assert_allclose(average, reference[f"metric/{metric}"], rtol=1e-12)


def test_accuracy_worked_out_by_hand() -> None:
    # three relevant items, found at ranks 1 and 4; two relevant items, found at rank 3; one relevant item, not found
    lists = [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    relevant = [(0, 0), (0, 3), (0, 7), (1, 2), (1, 7), (2, 7)]
    names = [metric.name for metric in METRICS if metric.accuracy]
    values = values_of(measured(lists, relevant, [1] * 8), names, (1, 3, 5))
    ideal_2, ideal_3 = 1 + 1 / math.log2(3), 1 + 1 / math.log2(3) + Fraction(1, 2)
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
        "mrr_at_1": [1, 0, 0],
        "mrr_at_3": [1, Fraction(1, 3), 0],
        "mrr_at_5": [1, Fraction(1, 3), 0],
        "ndcg_at_1": [1, 0, 0],
        "ndcg_at_3": [1 / ideal_3, 0.5 / ideal_2, 0],
        "ndcg_at_5": [(1 + 1 / math.log2(5)) / ideal_3, 0.5 / ideal_2, 0],
    }
    assert set(values) == set(expected)
    for name, fractions in expected.items():
        assert values[name].tolist() == pytest.approx([float(value) for value in fractions], abs=1e-15), name


def test_a_perfect_list_has_ndcg_map_and_mrr_one_at_every_cutoff() -> None:
    perfect = measured([[0, 1, 2, 3, 4, 5]], [(0, 0), (0, 1), (0, 2)], [1] * 6)
    for k in range(1, 7):
        for name in ("ndcg", "map", "mrr"):
            assert BY_NAME[name].values(perfect, k)[0] == pytest.approx(1)


def test_ranks_beyond_a_short_list_are_misses() -> None:
    values = values_of(
        measured([[0, 1]], [(0, 0), (0, 2), (0, 3), (0, 4)], [1] * 5), ["recall", "precision", "map"], (2, 10)
    )
    assert values["recall_at_10"].tolist() == [0.25]
    assert values["precision_at_10"].tolist() == [pytest.approx(0.1)]
    assert values["map_at_10"].tolist() == [0.25]


def test_hits_belong_to_the_listed_user_and_empty_places_are_none() -> None:
    # user 0 with the last item has the key of user 1 with item -1
    relevant = [(0, 2), (1, 0), (2, 2), (3, 1)]
    found = measured([[1, 0, NO_ITEM], [2, NO_ITEM, NO_ITEM]], relevant, [1] * 3, n_users=4, users=[1, 3])
    assert found.hits.tolist() == [[False, True, False], [False, False, False]]


def test_coverage_novelty_and_gini_worked_out_by_hand() -> None:
    # (popularity + 1) / (n_users + 1) = 1, 1/2, 1/8, 1/8: 0, 1, 3 and 3 bits
    found = measured([[0, 1, 2], [0, 2, NO_ITEM], [1, 0, NO_ITEM]], [(u, 3) for u in range(3)], [7, 3, 0, 0], n_users=7)
    values = values_of(found, ["coverage", "novelty", "gini"], (1, 2, 3))
    expected = {
        "coverage_at_1": Fraction(2, 4),
        "coverage_at_2": Fraction(3, 4),
        "coverage_at_3": Fraction(3, 4),
        "novelty_at_1": Fraction(0 + 0 + 1, 3),
        "novelty_at_2": Fraction(0 + 1 + 0 + 3 + 1 + 0, 6),
        "novelty_at_3": Fraction(0 + 1 + 3 + 0 + 3 + 1 + 0, 7),
        # listed 2, 1, 0, 0 times: (-3 * 0 - 1 * 0 + 1 * 1 + 3 * 2) / (4 * 3)
        "gini_at_1": Fraction(7, 12),
        # listed 3, 2, 1, 0 times: (-1 * 1 + 1 * 2 + 3 * 3) / (4 * 6)
        "gini_at_2": Fraction(10, 24),
        # listed 3, 2, 2, 0 times: (-1 * 2 + 1 * 2 + 3 * 3) / (4 * 7)
        "gini_at_3": Fraction(9, 28),
    }
    assert {name: value[0] for name, value in values.items()} == {
        name: pytest.approx(float(value)) for name, value in expected.items()
    }


def test_gini_is_zero_for_equal_exposure_and_almost_one_for_a_single_item() -> None:
    relevant = [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert BY_NAME["gini"].values(measured([[0], [1], [2], [3]], relevant, [1] * 4), 1)[0] == 0
    assert BY_NAME["gini"].values(measured([[2], [2], [2], [2]], relevant, [1] * 4), 1)[0] == Fraction(3, 4)


def test_lists_without_items_cover_nothing() -> None:
    empty = measured([[NO_ITEM]], [(0, 0)], [1, 2], n_users=3)
    values = values_of(empty, ["coverage", "novelty", "gini"], (1,))
    assert {name: value[0] for name, value in values.items()} == {"coverage_at_1": 0, "novelty_at_1": 0, "gini_at_1": 0}
    assert np.isnan(BY_NAME["aplt"].values(empty, 1)).all()
    assert np.isnan(BY_NAME["intra_list_distance"].values(empty, 1)).all()


def test_long_tail_share_worked_out_by_hand() -> None:
    # of five items the four least popular are the tail; of the equally popular 1 and 4, item 4 is the head's
    lists = [[4, 1, 0], [4, NO_ITEM, NO_ITEM], [2, 3, 4]]
    found = measured(lists, [(0, 0), (1, 0), (2, 0)], [2, 9, 1, 0, 9])
    assert BY_NAME["aplt"].values(found, 1).tolist() == [0, 0, 1]
    assert BY_NAME["aplt"].values(found, 3).tolist() == [2 / 3, 0, 2 / 3]


def test_intra_list_distance_worked_out_by_hand() -> None:
    # cosines: 0 and 1 are 0.6, 0 and 2 are 0, 1 and 2 are 0.8; item 3 has no features of its own
    rows = np.array([[1, 0], [0.6, 0.8], [0, 1], [1, 0]], dtype=np.float32)
    content = Content(rows, np.array([True, True, True, False]))
    lists = [[0, 1, 2], [3, 0, 1], [3, 0, NO_ITEM]]
    found = measured(lists, [(0, 0), (1, 0), (2, 0)], [1] * 4, content=content)
    values = BY_NAME["intra_list_distance"].values(found, 3)
    assert values[0] == pytest.approx((0.4 + 1.0 + 0.2) / 3, abs=1e-6)
    assert values[1] == pytest.approx(0.4, abs=1e-6)
    assert np.isnan(values[2])
    assert BY_NAME["intra_list_distance"].values(found, 2)[0] == pytest.approx(0.4, abs=1e-6)
    assert means(values) == pytest.approx((1.6 / 3 + 0.4) / 2, abs=1e-6)
    assert np.isnan(BY_NAME["intra_list_distance"].values(measured(lists, [(0, 0), (1, 0), (2, 0)], [1] * 4), 3)).all()


@given(st.integers(1, 6), st.integers(2, 9), st.integers(1, 8), st.randoms(use_true_random=False))
def test_every_metric_keeps_to_its_range(n_users: int, n_items: int, length: int, random: Any) -> None:
    lists = [random.sample(range(n_items), k=min(length, n_items)) for _ in range(n_users)]
    relevant = [(u, i) for u in range(n_users) for i in random.sample(range(n_items), k=random.randint(1, n_items))]
    rows = np.random.default_rng(random.randint(0, 99)).normal(size=(n_items, 3))
    content = Content(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.arange(n_items) != 1)
    popularity = [random.randint(0, n_users) for _ in range(n_items)]
    found = measured(lists, relevant, popularity, content=content)
    for metric in METRICS:
        for k in (1, 3, 20):
            values = metric.values(found, k)
            assert values.shape == ((n_users,) if metric.per_user else (1,))
            known = values[~np.isnan(values)]
            assert (known >= -1e-12).all() and (metric.largest is None or (known <= metric.largest + 1e-12).all())


@given(st.integers(1, 5), st.integers(1, 7), st.randoms(use_true_random=False))
def test_lists_come_back_from_their_rows(n_users: int, n_items: int, random: Any) -> None:
    lists = [random.sample(range(n_items), k=random.randint(0, n_items)) for _ in range(n_users)]
    items = np.array([[*row, *[NO_ITEM] * (n_items - len(row))] for row in lists])
    scores = np.where(items == NO_ITEM, -np.inf, -np.arange(n_items)).astype(np.float32)
    written = RankedLists(np.arange(n_users) * 3, items, scores)
    rows = lists_frame({"test": written}).sample(frac=1, random_state=random.randint(0, 9))
    again = lists_of_rows(rows, written.users)
    width = again.items.shape[1]
    np.testing.assert_array_equal(again.items, items[:, :width])
    np.testing.assert_array_equal(again.scores, scores[:, :width])
    assert (items[:, width:] == NO_ITEM).all()


def test_the_registry_says_of_each_metric_what_a_reader_must_know() -> None:
    assert len(BY_NAME) == len(METRICS) and len({metric.short for metric in METRICS}) == len(METRICS)
    assert metric_names() == [metric.name for metric in METRICS if metric.accuracy]
    for metric in METRICS:
        assert metric.label and metric.short and metric.unit and metric.compute.__doc__
        assert not metric.accuracy or (metric.per_user and metric.better == "larger")


ALLOWED = {
    "config/run.py",  # the default of what is watched
    "evaluation/metrics.py",
    "evaluation/probe.py",  # closed forms of two of them
    "training/trainer.py",  # the same default
    "features/alignment/measures.py",  # of retrieval, its own
    "reporting/tables/long_tail.py",  # a recall of its own, by groups of items
}


def test_the_names_of_metrics_stand_nowhere_else() -> None:
    names = {metric.name for metric in METRICS} | {metric.short for metric in METRICS if len(metric.short) > 1}
    names -= {"map", "coverage", "precision"}  # words of other meanings, too
    found = set()
    for path in SOURCE.rglob("*.py"):
        where = path.relative_to(SOURCE).as_posix()
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                if node.value in names or any(f"{name}_at_" == node.value[: len(name) + 4] for name in names):
                    found.add(where)
    assert found - ALLOWED == set()


def test_a_metric_is_called_by_the_name_of_its_function() -> None:
    def something(found: Measured, k: int) -> float:
        return k / 2

    metric = Metric(something, "something", "S", per_user=False)
    assert metric.name == "something" and metric.values(measured([[0]], [(0, 0)], [1]), 3).tolist() == [1.5]
