"""The loss of a window, without all logits of a large vocabulary in memory at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from charlm.network.model import LanguageModel

MAX_LOGITS = 2**25
"""Largest number of logits (tokens x vocabulary) that are held in memory at once."""

IGNORE_INDEX = -100
"""Targets that are left out: the default of `torch.nn.functional.cross_entropy`."""


def summed_cross_entropy(model: LanguageModel, features: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of the targets of a window, summed over the tokens, in nats.

    If there are more than `MAX_LOGITS` logits, they are computed in chunks. With gradients, chunks
    need torch's `linear_cross_entropy`; where torch lacks it, all logits are computed at once.

    Args:
        model: The network, whose output layer gives the logits.
        features: The features that `LanguageModel.hidden` returns, as (tokens, hidden).
        targets: Token ids, (tokens,); targets of -100 are left out.

    Returns:
        A scalar. With gradients it is on the device of the features, in float32 or float64;
        without gradients it is float64 on the CPU.
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
    """Yield slices that cover `tokens` tokens, each with at most `MAX_LOGITS` logits.

    A slice has at least one token, however large the vocabulary. For 0 tokens there is one slice.
    """
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
    """Return the logits of `features` in float32, or in float64 for a float64 model.

    The loss of bf16 logits would be wrong by some percent.
    """
    projected = model.project(features)
    return projected if projected.dtype == torch.float64 else projected.float()
