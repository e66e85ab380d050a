"""deferred_linear: the products and gradients of an ordinary linear map."""

from __future__ import annotations

import torch
from torch import Tensor

from charlm.network.deferred_linear import deferred_linear


def chain(product: object, x: Tensor) -> Tensor:
    """Products of products, and one result used twice."""
    total = x.new_zeros(())
    for _ in range(5):
        x = product(x).tanh()  # type: ignore[operator]
        total = total + (x * x).sum()
    return total


def test_gradients_equal_autograds() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(chain(lambda x: x @ weight.T, x), (weight, x))
    actual = torch.autograd.grad(chain(deferred_linear(weight, torch.float64), x), (weight, x))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_a_graph_can_run_backward_again() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(2, 4, requires_grad=True)
    total = chain(deferred_linear(weight, torch.float32), x)
    torch.autograd.grad(total, x, retain_graph=True)  # the weight is left out
    first = torch.autograd.grad(total, weight, retain_graph=True)
    second = torch.autograd.grad(total, weight)
    assert torch.equal(*first, *second)


def test_a_product_that_is_never_used_has_no_gradient() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    deferred_linear(weight, torch.float32)
    used = deferred_linear(weight, torch.float32)
    used(torch.ones(1, 4)).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.ones(4, 4))


def test_products_are_rounded_and_results_and_gradients_keep_their_type() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    product = deferred_linear(weight, torch.bfloat16)
    x = torch.randn(2, 4, requires_grad=True)
    y = product(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, (x.bfloat16() @ weight.bfloat16().T).float())
    y.sum().backward()
    assert weight.grad is not None
    assert x.grad is not None
    assert weight.grad.dtype == x.grad.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(deferred_linear(weight, torch.bfloat16)(x), y)
