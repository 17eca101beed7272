import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.evaluation import ranking
from mmrepro.evaluation.ranking import NO_ITEM, RankedLists, make_scorer, rank, tie_order, top_k
from mmrepro.models.base import ItemContent, build_model
from mmrepro.ops.interactions import Interactions

NOTHING = (np.array([], dtype=np.int64), np.array([], dtype=np.int64))


def lexsorted(scores: np.ndarray, k: int, order: np.ndarray | None = None) -> np.ndarray:
    """Columns by decreasing score, then by their place in the order."""
    places = np.argsort(tie_order(scores.shape[1]) if order is None else order)
    return np.stack([np.lexsort((places, -row.astype(np.float64)))[:k] for row in scores])


def rank_matrix(scores: np.ndarray, k: int, masked: tuple[np.ndarray, ...] = NOTHING) -> RankedLists:
    table = torch.from_numpy(scores)
    return rank(lambda users: table[users], np.arange(len(scores)), scores.shape[1], (masked[0], masked[1]), k)


@st.composite
def tied_scores(draw: st.DrawFn) -> np.ndarray:
    rows, columns, distinct = draw(st.integers(1, 6)), draw(st.integers(1, 40)), draw(st.integers(1, 4))
    levels = np.array([0.5, -1.0, 0.0, 2.5], dtype=np.float32)[:distinct]
    return levels[np.random.default_rng(draw(st.integers(0, 10_000))).integers(0, distinct, (rows, columns))]


@settings(max_examples=150, deadline=None)
@given(tied_scores(), st.integers(1, 40), st.integers(0, 1000))
def test_ties_go_to_the_first_of_the_order(scores: np.ndarray, k: int, seed: int) -> None:
    k, order = min(k, scores.shape[1]), np.random.default_rng(seed).permutation(scores.shape[1])
    values, columns = top_k(torch.from_numpy(scores), k, order)
    expected = lexsorted(scores, k, order)
    np.testing.assert_array_equal(columns.numpy(), expected)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(scores, expected, axis=1))


def test_more_tied_rows_than_are_sorted_at_once() -> None:
    scores = np.random.default_rng(0).integers(0, 2, (2500, 9)).astype(np.float32)
    order = tie_order(9)
    np.testing.assert_array_equal(top_k(torch.from_numpy(scores), 4, order)[1].numpy(), lexsorted(scores, 4))


def test_a_model_that_tells_no_item_from_another_reaches_chance() -> None:
    # popular items have low numbers, as in many published numberings: who is listed first must not follow
    n_users, n_items, k = 4000, 200, 20
    popularity = 1 / np.arange(1, n_items + 1)
    held_out = np.random.default_rng(0).choice(n_items, n_users, p=popularity / popularity.sum())
    found = []
    for n in range(n_items, n_items + 60):  # a draw for each size
        lists = rank(lambda users, n=n: torch.zeros(len(users), n), np.arange(n_users), n, NOTHING, k)
        found.append((lists.items == held_out[:, None]).any(axis=1).mean())
    assert abs(np.mean(found) - k / n_items) < 0.03  # where the lower number comes first it is 0.61


@settings(max_examples=50, deadline=None)
@given(tied_scores(), st.integers(1, 45), st.integers(0, 1000))
def test_masked_items_are_never_listed_and_short_lists_are_filled(scores: np.ndarray, k: int, seed: int) -> None:
    hidden = np.random.default_rng(seed).random(scores.shape) < 0.6
    lists = rank_matrix(scores, k, hidden.nonzero())
    width = min(k, scores.shape[1])
    assert lists.items.shape == lists.scores.shape == (len(scores), width)
    for row, user_scores in enumerate(scores):
        expected = [item for item in lexsorted(scores[[row]], scores.shape[1])[0] if not hidden[row, item]][:width]
        missing = width - len(expected)
        assert lists.items[row].tolist() == expected + [NO_ITEM] * missing
        assert lists.scores[row].tolist() == [*user_scores[expected].tolist(), *[-np.inf] * missing]


def test_masks_of_users_who_are_not_ranked_do_not_matter() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0]] * 4)
    masked = (np.array([0, 1, 2, 3, 3]), np.array([0, 0, 1, 0, 1]))
    lists = rank(lambda users: scores[users], np.array([2, 3]), 3, masked, 3)
    assert lists.items.tolist() == [[0, 2, NO_ITEM], [2, NO_ITEM, NO_ITEM]]
    assert lists.users.tolist() == [2, 3]


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_chunks_of_users_give_the_same_lists(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 5, (20, 12)).astype(np.float32)
    masked = (generator.random(scores.shape) < 0.3).nonzero()
    whole = rank_matrix(scores.copy(), 6, masked)
    asked: list[int] = []

    def scorer(users: torch.Tensor) -> torch.Tensor:
        asked.append(len(users))
        return torch.from_numpy(scores)[users]

    monkeypatch.setattr(ranking, "SCORE_BYTES", rows * 12 * 4)
    chunked = rank(scorer, np.arange(20), 12, masked, 6)
    assert max(asked) == rows and sum(asked) == 20
    np.testing.assert_array_equal(chunked.items, whole.items)
    np.testing.assert_array_equal(chunked.scores, whole.scores)


@pytest.mark.parametrize("users", [1, 4])
def test_ranking_leaves_the_counts_of_popularity_alone(users: int) -> None:
    interactions = Interactions(np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 1, 1]), 4, 3)
    model = build_model("popularity", interactions, ItemContent(), {}, Protocol())
    model.fit()
    masked = (np.arange(users), np.ones(users, dtype=np.int64))
    lists = rank(make_scorer(model), np.arange(users), 3, masked, 3)
    assert lists.items.tolist() == [[0, 2, NO_ITEM]] * users
    assert model.score(torch.tensor([0]))[0].tolist() == [2, 3, 0]


def test_scores_of_a_model_with_embeddings_are_inner_products() -> None:
    interactions = Interactions(np.array([0, 1]), np.array([0, 1]), 2, 3)
    model = build_model("bpr", interactions, ItemContent(), {"embedding_size": 4}, Protocol())
    users, items = model.embed()
    with torch.no_grad():
        torch.testing.assert_close(make_scorer(model)(torch.tensor([1])), (users @ items.T)[[1]])


def test_nan_score_is_an_error() -> None:
    scores = np.ones((4, 5), dtype=np.float32)
    scores[2, 3] = np.nan
    with pytest.raises(MmreproError, match="scores are NaN; lower the learning rate"):
        rank_matrix(scores, 2)


def test_nan_score_of_a_masked_item_is_never_seen() -> None:
    scores = np.array([[1.0, np.nan, 2.0]], dtype=np.float32)
    assert rank_matrix(scores, 2, (np.array([0]), np.array([1]))).items.tolist() == [[2, 0]]


def test_no_users_give_empty_lists() -> None:
    lists = rank_matrix(np.ones((0, 3), dtype=np.float32), 2)
    assert lists.items.shape == (0, 2)
