import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepro.errors import MmreproError
from mmrepro.ops.neighbours import nearest_neighbours


def dense_neighbours(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1)
    cosines = (unit @ unit.T).astype(np.float32)
    lists, values = [], []
    for item in range(len(features)):
        ranked = sorted(range(len(features)), key=lambda j: (j != item, -cosines[item, j], j))[:k]
        lists.append(ranked)
        values.append(cosines[item, ranked])
    return np.array(lists), np.array(values)


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    seed, distinct, dim = draw(st.integers(0, 10_000)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    n_items = draw(st.integers(1, 24))
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(distinct, dim)).astype(np.float32)
    rows[0] *= draw(st.sampled_from([0.0, 1.0]))
    return rows[generator.integers(0, distinct, n_items)], draw(st.integers(1, n_items)), draw(st.integers(1, 4))


@settings(max_examples=150, deadline=None)
@given(matrices())
def test_equals_the_dense_result_with_duplicates_and_zero_rows_in_any_chunk(case: tuple[np.ndarray, int, int]) -> None:
    features, k, chunk_rows = case
    expected_indices, expected_cosines = dense_neighbours(features, k)
    indices, cosines = nearest_neighbours(torch.from_numpy(features), k, chunk_bytes=40 * len(features) * chunk_rows)
    assert indices.dtype == torch.int64 and cosines.dtype == torch.float32
    np.testing.assert_array_equal(indices.numpy(), expected_indices)
    np.testing.assert_allclose(cosines.numpy(), expected_cosines, atol=1e-6)


def test_equals_the_dense_result_on_random_features() -> None:
    features = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    indices, cosines = nearest_neighbours(torch.from_numpy(features), 10, chunk_bytes=50_000)
    expected_indices, expected_cosines = dense_neighbours(features, 10)
    np.testing.assert_array_equal(indices.numpy(), expected_indices)
    np.testing.assert_allclose(cosines.numpy(), expected_cosines, atol=1e-6)


def test_item_comes_first_among_its_duplicates_then_lower_index() -> None:
    features = torch.tensor([[1.0, 2.0], [0.0, 1.0], [2.0, 4.0], [1.0, 2.0], [0.5, 1.0]])
    indices, cosines = nearest_neighbours(features, 3)
    assert indices[3].tolist() == [3, 0, 2]
    assert indices[0].tolist() == [0, 2, 3]
    assert cosines[3].tolist() == [1.0, 1.0, 1.0]


def test_zero_row_has_cosine_zero_and_is_nobodys_neighbour() -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
    indices, cosines = nearest_neighbours(features, 3)
    assert indices[0].tolist() == [0, 1, 2]
    assert cosines[0].tolist() == [0.0, 0.0, 0.0]
    assert 0 not in indices[1:]


def test_chunk_and_threads_change_nothing_when_all_rows_are_nearly_equal() -> None:
    features = 5 + torch.from_numpy(np.random.default_rng(1).normal(size=(120, 33)).astype(np.float32)) * 1e-4
    whole = nearest_neighbours(features, 7)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        chunked = nearest_neighbours(features, 7, chunk_bytes=40 * 120 * 13)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(whole[0], chunked[0])
    assert torch.equal(whole[1], chunked[1])


def clustered(n_items: int, dim: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(n_items // 20, dim, generator=generator)
    return centres.repeat(20, 1) + 0.3 * torch.randn(20 * (n_items // 20), dim, generator=generator)


def test_threads_and_chunks_change_no_bit() -> None:
    features = clustered(600, 700)
    features[100:160] = features.mean(dim=0)  # what missing items get
    features[200:203] = 0
    features[300:340] = features[300] * torch.linspace(1, 3, 40)[:, None]  # one direction, 40 lengths
    before = torch.get_num_threads()
    results = []
    try:
        for threads, chunk_bytes in ((1, 2**28), (2, 2**28), (2, 3_000_000), (1, 2**20)):
            torch.set_num_threads(threads)
            results.append(nearest_neighbours(features, 10, chunk_bytes))
    finally:
        torch.set_num_threads(before)
    for indices, cosines in results[1:]:
        assert torch.equal(indices, results[0][0])
        assert torch.equal(cosines, results[0][1])


def test_equals_the_dense_result_where_float32_products_cannot_tell_neighbours_apart() -> None:
    generator = np.random.default_rng(2)
    features = (1 + 3e-3 * generator.normal(size=(90, 1200))).astype(
        np.float32
    )  # cosines within some 1e-5 of each other
    expected_indices, expected_cosines = dense_neighbours(features, 10)
    indices, cosines = nearest_neighbours(torch.from_numpy(features), 10)
    assert len(np.unique(expected_cosines[:, 1:])) > 20
    np.testing.assert_array_equal(cosines.numpy(), expected_cosines)
    np.testing.assert_array_equal(indices.numpy(), expected_indices)


def test_items_without_content_share_one_row_and_come_in_by_index() -> None:
    features = clustered(200, 16)
    features[50:120] = features.mean(dim=0)
    expected_indices, expected_cosines = dense_neighbours(features.numpy(), 12)
    indices, cosines = nearest_neighbours(features, 12, chunk_bytes=100_000)
    assert indices[119].tolist() == [119, *range(50, 61)]
    np.testing.assert_array_equal(indices.numpy(), expected_indices)
    np.testing.assert_allclose(cosines.numpy(), expected_cosines, atol=1e-7)


@pytest.mark.slow
def test_memory_beside_the_features_stays_within_the_chunk() -> None:
    script = """
import resource, sys, torch
from mmrepro.ops.neighbours import nearest_neighbours
features = torch.randn(4000, 1024, generator=torch.Generator().manual_seed(0))
nearest_neighbours(features[:100], 10)  # libraries allocate what they keep
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest_neighbours(features, 10, chunk_bytes=8 * 2**20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert float(output) < 25  # MiB; a copy of the features in float64 would have 31


def test_half_precision_features_are_accepted() -> None:
    features = torch.eye(4).half()
    indices, cosines = nearest_neighbours(features, 2)
    assert indices.tolist() == [[0, 1], [1, 0], [2, 0], [3, 0]]
    assert cosines.tolist() == [[1.0, 0.0]] * 4


@pytest.mark.parametrize("k", [0, 4])
def test_impossible_list_length_names_both_numbers(k: int) -> None:
    with pytest.raises(MmreproError, match=rf"{k} wanted of 3 items"):
        nearest_neighbours(torch.eye(3), k)
