from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from mmrepro.ops.edges import (
    EdgePattern,
    constant_graph,
    edge_pattern,
    edge_products,
    edge_softmax,
    edge_sum,
    reverse_values,
    source_values,
)
from mmrepro.ops.graphs import product

N, M, D = 5, 4, 3
# target 1 and source 2 have no edge; one pair stands twice, and nothing is sorted
TARGETS, SOURCES = torch.tensor([4, 2, 0, 2, 0, 2, 3, 2]), torch.tensor([0, 3, 3, 0, 1, 1, 0, 3])
EDGES = [(0, 1), (0, 3), (2, 0), (2, 1), (2, 3), (3, 0), (4, 0)]


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """An operation without a deterministic form is an error here."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    yield
    torch.set_deterministic_debug_mode(before)


def pattern(dtype: torch.dtype = torch.float64) -> EdgePattern:
    built = edge_pattern(TARGETS, SOURCES, N, M)
    return built.apply(lambda t: t.to(dtype) if t.is_floating_point() else t)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def dense(values: Tensor, missing: float = 0.0) -> Tensor:
    whole = torch.full((N, M), missing, dtype=values.dtype)
    rows, columns = torch.tensor(EDGES).T
    return whole.index_put((rows, columns), values)


def at_edges(whole: Tensor) -> Tensor:
    return torch.stack([whole[i, j] for i, j in EDGES])


def test_edges_are_sorted_once_each_and_led_back_by_the_reverse() -> None:
    forward = pattern()
    assert torch.equal(forward.dense(), dense(torch.ones(7, dtype=torch.float64)))
    assert torch.equal(forward.reverse.dense(), forward.dense().T)
    values = torch.arange(7.0, dtype=torch.float64)
    led = reverse_values(forward, values)
    assert led.tolist() == [2, 5, 6, 0, 3, 1, 4]  # by source, then target
    assert torch.equal(reverse_values(forward.reverse, led), values)


def test_products_and_sums_equal_those_of_the_dense_matrix() -> None:
    forward, left, right, values = pattern(), numbers(N, D), numbers(M, D, seed=1), numbers(7, seed=2)
    torch.testing.assert_close(edge_products(forward, left, right), at_edges(left @ right.T))
    torch.testing.assert_close(edge_sum(forward, values, right), dense(values) @ right)
    led = reverse_values(forward, values)
    torch.testing.assert_close(edge_sum(forward.reverse, led, left), dense(values).T @ left)
    torch.testing.assert_close(source_values(forward, right[:, 0]), right[torch.tensor(EDGES)[:, 1], 0])
    assert edge_sum(forward, values, right)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_softmax_equals_that_of_the_dense_rows_and_columns(size: float) -> None:
    forward, values = pattern(), size * numbers(7)
    whole = dense(values, -torch.inf)
    torch.testing.assert_close(edge_softmax(forward, values), at_edges(torch.softmax(whole, dim=1)))
    columns = edge_softmax(forward.reverse, reverse_values(forward, values))
    torch.testing.assert_close(reverse_values(forward.reverse, columns), at_edges(torch.softmax(whole, dim=0)))


CALLS: list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = [
    (lambda a, b: edge_products(pattern(), a, b), (numbers(N, D), numbers(M, D))),
    (lambda v: edge_softmax(pattern(), v), (numbers(7),)),
    (lambda v, b: edge_sum(pattern(), v, b), (numbers(7), numbers(M, D))),
    (lambda v, a: edge_sum(pattern().reverse, reverse_values(pattern(), v), a), (numbers(7), numbers(N, D))),
    (lambda x: source_values(pattern(), x), (numbers(M),)),
]


@pytest.mark.parametrize(("function", "inputs"), CALLS, ids=["products", "softmax", "sum", "reverse", "sources"])
def test_gradients_are_those_of_finite_differences(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    assert gradcheck(function, inputs)


def test_a_vector_beside_itself_gets_both_gradients() -> None:
    square = edge_pattern(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1]), 2, 2)
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True)
    edge_products(square, x, x).backward(torch.tensor([1.0, 10.0, 100.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [[11 * 3, 11 * 5], [11 * 1 + 200 * 3, 11 * 2 + 200 * 5]]


def test_a_constant_graph_is_the_sum_of_its_parts() -> None:
    first, other = pattern(torch.float32), edge_pattern(torch.tensor([1, 0]), torch.tensor([2, 3]), N, M)
    values = numbers(7).float()
    graph = constant_graph([(first, values), (other, torch.tensor([5.0, 7.0]))])
    expected = dense(values.detach())
    expected[1, 2] += 7
    expected[0, 3] += 5
    torch.testing.assert_close(graph.dense(), expected)
    assert torch.equal(graph.transpose.to_dense(), graph.dense().T) and not graph.matrix.requires_grad
    x = numbers(M, D).float()
    torch.testing.assert_close(product(graph, x), expected @ x)


def everything(large: EdgePattern, x: Tensor) -> list[Tensor]:
    """Values and gradients of all functions in a row."""
    leaf = x.clone().requires_grad_()
    weights = edge_softmax(large, edge_products(large, leaf, leaf))
    sums = edge_sum(large.reverse, reverse_values(large, weights * source_values(large, leaf[:, 0])), leaf)
    sums.square().sum().backward()
    assert leaf.grad is not None
    return [sums.detach(), leaf.grad]


def large_pattern(n: int, edges: int) -> EdgePattern:
    generator = torch.Generator().manual_seed(3)
    return edge_pattern(*torch.randint(0, n, (2, edges), generator=generator), n, n)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    large, before = large_pattern(2000, 40_000), torch.get_num_threads()
    x = torch.randn(2000, 16, generator=torch.Generator().manual_seed(4))
    found = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        found.append(everything(large, x))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_no_tensor_of_edges_times_width_is_made() -> None:
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                    self.numel = max(self.numel, tensor.numel())
            return result

    large = large_pattern(40, 1000)
    n_edges = len(large.order)
    with Largest() as largest:
        everything(large, torch.randn(40, 16))
    assert 40 * 16 <= largest.numel <= max(40 * 16, n_edges) < n_edges * 16


def test_computes_in_float32_under_autocast() -> None:
    single, x, y = pattern(torch.float32), numbers(N, D).float(), numbers(M, D).float()
    expected = edge_products(single, x.bfloat16().float(), y)
    with torch.autocast("cpu", torch.bfloat16):
        found = edge_products(single, x.bfloat16(), y)
        sums = edge_sum(single, found, y)
    assert found.dtype == sums.dtype == torch.float32 and torch.equal(found, expected)
