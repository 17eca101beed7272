import pytest
import torch

from mmrepro.ops.dense import linear_of_constant, product_transposed


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (300, 40, 17)])
def test_products_equal_those_in_float64(shape: tuple[int, int, int]) -> None:
    n, m, k = shape
    torch.manual_seed(0)
    a, b, bias = torch.randn(n, k), torch.randn(m, k), torch.randn(m)
    exact = a.double() @ b.double().T
    torch.testing.assert_close(product_transposed(a, b), exact.float())
    torch.testing.assert_close(product_transposed(a, b, bias), (exact + bias).float())


def test_transposed_views_need_no_copy() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(9, 20), torch.randn(9, 6)
    torch.testing.assert_close(product_transposed(a.T, b.T), (a.double().T @ b.double()).float())


def test_the_gradient_is_that_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    x = torch.randn(11, 4, dtype=torch.float64)
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, b: linear_of_constant(x, w, b), (weight, bias))
    narrow = [t.detach().float().requires_grad_() for t in (weight, bias)]
    linear_of_constant(x.float(), *narrow).square().sum().backward()
    torch.nn.functional.linear(x, weight, bias).square().sum().backward()
    torch.testing.assert_close(narrow[0].grad, weight.grad.float())
    torch.testing.assert_close(narrow[1].grad, bias.grad.float())


def test_autocast_gives_bfloat16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert linear_of_constant(torch.ones(2, 3), torch.ones(4, 3), torch.zeros(4)).dtype == torch.bfloat16
