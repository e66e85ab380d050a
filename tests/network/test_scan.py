"""Scans: the recurrence h[t] = a[t] h[t - 1] + b[t], and its gradients."""

from __future__ import annotations

import pytest
import torch

from charlm.network.scan import parallel_scan, scan, sequential_scan


@pytest.mark.parametrize("time", [1, 2, 7, 8, 33])
def test_both_algorithms_are_the_recurrence(time: int) -> None:
    torch.manual_seed(time)
    a = torch.rand(time, 3, 4, dtype=torch.float64)
    b, start = torch.randn(time, 3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    expected, h = [], start
    for x, y in zip(a, b, strict=True):
        h = x * h + y
        expected.append(h)
    torch.testing.assert_close(sequential_scan(a, b, start), torch.stack(expected), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parallel_scan(a, b, start), torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_gradients_equal_finite_differences() -> None:
    torch.manual_seed(1)
    a = torch.rand(5, 2, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    start = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scan, (a, b, start))


def test_digits_are_kept_over_a_long_window() -> None:
    torch.manual_seed(2)
    a = 1 - torch.rand(2000, 1, 8) * 1e-2
    b, start = torch.randn(2000, 1, 8), torch.randn(1, 8)
    exact = sequential_scan(a.double(), b.double(), start.double())
    for algorithm in (sequential_scan, parallel_scan):
        assert ((algorithm(a, b, start) - exact).abs() / exact.abs().amax()).max() < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_result_of_a_cpu() -> None:
    torch.manual_seed(3)
    a, b, start = torch.rand(64, 3, 4), torch.randn(64, 3, 4), torch.randn(3, 4)
    torch.testing.assert_close(scan(a.cuda(), b.cuda(), start.cuda()).cpu(), scan(a, b, start), rtol=1e-5, atol=1e-5)
