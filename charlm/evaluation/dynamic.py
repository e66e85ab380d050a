"""Dynamic evaluation: the weights are trained on a text while it is read (Krause, Kahembwe, Murray and Renals 2018).

After each segment the weights W move against the gradient g of its mean loss and back towards the trained weights W0:

    W <- W - rate * g / (r + epsilon) + min(decay * r / mean r, 1) (W0 - W)

where r is the root mean square of the gradient of each weight over the training text (their equations 5 to 7, "RMS with
RMS decay"), and epsilon is a tenth of mean r: with their smaller constant, one occurrence of a token that the training
text never has would move its weights too far. Every token is predicted before the weights have been trained on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from charlm.network.loss import summed_cross_entropy
from charlm.network.model import LanguageModel
from charlm.text.batching import batches
from charlm.text.stream import TokenStream

EPSILON = 0.1
"""Relative to the mean of the sizes of gradients."""

LANES, BATCHES = 32, 200
"""Lanes of a batch, and the number of batches, from which the sizes of gradients are computed."""


def gradient_sizes(model: LanguageModel, train: TokenStream, segment: int) -> list[Tensor]:
    """The root mean square over batches of the gradient of each weight, in the order of `model.parameters()`.

    Args:
        model: The model, in evaluation mode.
        train: The training text.
        segment: Tokens of a row of a batch.
    """
    parameters = list(model.parameters())
    sums, count = [torch.zeros_like(parameter) for parameter in parameters], 0
    lanes = max(1, min(LANES, train.predicted.tokens // segment))
    state = None
    for batch in itertools.islice(batches(train, lanes, segment, training=False), BATCHES):
        state = batch.enter(state)
        gradients, _, state = _gradients(model, batch.inputs, batch.targets, state)
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient.square()
        count += 1
    return [(total / count).sqrt() for total in sums]


class DynamicWeights:
    """The weights of a model while they are trained on a text that is read.

    Args:
        model: The model, in evaluation mode; its weights are changed.
        sizes: As `gradient_sizes` returns them.
        rate, decay: See the module.
    """

    def __init__(self, model: LanguageModel, sizes: Iterable[Tensor], rate: float, decay: float) -> None:
        self.model = model
        sizes = list(sizes)
        self._trained = [parameter.detach().clone() for parameter in model.parameters()]
        mean = torch.stack([size.mean() for size in sizes]).mean()  # over matrices, as the authors' program does
        self._decays = [(decay * size / mean).clamp(max=1) for size in sizes]
        self._rates = [rate / (size + EPSILON * mean) for size in sizes]

    def learn(self, inputs: Tensor, targets: Tensor, state: Tensor, predict: Callable[[Tensor], object]) -> Tensor:
        """Train on one segment.

        Args:
            inputs, targets: (1, time).
            state: The state before the segment.
            predict: Called with the features (time, hidden) before the weights change.

        Returns:
            The state after the segment, by the weights before the change.
        """
        gradients, features, state = _gradients(self.model, inputs, targets, state)
        predict(features)
        with torch.no_grad():
            for number, (parameter, gradient) in enumerate(zip(self.model.parameters(), gradients, strict=True)):
                parameter.add_(self._decays[number] * (self._trained[number] - parameter))
                parameter.sub_(self._rates[number] * gradient)
        return state


def _gradients(
    model: LanguageModel, inputs: Tensor, targets: Tensor, state: Tensor | None
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The gradient of the mean loss of a window for each weight, the features (tokens, hidden), and the next state."""
    device = next(model.parameters()).device
    targets = targets.to(device)
    with torch.enable_grad():
        features, state = model.hidden(inputs.to(device), state)
        features = features.flatten(0, 1)
        loss = summed_cross_entropy(model, features, targets.flatten()) / (targets >= 0).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return list(gradients), features.detach(), state.detach()
