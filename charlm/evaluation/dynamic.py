"""Dynamic evaluation: the weights are trained on a text while the model predicts it.

The text is read in segments. After each segment, the weights W move against the gradient g of the
mean loss of the segment, and back towards the weights W0 that training had found:

    W <- W - rate * g / (r + epsilon) + min(decay * r / mean r, 1) (W0 - W)

Here r is the root mean square of the gradient of each weight over the training text. These are
equations 5 to 7 ("RMS with RMS decay") of Krause, Kahembwe, Murray and Renals (2018). The value of
epsilon is a tenth of mean r. The authors use a smaller one; but then a single occurrence of a token
that the training text lacks would move the weights of this token too far. Every token is predicted
before the weights are trained on it.
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
"""The value of epsilon, relative to the mean of r (see the equation above)."""

LANES, BATCHES = 32, 200
"""The largest number of lanes of a batch, and the largest number of batches, from which
`gradient_sizes` computes its result."""


def gradient_sizes(model: LanguageModel, train: TokenStream, segment: int) -> list[Tensor]:
    """Return the root mean square of the gradient of each weight over batches of the training text.

    The tensors have the shapes and the order of `model.parameters()`. Only the first `BATCHES`
    batches are read.

    Args:
        model: The model, in evaluation mode.
        train: The training text.
        segment: Tokens of each lane of a batch.
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
    """Trains the weights of a model on a text while the model predicts this text.

    Args:
        model: The model, in evaluation mode; its weights are changed in place.
        sizes: The sizes of the gradients, as `gradient_sizes` returns them.
        rate, decay: The constants of the equation at the top of this module.
    """

    def __init__(self, model: LanguageModel, sizes: Iterable[Tensor], rate: float, decay: float) -> None:
        self.model = model
        sizes = list(sizes)
        self._trained = [parameter.detach().clone() for parameter in model.parameters()]
        mean = torch.stack([size.mean() for size in sizes]).mean()  # over matrices, as the authors' program does
        self._decays = [(decay * size / mean).clamp(max=1) for size in sizes]
        self._rates = [rate / (size + EPSILON * mean) for size in sizes]

    def learn(self, inputs: Tensor, targets: Tensor, state: Tensor, predict: Callable[[Tensor], object]) -> Tensor:
        """Predict one segment of a text, then train the weights on it.

        Args:
            inputs, targets: Token ids, (1, time) each.
            state: The recurrent state before the segment.
            predict: A function that is called with the features, (time, hidden), before the weights
                change.

        Returns:
            The recurrent state after the segment, computed with the weights before the change.
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
    """Compute the gradient of the mean loss of a window of tokens with respect to each weight.

    Returns:
        The gradients in the order of `model.parameters()`, the features of the tokens (tokens,
        hidden), and the recurrent state after the window.
    """
    device = next(model.parameters()).device
    targets = targets.to(device)
    with torch.enable_grad():
        features, state = model.hidden(inputs.to(device), state)
        features = features.flatten(0, 1)
        loss = summed_cross_entropy(model, features, targets.flatten()) / (targets >= 0).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return list(gradients), features.detach(), state.detach()
