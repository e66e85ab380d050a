"""How far a network looks back: how far gradients reach while it learns, and how far it remembers when it reads.

Both are measured from outside, through `LanguageModel.hidden`, and so for every cell alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlm.measure.evaluation import summed_nats
from charlm.network.model import LanguageModel, evaluating

DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Steps back in time at which a gradient is measured: evenly spread on a logarithmic axis."""


def excerpts(ids: NDArray[Any], count: int, length: int) -> Tensor:
    """Pieces of a text at even distances, (count, length) int64; fewer where the text is too short for so many.

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
    """How much the loss of one token depends on what each layer remembered before: |dL_T / dh_t| against T - t.

    Where these lengths fall exponentially with the distance, gradients vanish, and nothing that lies further
    back can be learnt (Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013). h_t is the whole state of a
    layer after token t (of an LSTM h and c); the other layers' states at t are held fixed.

    Args:
        model: The network, in any mode; nothing is dropped.
        ids: (lanes, T + 1): the loss is that of the last token, given all before it and a state of zeros.
        distances: Values of T - t; those of T and above are left out.

    Returns:
        The distances that were measured, in ascending order, and for each layer and distance the Euclidean
        length of the gradient, averaged over the lanes: (layers, distances) float64.
    """
    device = next(model.parameters()).device
    inputs, targets = ids[:, :-1].to(device), ids[:, -1].to(device)
    length = inputs.shape[1]
    kept = sorted({distance for distance in distances if 0 < distance < length})
    with evaluating(model), torch.enable_grad():
        # Only the states between the pieces are needed, so whole pieces are read at once, by the quickest path.
        states: list[Tensor] = []
        start, state = 0, model.initial_state(len(inputs))
        for distance in reversed(kept):
            _, state = model.hidden(inputs[:, start : length - distance], state)
            state = state if states else state.detach().requires_grad_()  # what led to the first does not matter
            states.append(state)
            start = length - distance
        features, _ = model.hidden(inputs[:, start:], state)
        loss = F.cross_entropy(model.project(features[:, -1]).double(), targets, reduction="sum")
        gradients = torch.autograd.grad(loss, states) if states else ()
    lengths = torch.empty(model.shape.layers, len(kept), dtype=torch.float64)
    for column, gradient in enumerate(reversed(gradients)):
        lengths[:, column] = torch.linalg.vector_norm(gradient.double(), dim=(1, 3)).mean(-1)
    return kept, lengths


@torch.no_grad()
def memory_horizon(
    model: LanguageModel, ids: NDArray[Any], *, longest: int = 256, blocks: int = 4
) -> tuple[list[int], list[float]]:
    """The loss of the same tokens when the network may see 1, 2, 4, ... tokens before each of them.

    Where the curve becomes flat, the network's memory ends: what lies further back changes nothing (compare
    Khandelwal et al. 2018, "Sharp nearby, fuzzy far away"). For a context of c, every token is predicted from a
    state of zeros and the c to 2 c - 1 tokens in front of it.

    Args:
        model: The network, in any mode; nothing is dropped.
        ids: (tokens,), a text read as one stream.
        longest: The longest context, a power of two; it is halved until the text holds a block with its context.
        blocks: Pieces of the text, `longest` tokens each, that are predicted.

    Returns:
        The contexts, and the loss at each in nats a token; empty for a text of one token.
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
            losses.append(float(summed_nats(model, features, targets)) / len(targets))
    return contexts, losses
