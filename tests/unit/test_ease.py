from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models import ease
from mmrepro.models.base import ItemContent, build_model
from mmrepro.models.ease import EASE
from mmrepro.ops.interactions import Interactions


def unfitted(x: np.ndarray, regularisation: float) -> EASE:
    interactions = Interactions(*x.nonzero(), *x.shape)
    model = build_model("ease", interactions, ItemContent(), {"regularisation": regularisation}, Protocol())
    assert isinstance(model, EASE)
    return model


def fitted(x: np.ndarray, regularisation: float) -> EASE:
    model = unfitted(x, regularisation)
    model.fit()
    return model


def random_histories(n_users: int = 60, n_items: int = 30) -> np.ndarray:
    x = (np.random.default_rng(4).random((n_users, n_items)) < np.linspace(0.02, 0.4, n_items)).astype(float)
    x[5], x[:, 7] = 0, 0  # a user without history, an item without users
    return x


def test_weights_and_scores_of_a_hand_worked_example() -> None:
    # X^T X + I = [[3, 1], [1, 2]] has the inverse [[2, -1], [-1, 3]] / 5; the third item meets no other
    x = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    model = fitted(x, 1.0)
    np.testing.assert_allclose(model.weights.numpy(), [[0, 1 / 3, 0], [1 / 2, 0, 0], [0, 0, 0]], rtol=1e-6, atol=1e-9)
    expected = [[0, 0, 0], [1 / 2, 1 / 3, 0], [0, 1 / 3, 0], [0, 0, 0]]
    np.testing.assert_allclose(model.score(torch.tensor([3, 0, 1, 2])).numpy(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("regularisation", [0.5, 20.0, 10_000.0])
def test_agrees_with_the_inverse_and_with_a_ridge_regression_of_each_item(regularisation: float) -> None:
    x = random_histories()
    model = fitted(x, regularisation)
    weights = model.weights.numpy()
    gram = x.T @ x + regularisation * np.eye(x.shape[1])
    inverse = np.linalg.inv(gram)
    dense = np.eye(x.shape[1]) - inverse / np.diag(inverse)
    np.testing.assert_allclose(weights, dense, rtol=1e-5, atol=1e-7)
    assert (np.diag(weights) == 0).all()
    for item in range(x.shape[1]):  # the weights into an item are its regression on all others
        others = np.delete(np.arange(x.shape[1]), item)
        ridge = np.linalg.solve(gram[np.ix_(others, others)], gram[others, item])
        np.testing.assert_allclose(weights[others, item], ridge, rtol=1e-5, atol=1e-7)
    everyone = model.score(torch.arange(len(x)))
    np.testing.assert_allclose(everyone.numpy(), x @ dense, rtol=1e-5, atol=1e-6)
    assert not everyone[5].any() and not everyone[:, 7].any()


def test_result_does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted(random_histories(), 5.0).weights
    monkeypatch.setattr(ease, "BLOCK_BYTES", 1)
    assert torch.equal(fitted(random_histories(), 5.0).weights, whole)


def test_inversion_takes_no_second_matrix() -> None:
    x = torch.from_numpy(random_histories())
    matrix = x.T @ x + torch.eye(30, dtype=torch.float64)
    before, place = matrix.clone(), matrix.data_ptr()
    ease._invert(matrix)
    assert matrix.data_ptr() == place
    torch.testing.assert_close(matrix @ before, torch.eye(30, dtype=torch.float64))
    assert torch.equal(matrix, matrix.T)


@pytest.mark.parametrize(("free", "fits"), [(12 * 30**2 + ease.BLOCK_BYTES, True), (12 * 30**2 - 1, False)])
def test_refuses_with_the_number_where_memory_is_short(monkeypatch: pytest.MonkeyPatch, free: int, fits: bool) -> None:
    monkeypatch.setattr(ease.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    model = unfitted(random_histories(), 5.0)
    if fits:
        model.fit()
        return
    with pytest.raises(MmreproError) as error:
        model.fit()
    assert str(error.value) == (
        "model 'ease': 30 items need 268 MB of memory and 0 MB are free;"
        " use a larger machine, or leave ease out of `models` for this data set"
    )
    assert model.weights.numel() == 0


def test_electronics_needs_48_thousand_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease.psutil, "virtual_memory", lambda: SimpleNamespace(available=24e9))
    with pytest.raises(MmreproError, match="63001 items need 47,898 MB of memory and 24,000 MB are free"):
        ease._require_memory(63_001)


def test_a_lambda_that_float64_cannot_see_is_named() -> None:
    with pytest.raises(MmreproError, match="not positive definite in float64; raise `regularisation`"):
        fitted(np.ones((3, 2)), 1e-300)


def test_weights_are_in_no_file_of_the_run() -> None:
    assert not fitted(random_histories(), 5.0).state_dict()
