"""The static window: a feed-forward network over a fixed number of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charlm.network.cells import Array, Functions, ParallelCell, Weights, cells

if TYPE_CHECKING:
    from charlm.config import ModelConfig

CONTEXT = 8
"""Default number of tokens that a layer reads: an inner layer then has as many weights as one of an LSTM."""


@cells.register("window")
class Window(ParallelCell):
    """A layer of units that reads a fixed number K of tokens (Bengio et al. 2003): K is `model.context`.

    h' = tanh(W_0 x + b_0 + s_1)
    s_j' = W_j x + b_j + s_(j+1)   for j = 1, ..., K - 1, where s_K = 0

    x: input; h: output; a prime marks the value after the time step; s_j: what the tokens up to now
    add to the output j steps ahead. So h_t is tanh of the sum over j of W_j x_(t-j) + b_j. Each
    distance j has its own weights, so the number of parameters grows with K. Tokens at a distance
    of K or more are not read, and places before the start of the text add nothing. The paper's
    direct connections from the input to the logits are left out.
    """

    gates = states = context = CONTEXT
    candidates = {"W": tuple(range(CONTEXT))}

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__(config)
        self.gates = self.states = self.context
        self.candidates = {"W": tuple(range(self.context))}
        self.input_scale = self.context**-0.5  # the sum over all places is then as large as x

    def whole(self, f: Functions[Array], w: Weights, x: Array, state: Array) -> tuple[Array, Array]:
        time = x.shape[0]
        *nearer, farthest = f.split(x, self.gates)
        sums = f.concatenate([state[1:], farthest])  # of this window's outputs, and of the K - 1 after it
        for distance, part in enumerate(nearer):
            sums[distance : distance + time] += part
        outputs = f.tanh(sums[:time])
        return outputs, f.concatenate([outputs[-1:], sums[time:]])
