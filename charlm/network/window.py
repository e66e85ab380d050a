"""What makes a window of many steps quick: one weight gradient for all of its products, and scans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# -- products whose weight gradients wait for the end of the window


def deferred(weight: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The function x -> x W^T, (batch, in) to (batch, out), for the many steps of one window.

    Autograd would compute the gradient of W once a step and add them up: for a batch of 64 most of the time of the
    backward pass. Here each step's backward pass only notes its input and what came back, and when all have, one
    product over the whole window gives the sum. The cell in between is ordinary autograd, whatever it does.

    Args:
        weight: (out, in).
        dtype: What the products are computed in. What comes back has the type of x: the gates that follow are computed
            in full, for a gate of 0.999 that is rounded to 8 bits forgets nothing any more.

    The graph can be walked back once at a time, and not differentiated twice.
    """
    if not (torch.is_grad_enabled() and weight.requires_grad):
        plain = weight.to(dtype)
        return lambda x: F.linear(x.to(dtype), plain).to(x.dtype)
    notes: dict[int, tuple[Tensor, Tensor]] = {}
    rounded: Tensor = _Collect.apply(weight, notes, dtype)
    count = 0

    def product(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return _Use.apply(x, rounded, notes, count)

    return product


class _Collect(torch.autograd.Function):
    """The weight as it is; backward, after all its uses, the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, notes: dict[int, tuple[Tensor, Tensor]], dtype: torch.dtype) -> Tensor:
        ctx.notes, ctx.dtype = notes, weight.dtype
        ctx.set_materialize_grads(False)  # no gradient comes back the ordinary way
        return weight.to(dtype) if weight.dtype != dtype else weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor | None, None, None]:
        if not ctx.notes:
            return None, None, None
        inputs, gradients = zip(*ctx.notes.values(), strict=True)
        ctx.notes.clear()
        return (torch.cat(gradients).T @ torch.cat(inputs)).to(ctx.dtype), None, None


class _Use(torch.autograd.Function):
    """One product; backward, the gradient of its input, and a note for that of the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, notes: dict[int, tuple[Tensor, Tensor]], number: int) -> Tensor:
        ctx.dtype, ctx.notes, ctx.number = x.dtype, notes, number
        x = x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        return (x @ weight.T).to(ctx.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].to(weight.dtype)
        ctx.notes[ctx.number] = x, gradient
        return (gradient @ weight).to(ctx.dtype), None, None, None


# -- linear recurrences


def scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """h[t] = a[t] h[t - 1] + b[t] with h[-1] = start: (time, batch, hidden) from a and b, (batch, hidden) from start.

    Step by step on a CPU, where memory is the limit and this reads each number once; in log2(time) passes over the
    whole window on a GPU, where a pass costs hardly more than a step.
    """
    return _Scan.apply(a, b, start, in_passes if a.is_cuda else in_steps)


def in_steps(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """The recurrence one step after the other."""
    outputs = torch.empty_like(b)
    h = start
    for x, y, new in zip(a.unbind(0), b.unbind(0), outputs.unbind(0), strict=True):
        h = torch.addcmul(y, x, h, out=new)
    return outputs


def in_passes(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """The recurrence by doubling (Hillis and Steele 1986): after k passes each step knows the 2^k before it."""
    b = torch.cat([torch.addcmul(b[:1], a[:1], start), b[1:]])
    reach = 1
    while reach < len(a):
        b = torch.cat([b[:reach], torch.addcmul(b[reach:], a[reach:], b[:-reach])])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return b


class _Scan(torch.autograd.Function):
    """The recurrence; backward, the same recurrence from the end: g[t] = gradient[t] + a[t + 1] g[t + 1]."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, start: Tensor, walk: Callable[..., Tensor]) -> Tensor:
        outputs = walk(a, b, start)
        ctx.walk = walk
        ctx.save_for_backward(a, start, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        a, start, outputs = ctx.saved_tensors
        following = torch.cat([a[1:], torch.zeros_like(a[:1])]).flip(0)
        g = ctx.walk(following, gradients[0].flip(0), torch.zeros_like(start)).flip(0)
        before = torch.cat([start[None], outputs[:-1]])
        return g * before, g, a[0] * g[0], None
