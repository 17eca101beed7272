import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepro.ops import graphs
from mmrepro.ops.graphs import (
    GRAPH_EPSILON,
    SparseGraph,
    bipartite_graphs,
    from_scipy,
    layer_mean,
    layer_sum,
    neighbour_mean_graph,
    product,
    user_item_graph,
    weighted_neighbour_graph,
)


def dense_user_item_graph(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> np.ndarray:
    adjacency = np.zeros((n_users + n_items,) * 2)
    for user, item in zip(users, items, strict=True):
        adjacency[user, n_users + item] = adjacency[n_users + item, user] = 1
    scale = (adjacency.sum(axis=1) + GRAPH_EPSILON) ** -0.5
    return scale[:, None] * adjacency * scale[None, :]


def directed_graph(n: int = 9, seed: int = 0) -> SparseGraph:
    matrix = sp.random_array((n, n), density=0.3, rng=np.random.default_rng(seed), format="csr")
    assert abs(matrix - matrix.T).max() > 0.1
    return from_scipy(matrix)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_user_item_graph_equals_the_dense_formula(n_users: int, n_items: int, pairs: list[tuple[int, int]]) -> None:
    users = np.array([user % n_users for user, _ in pairs], dtype=np.int64)
    items = np.array([item % n_items for _, item in pairs], dtype=np.int64)
    graph = user_item_graph(users, items, n_users, n_items)
    expected = dense_user_item_graph(users, items, n_users, n_items)
    np.testing.assert_allclose(graph.dense().numpy(), expected, rtol=1e-6)
    assert graph.transpose is graph.matrix


def test_repeated_pairs_count_once_and_order_does_not_matter() -> None:
    users, items = np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1])
    graph = user_item_graph(users, items, 3, 2).dense()
    repeated = user_item_graph(np.array([2, 1, 0, 1, 1, 0]), np.array([1, 1, 0, 0, 1, 0]), 3, 2).dense()
    assert torch.equal(graph, repeated)
    assert float(graph[0, 3]) == pytest.approx(2**-0.5)
    assert float(graph[1, 3]) == pytest.approx(0.5)


def test_isolated_nodes_have_empty_rows_and_keep_their_vector() -> None:
    graph = user_item_graph(np.array([0]), np.array([2]), 2, 3)
    assert graph.dense()[[1, 2, 3]].count_nonzero() == 0
    start = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer_sum(graph, start, 3)[[1, 2, 3]], start[[1, 2, 3]])
    assert bool(layer_sum(graph, start, 3).isfinite().all())


def test_int32_pairs_of_a_large_matrix_do_not_overflow() -> None:
    n_users, n_items = 70_000, 40_000
    graph = user_item_graph(np.array([69_999], np.int32), np.array([39_999], np.int32), n_users, n_items)
    ends = graph.matrix.crow_indices().diff().nonzero().flatten()
    assert ends.tolist() == [69_999, 109_999]


