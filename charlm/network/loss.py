"""The loss of a window, without holding the logits of a large vocabulary all at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.network.model import LanguageModel

MAX_LOGITS = 2**25
"""Logits (tokens x vocabulary) that are held in memory at once."""

IGNORE_INDEX = -100
"""Targets that are left out: the default of `torch.nn.functional.cross_entropy`."""


def summed_cross_entropy(model: LanguageModel, features: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of `targets` (tokens,) given `features` (tokens, hidden), summed over the tokens, in nats.

    Targets of -100 are left out. More logits than `MAX_LOGITS` are computed in chunks; with
    gradients this needs torch's `linear_cross_entropy`, without which they are computed at once.
    The result is a scalar on the device of the features in the precision of the logits, at least
    float32; without gradients it is float64 on the CPU.
    """
    if torch.is_grad_enabled():
        return _differentiable(model, features, targets)
    total = torch.zeros((), dtype=torch.float64)
    for part in parts(len(features), model.vocab_size):
        nats = F.cross_entropy(
            logits(model, features[part]), targets[part], reduction="none", ignore_index=IGNORE_INDEX
        )
        total += nats.cpu().double().sum()
    return total


def parts(tokens: int, vocab_size: int) -> Iterator[slice]:
    """The tokens in consecutive parts of at most `MAX_LOGITS` logits, at least one part."""
    size = max(1, MAX_LOGITS // vocab_size)
    return (slice(start, start + size) for start in range(0, max(tokens, 1), size))


def _differentiable(model: LanguageModel, features: Tensor, targets: Tensor) -> Tensor:
    linear_cross_entropy = getattr(F, "linear_cross_entropy", None)  # from torch 2.13
    if linear_cross_entropy is None or len(targets) * model.vocab_size <= MAX_LOGITS:
        return F.cross_entropy(logits(model, features), targets, reduction="sum", ignore_index=IGNORE_INDEX)
    inputs, weight, bias = model.output_inputs(features)
    loss: Tensor = linear_cross_entropy(
        inputs.float(),
        weight,
        targets,
        linear_bias=bias,
        reduction="sum",
        ignore_index=IGNORE_INDEX,
        options=torch.nn.LinearCrossEntropyOptions(),
    )
    return loss


def logits(model: LanguageModel, features: Tensor) -> Tensor:
    """Logits in float32, or float64: the loss of bf16 logits would be wrong by some percent."""
    projected = model.project(features)
    return projected if projected.dtype == torch.float64 else projected.float()
