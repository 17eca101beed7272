import numpy as np
import pytest
import torch

from mmrepro.ops.projection import principal_components


def features(rows: int = 60, size: int = 8, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    scales = np.geomspace(5, 0.1, size)
    rotation = np.linalg.qr(generator.normal(size=(size, size)))[0]
    return torch.from_numpy((generator.normal(size=(rows, size)) * scales) @ rotation + 3).float()


def test_equals_the_singular_value_decomposition_of_centred_features() -> None:
    x = features()
    ours = principal_components(x, 3)
    centred = (x - x.mean(dim=0)).double()
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    expected = left[:, :3] * values[:3]
    signs = (ours.double() * expected).sum(dim=0).sign()
    torch.testing.assert_close(ours.double(), expected * signs, rtol=0, atol=1e-4)
    assert ours.dtype == torch.float32 and ours.shape == (60, 3)


def test_components_are_centred_uncorrelated_and_by_decreasing_variance() -> None:
    ours = principal_components(features(), 4).double()
    torch.testing.assert_close(ours.mean(dim=0), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-5)
    covariance = ours.T @ ours
    variances = covariance.diagonal()
    assert float((covariance - variances.diag()).abs().max()) < 1e-3
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)


def test_dropping_only_constant_directions_keeps_all_inner_products_of_centred_rows() -> None:
    x = torch.cat([features(size=4), torch.ones(60, 1)], dim=1)
    ours, centred = principal_components(x, 4), x - x.mean(dim=0)
    torch.testing.assert_close(ours @ ours.T, centred @ centred.T, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rank", [8, 9])
def test_features_that_are_narrow_enough_are_left_alone(rank: int) -> None:
    x = features()
    assert principal_components(x, rank) is x


def test_sign_is_fixed_by_the_largest_loading_not_by_the_solver() -> None:
    x = features()
    direction = x.double()[:, 0] - x.double()[:, 0].mean()
    dominant = torch.zeros(60, 3)
    dominant[:, 0] = direction.float() * 100
    dominant[:, 1] = x[:, 1]
    component = principal_components(dominant, 1)[:, 0].double()
    assert float((component * direction).sum()) > 0
    assert float((principal_components(-dominant, 1)[:, 0].double() * direction).sum()) < 0