def test_neighbour_mean_graph_equals_the_dense_formula() -> None:
    generator = np.random.default_rng(0)
    neighbours = {
        modality: np.stack([generator.permutation(7)[:k] for _ in range(7)])
        for modality, k in (("image", 3), ("text", 2))
    }
    weights = {"image": 0.1, "text": 0.9}
    expected = np.zeros((7, 7))
    for modality, lists in neighbours.items():
        k = lists.shape[1]
        for item, row in enumerate(lists):
            expected[item, row] += weights[modality] / (k + GRAPH_EPSILON)
    graph = neighbour_mean_graph({m: torch.from_numpy(x) for m, x in neighbours.items()}, weights)
    np.testing.assert_allclose(graph.dense().numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(graph.transpose.to_dense().numpy(), expected.T, rtol=1e-6)
    assert not np.allclose(expected, expected.T)


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
def test_layer_sum_and_mean_equal_dense_powers(layers: int) -> None:
    graph = directed_graph()
    start = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
    expected = sum(torch.linalg.matrix_power(graph.dense(), power) @ start for power in range(layers + 1))
    torch.testing.assert_close(layer_sum(graph, start, layers), expected)
    torch.testing.assert_close(layer_mean(graph, start, layers), expected / (layers + 1))


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_gradient_of_a_directed_graph_is_that_of_the_dense_computation(layers: int) -> None:
    graph, generator = directed_graph(), torch.Generator().manual_seed(2)
    start = torch.randn(9, 3, generator=generator).requires_grad_()
    weights = torch.randn(9, 3, generator=generator)
    dense = graph.dense()
    powers = sum(torch.linalg.matrix_power(dense, power) for power in range(layers + 1))
    (ours,) = torch.autograd.grad((layer_sum(graph, start, layers) * weights).sum(), start)
    torch.testing.assert_close(ours, powers.T @ weights if layers else weights)
    (ours,) = torch.autograd.grad((product(graph, start) * weights).sum(), start)
    torch.testing.assert_close(ours, dense.T @ weights)


def test_gradient_through_non_contiguous_and_expanded_gradients() -> None:
    graph = directed_graph()
    start = torch.randn(9, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()
    (ours,) = torch.autograd.grad(layer_sum(graph, start, 1).sum(), start)
    expected = (torch.eye(9) + graph.dense()).T @ torch.ones(9, 3)
    torch.testing.assert_close(ours, expected)


def test_products_stay_in_float32_under_autocast() -> None:
    graph = directed_graph()
    start = torch.randn(9, 3, generator=torch.Generator().manual_seed(4))
    expected = graph.matrix @ start
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(product(graph, start), expected)
        assert layer_sum(graph, start.bfloat16(), 2).dtype == torch.float32


def test_apply_keeps_a_symmetric_graph_one_tensor_and_converts_both_otherwise() -> None:
    symmetric = user_item_graph(np.array([0, 1]), np.array([0, 0]), 2, 1).apply(lambda x: x.double())
    assert symmetric.transpose is symmetric.matrix and symmetric.matrix.dtype == torch.float64
    directed = directed_graph().apply(lambda x: x.double())
    torch.testing.assert_close(directed.transpose.to_dense(), directed.dense().T)


def test_bipartite_graph_keeps_repeated_pairs_as_weights_and_has_no_epsilon() -> None:
    graph, block = bipartite_graphs(np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1]), 3, 3)
    root_2, root_6 = 2**0.5, 6**0.5  # degrees: users 3, 1, 0; items 2, 2, 0
    expected = np.array([[2 / root_6, 1 / root_6, 0], [0, 1 / root_2, 0], [0, 0, 0]])
    np.testing.assert_allclose(block.dense().numpy(), expected, rtol=1e-7)
    whole = np.block([[np.zeros((3, 3)), expected], [expected.T, np.zeros((3, 3))]])
    np.testing.assert_allclose(graph.dense().numpy(), whole, rtol=1e-7)
    assert graph.transpose is graph.matrix
    torch.testing.assert_close(block.transpose.to_dense(), block.dense().T)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=30))
def test_roots_of_degrees_are_a_fixed_point_of_the_bipartite_graph(pairs: list[tuple[int, int]]) -> None:
    users, items = np.array(pairs).T
    graph, block = bipartite_graphs(users, items, 6, 5)
    degrees = np.concatenate([np.bincount(users, minlength=6), np.bincount(items, minlength=5)])
    roots = torch.from_numpy(degrees**0.5).float()[:, None]
    torch.testing.assert_close(product(graph, roots), roots)
    assert torch.equal(graph.dense()[:6, 6:], block.dense())


def dense_weighted_graph(features: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    kept = np.zeros((len(rows),) * 2)
    np.put_along_axis(kept, neighbours, 1, axis=1)
    weights = kept * (rows @ rows.T)
    scale = weights.sum(axis=1) ** -0.5
    return scale[:, None] * weights * scale


@pytest.mark.parametrize("pair_bytes", [1, 8 * 5 * 3 * 2, 2**25])
def test_weighted_neighbour_graph_equals_the_dense_formula_whatever_the_chunk(
    pair_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "PAIR_BYTES", pair_bytes)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(7, 5)) + 1
    neighbours = np.stack([np.r_[item, rng.choice(np.delete(np.arange(7), item), 2, False)] for item in range(7)])
    graph = weighted_neighbour_graph(torch.from_numpy(features), torch.from_numpy(neighbours))
    expected = dense_weighted_graph(features, neighbours)
    np.testing.assert_allclose(graph.dense().numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(graph.transpose.to_dense().numpy(), expected.T, rtol=1e-6)
    assert not np.allclose(expected, expected.T)


def test_equal_directions_weigh_one_over_k() -> None:
    features = torch.arange(1.0, 6.0)[:, None] * torch.tensor([[3.0, 4.0]])
    neighbours = (torch.arange(5)[:, None] + torch.arange(3)) % 5
    values = weighted_neighbour_graph(features, neighbours).matrix.values()
    torch.testing.assert_close(values, torch.full((15,), 1 / 3))


def test_items_whose_cosines_do_not_sum_above_zero_are_cut_off_and_harm_no_other() -> None:
    east, west, nothing = [1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]
    features = torch.tensor([east, west, west, nothing, east])
    neighbours = torch.tensor([[0, 1, 2], [1, 2, 0], [2, 1, 0], [3, 0, 1], [4, 0, 3]])
    dense = weighted_neighbour_graph(features, neighbours).dense()
    assert dense[[0, 3]].count_nonzero() == 0 == dense[:, [0, 3]].count_nonzero()  # row sums 1 - 2 and 0
    assert dense[1].tolist() == [0, 1, 1, 0, 0] == dense[2].tolist()  # row sums 1 + 1 - 1
    torch.testing.assert_close(dense[4], torch.tensor([0, 0, 0, 0, 0.5]))  # 1 + 1 + 0
