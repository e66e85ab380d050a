"""Linear recurrences h[t] = a[t] h[t - 1] + b[t] over a whole window, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """Compute the linear recurrence h[t] = a[t] h[t - 1] + b[t] with h[-1] = start, for all t.

    The scan is sequential on a CPU, where memory bandwidth is the limit: a sequential scan reads
    every number once. It is parallel on a GPU, where a pass over the whole window takes hardly
    longer than one time step.

    Args:
        a, b: The coefficients, (time, batch, hidden) each.
        start: The state before the first time step, (batch, hidden).

    Returns:
        The states h, (time, batch, hidden).
    """
    return _Scan.apply(a, b, start, parallel_scan if a.is_cuda else sequential_scan)


def sequential_scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """Compute the recurrence of `scan` one time step after the other, without gradients."""
    outputs = torch.empty_like(b)
    h = start
    for x, y, new in zip(a.unbind(0), b.unbind(0), outputs.unbind(0), strict=True):
        h = torch.addcmul(y, x, h, out=new)
    return outputs


def parallel_scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """Compute the recurrence of `scan` in log2(time) passes by doubling, without gradients.

    After k passes, the value of each time step combines the 2^k steps up to it (Hillis and Steele
    1986).
    """
    b = torch.cat([torch.addcmul(b[:1], a[:1], start), b[1:]])
    reach = 1
    while reach < len(a):
        b = torch.cat([b[:reach], torch.addcmul(b[reach:], a[reach:], b[:-reach])])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return b


class _Scan(torch.autograd.Function):
    """The recurrence h[t] = a[t] h[t - 1] + b[t] as an autograd function.

    The backward pass is the same recurrence from the end: g[t] = d[t] + a[t + 1] g[t + 1], where
    d[t] is the incoming gradient of h[t], and g[t] is the gradient of b[t].
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, start: Tensor, algorithm: Callable[..., Tensor]) -> Tensor:
        outputs = algorithm(a, b, start)
        ctx.algorithm = algorithm
        ctx.save_for_backward(a, start, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        a, start, outputs = ctx.saved_tensors
        following = torch.cat([a[1:], torch.zeros_like(a[:1])]).flip(0)
        g = ctx.algorithm(following, gradients[0].flip(0), torch.zeros_like(start)).flip(0)
        before = torch.cat([start[None], outputs[:-1]])
        return g * before, g, a[0] * g[0], None
