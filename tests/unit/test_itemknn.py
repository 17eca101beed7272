import numpy as np
import pytest
import torch
from planted import planted_dataset, training_pairs

from mmrepro.config.protocol import Protocol
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.metrics import recall
from mmrepro.models import itemknn
from mmrepro.models.base import ItemContent, build_model, model_class
from mmrepro.models.itemknn import ItemKNN
from mmrepro.ops.cooccurrence import BYTES_PER_CELL, cooccurrence_blocks
from mmrepro.ops.interactions import Interactions
from mmrepro.training.trainer import Settings, fit_closed_form

BOUGHT = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (3, 2)]  # item 3 is cold, user 4 has nothing


def fitted(pairs: list[tuple[int, int]], n_users: int, n_items: int, **parameters: object) -> ItemKNN:
    users, items = np.array(pairs).T
    interactions = Interactions(users, items, n_users, n_items)
    model = build_model("itemknn", interactions, ItemContent(), parameters, Protocol())
    model.fit()
    assert isinstance(model, ItemKNN)
    return model


def scores(model: ItemKNN) -> np.ndarray:
    return model.score(torch.arange(model.history.shape[0])).numpy()


def random_pairs(n_users: int, n_items: int) -> list[tuple[int, int]]:
    bought = np.random.default_rng(3).random((n_users, n_items)) < np.linspace(0.03, 0.4, n_items)
    return [(int(u), int(i)) for u, i in np.argwhere(bought)]


def test_scores_of_a_hand_worked_example() -> None:
    everyone = scores(fitted(BOUGHT, 5, 4, neighbours_per_item=3, shrinkage=0, similarity="jaccard"))
    expected = [
        [2 / 3, 2 / 3, 1 / 4 + 1 / 3, 0.0],  # had 0 and 1; similarities: 01 2/3, 02 1/4, 12 1/3
        [2 / 3 + 1 / 4, 2 / 3 + 1 / 3, 1 / 4 + 1 / 3, 0.0],
        [0.0, 2 / 3, 1 / 4, 0.0],
        [1 / 4, 1 / 3, 0.0, 0.0],
        [0.0] * 4,
    ]
    np.testing.assert_allclose(everyone, expected, rtol=1e-6)
    nearest = scores(fitted(BOUGHT, 5, 4, neighbours_per_item=1, shrinkage=0, similarity="jaccard"))
    np.testing.assert_allclose(
        nearest[[0, 2, 3]], [[2 / 3, 2 / 3, 1 / 3, 0], [0, 2 / 3, 0, 0], [0, 0, 0, 0]], rtol=1e-6
    )


def test_shrinkage_stands_in_the_denominator() -> None:
    cosine = scores(fitted(BOUGHT, 5, 4, shrinkage=3, similarity="cosine"))
    np.testing.assert_allclose(cosine[2], [0, 2 / (6**0.5 + 3), 1 / (6**0.5 + 3), 0], rtol=1e-6)
    jaccard = scores(fitted(BOUGHT, 5, 4, shrinkage=3, similarity="jaccard"))
    np.testing.assert_allclose(jaccard[2], [0, 2 / 6, 1 / 7, 0], rtol=1e-6)


def test_ties_go_to_the_lower_index() -> None:
    kept = fitted([(0, item) for item in range(5)], 1, 5, neighbours_per_item=2, shrinkage=0).similarity.toarray()
    assert [np.flatnonzero(kept[:, item]).tolist() for item in range(5)] == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]


@pytest.mark.parametrize("similarity", ["cosine", "jaccard"])
@pytest.mark.parametrize(("k", "shrinkage"), [(1, 0.0), (4, 2.5), (100, 10.0)])
def test_agrees_with_dense_brute_force(k: int, shrinkage: float, similarity: str) -> None:
    n_users, n_items = 40, 25
    pairs = random_pairs(n_users, n_items)
    x = np.zeros((n_users, n_items))
    x[tuple(np.array(pairs).T)] = 1
    both, count = x.T @ x, x.sum(axis=0)
    total = np.sqrt(np.outer(count, count)) if similarity == "cosine" else count[:, None] + count - both
    sim = (both / (total + shrinkage + (total == 0))).astype(np.float32)
    np.fill_diagonal(sim, 0)
    for item in range(n_items):
        dropped = sorted(range(n_items), key=lambda other: (-sim[other, item], other))[k:]
        sim[dropped, item] = 0
    sim = np.where(both > 0, sim, 0)
    model = fitted(pairs, n_users, n_items, neighbours_per_item=k, shrinkage=shrinkage, similarity=similarity)
    np.testing.assert_array_equal(model.similarity.toarray(), sim)
    np.testing.assert_allclose(scores(model), x @ sim, rtol=1e-5, atol=1e-7)


def test_result_does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = random_pairs(40, 25)
    whole = fitted(pairs, 40, 25, neighbours_per_item=3)
    expected = scores(whole)
    monkeypatch.setattr(itemknn, "cooccurrence_blocks", lambda history: cooccurrence_blocks(history, 1))
    monkeypatch.setattr(itemknn, "SPARSE_BYTES", 7 * 25 * itemknn.BYTES_PER_SCORE)  # seven users, then a rest of five
    model = fitted(pairs, 40, 25, neighbours_per_item=3)
    assert (whole.similarity != model.similarity).nnz == 0
    np.testing.assert_array_equal(scores(model), expected)


def test_cooccurrences_come_in_blocks_within_the_bound_and_count_repeated_pairs_once() -> None:
    users, items = np.array(random_pairs(40, 25) * 2).T
    history = Interactions(users, items, 40, 25).matrix
    assert history.max() == 1
    blocks = list(cooccurrence_blocks(history, 4 * 25 * BYTES_PER_CELL))
    assert [part.stop - part.start for part, _ in blocks] == [4] * 6 + [1]
    dense = history.toarray()
    np.testing.assert_array_equal(np.vstack([block.toarray() for _, block in blocks]), dense.T @ dense)


@pytest.mark.parametrize("name", ["itemknn", "ease"])
def test_closed_forms_beat_popularity_on_planted_tastes(name: str) -> None:
    def recall_of(model: str) -> float:
        built = build_model(model, training_pairs(planted_dataset()), ItemContent(), {}, Protocol())
        evaluator = Evaluator(planted_dataset(), Protocol())
        outcome = fit_closed_form(built, evaluator, Settings(0, recall, 10, splits=("valid",), depth=10))
        assert outcome.embeddings is None
        return evaluator.value(outcome.lists["valid"], "valid", recall, 10)

    assert model_class(name).closed_form
    assert recall_of(name) > recall_of("popularity") + 0.05
