"""What makes a window quick is what a window is: deferred products and scans, against the obvious."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from charlm.network.window import deferred, in_passes, in_steps, scan


def chain(product: object, x: Tensor) -> Tensor:
    """Products of products, and one result used twice."""
    total = x.new_zeros(())
    for _ in range(5):
        x = product(x).tanh()  # type: ignore[operator]
        total = total + (x * x).sum()
    return total


def test_deferred_gradients_are_autograds() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(chain(lambda x: x @ weight.T, x), (weight, x))
    actual = torch.autograd.grad(chain(deferred(weight, torch.float64), x), (weight, x))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_a_graph_can_be_walked_again() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(2, 4, requires_grad=True)
    total = chain(deferred(weight, torch.float32), x)
    torch.autograd.grad(total, x, retain_graph=True)  # the weight is left out
    first = torch.autograd.grad(total, weight, retain_graph=True)
    second = torch.autograd.grad(total, weight)
    assert torch.equal(*first, *second)


def test_a_product_that_is_never_used_has_no_gradient() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    deferred(weight, torch.float32)
    used = deferred(weight, torch.float32)
    used(torch.ones(1, 4)).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.ones(4, 4))


def test_products_are_rounded_and_gradients_are_not() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    product = deferred(weight, torch.bfloat16)
    x = torch.randn(2, 4, requires_grad=True)
    y = product(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, (x.bfloat16() @ weight.bfloat16().T).float())
    y.sum().backward()
    assert weight.grad is not None
    assert x.grad is not None
    assert weight.grad.dtype == x.grad.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(deferred(weight, torch.bfloat16)(x), y)


@pytest.mark.parametrize("time", [1, 2, 7, 8, 33])
def test_scans_are_the_recurrence(time: int) -> None:
    torch.manual_seed(time)
    a = torch.rand(time, 3, 4, dtype=torch.float64)
    b, start = torch.randn(time, 3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    expected, h = [], start
    for x, y in zip(a, b, strict=True):
        h = x * h + y
        expected.append(h)
    torch.testing.assert_close(in_steps(a, b, start), torch.stack(expected), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(in_passes(a, b, start), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_gradients_of_a_scan_are_differences() -> None:
    torch.manual_seed(1)
    a = torch.rand(5, 2, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    start = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scan, (a, b, start))


def test_a_scan_keeps_its_digits_over_a_long_window() -> None:
    torch.manual_seed(2)
    a = 1 - torch.rand(2000, 1, 8) * 1e-2
    b, start = torch.randn(2000, 1, 8), torch.randn(1, 8)
    exact = in_steps(a.double(), b.double(), start.double())
    for walk in (in_steps, in_passes):
        assert ((walk(a, b, start) - exact).abs() / exact.abs().amax()).max() < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_scan_on_a_gpu_is_one_on_a_cpu() -> None:
    torch.manual_seed(3)
    a, b, start = torch.rand(64, 3, 4), torch.randn(64, 3, 4), torch.randn(3, 4)
    torch.testing.assert_close(scan(a.cuda(), b.cuda(), start.cuda()).cpu(), scan(a, b, start), rtol=1e-5, atol=1e-5)
