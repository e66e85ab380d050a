"""Measurements of how far back a network looks.

`gradient_through_time` measures how far gradients reach back, and `memory_horizon` how much a
longer context lowers the loss. Both use `LanguageModel.hidden`, in the same way for every cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlm.network.loss import summed_cross_entropy
from charlm.network.model import LanguageModel, evaluating

DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Distances in tokens at which gradients are computed, about evenly spaced on a log axis."""


def excerpts(ids: NDArray[Any], count: int, length: int) -> Tensor:
    """Return evenly spaced pieces of a text, (count, length) int64.

    There are fewer than `count` pieces if the text is too short for so many without overlap.

    Raises:
        ValueError: the text is shorter than one piece.
    """
    if len(ids) < length:
        raise ValueError(f"a text of {len(ids)} tokens has no piece of {length}")
    count = min(count, len(ids) // length)
    starts = np.linspace(0, len(ids) - length, count).astype(np.int64)
    return torch.from_numpy(np.stack([ids[start : start + length] for start in starts]).astype(np.int64))


def gradient_through_time(
    model: LanguageModel, ids: Tensor, distances: Sequence[int] = DISTANCES
) -> tuple[list[int], Tensor]:
    """Compute the gradient of the loss of one token with respect to earlier states of the network.

    With L_T the loss of predicting the token after token T and h_t the state after token t, this is
    the norm |dL_T / dh_t| at each distance T - t. h_t is the whole state of one layer (for an LSTM: h and c), while the
    states of the other layers at t are held fixed. If the norm falls exponentially with the
    distance, gradients vanish, and dependencies over long distances cannot be learnt (Hochreiter,
    1991; Bengio et al., 1994; Pascanu et al., 2013).

    Args:
        model: The network, in training or evaluation mode; dropout is switched off during the call.
        ids: (lanes, T + 1) token ids. The loss is that of the last token, given all tokens before
            it and the zero state.
        distances: The values of T - t. Values below 1 or above T - 1 are left out.

    Returns:
        The distances in ascending order; and for each layer and distance the Euclidean norm of the
        gradient, averaged over the lanes, (layers, distances) float64.
    """
    device = next(model.parameters()).device
    inputs, targets = ids[:, :-1].to(device), ids[:, -1].to(device)
    length = inputs.shape[1]
    kept = sorted({distance for distance in distances if 0 < distance < length})
    with evaluating(model), torch.enable_grad():
        # Only the states at these distances are needed, so the fastest path reads the tokens between them at once.
        states: list[Tensor] = []
        start, state = 0, model.initial_state(len(inputs))
        for distance in reversed(kept):
            _, state = model.hidden(inputs[:, start : length - distance], state)
            state = state if states else state.detach().requires_grad_()  # no gradient is needed further back
            states.append(state)
            start = length - distance
        features, _ = model.hidden(inputs[:, start:], state)
        loss = F.cross_entropy(model.project(features[:, -1]).double(), targets, reduction="sum")
        gradients = torch.autograd.grad(loss, states) if states else ()
    lengths = torch.empty(model.config.layers, len(kept), dtype=torch.float64)
    for column, gradient in enumerate(reversed(gradients)):
        lengths[:, column] = torch.linalg.vector_norm(gradient.double(), dim=(1, 3)).mean(-1)
    return kept, lengths


@torch.no_grad()
def memory_horizon(
    model: LanguageModel, ids: NDArray[Any], *, longest: int = 256, blocks: int = 4
) -> tuple[list[int], list[float]]:
    """Compute the loss of the same tokens with contexts of 1, 2, 4, ... tokens before each of them.

    The context at which the loss stops falling is the length of the network's memory (compare
    Khandelwal et al., 2018, "Sharp nearby, fuzzy far away"). With a context of c, the network
    starts from the zero state and has read c to 2 c - 1 tokens before it predicts a token.

    Args:
        model: The network, in training or evaluation mode; dropout is switched off during the call.
        ids: (tokens,) a text, which is read as one stream.
        longest: Tokens of the longest context, a power of two. It is halved until twice this number
            of tokens fits into the text.
        blocks: Number of blocks of `longest` tokens that are predicted; fewer in a short text.

    Returns:
        The contexts, and the loss with each of them in nats per token; both are empty for a text of
        fewer than two tokens.
    """
    while longest * 2 > len(ids):
        longest //= 2
    if not longest:
        return [], []
    device = next(model.parameters()).device
    pieces = excerpts(ids, blocks, 2 * longest).to(device)  # context, then the block that is predicted
    contexts, losses = [2**power for power in range(longest.bit_length())], []
    with evaluating(model):
        for context in contexts:
            # Windows of two contexts, one context apart; the second half of each is scored.
            windows = pieces[:, longest - context :].unfold(1, 2 * context, context).flatten(0, 1)
            features, _ = model.hidden(windows[:, :-1])
            features, targets = features[:, context - 1 :].flatten(0, 1), windows[:, context:].flatten()
            losses.append(float(summed_cross_entropy(model, features, targets)) / len(targets))
    return contexts, losses
