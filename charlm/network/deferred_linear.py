"""A linear map that is applied at every time step of a window and computes its weight gradient once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def deferred_linear(weight: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return the function x -> x W^T, (..., in) to (..., out), for the time steps of one window.

    Autograd would compute the gradient of W at each step and add the results: with a batch of 64
    that is most of the time of the backward pass. For this gradient, the backward pass of each step
    here only stores the input of the step and the gradient of its output. After the backward passes
    of all steps, a single product over the whole window gives the gradient of W. Everything else in
    the cell is ordinary autograd. The autograd graph can run backward several times, one after the
    other; second derivatives are not supported.

    Args:
        weight: The matrix W, (out, in).
        dtype: Type in which the products are computed. The result has the type of x, so that the
            gates are computed in full precision: a forget gate of 0.999 rounded to bf16 is
            exactly 1.
    """
    if not (torch.is_grad_enabled() and weight.requires_grad):
        rounded = weight.to(dtype)
        return lambda x: F.linear(x.to(dtype), rounded).to(x.dtype)
    pending: dict[int, tuple[Tensor, Tensor]] = {}
    shared: Tensor = _SharedWeight.apply(weight, pending, dtype)
    calls = 0

    def product(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return _Product.apply(x, shared, pending, calls)

    return product


class _SharedWeight(torch.autograd.Function):
    """The matrix W, rounded to the type of the products: one node for all products of a window.

    Its backward pass runs after those of all products and computes the gradient of W.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, pending: dict[int, tuple[Tensor, Tensor]], dtype: torch.dtype) -> Tensor:
        ctx.pending, ctx.dtype = pending, weight.dtype
        ctx.set_materialize_grads(False)  # the products return no gradient for the weight
        return weight.to(dtype) if weight.dtype != dtype else weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor | None, None, None]:
        if not ctx.pending:
            return None, None, None
        inputs, gradients = zip(*ctx.pending.values(), strict=True)
        ctx.pending.clear()
        of_all, to_all = (torch.cat([part.flatten(0, -2) for part in parts]) for parts in (gradients, inputs))
        return (of_all.T @ to_all).to(ctx.dtype), None, None


class _Product(torch.autograd.Function):
    """The product x W^T of one time step.

    Its backward pass returns the gradient of x, and stores what the gradient of W needs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pending: dict[int, tuple[Tensor, Tensor]], call: int) -> Tensor:
        ctx.dtype, ctx.pending, ctx.call = x.dtype, pending, call
        x = x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        return (x @ weight.T).to(ctx.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].to(weight.dtype)
        ctx.pending[ctx.call] = x, gradient
        return (gradient @ weight).to(ctx.dtype), None, None, None
