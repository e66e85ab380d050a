"""The transformer: attention over the last tokens in place of a recurrence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charlm.errors import CharlmError
from charlm.network.cells import Array, Functions, ParallelCell, Weights, cells

if TYPE_CHECKING:
    from charlm.config import ModelConfig

HEAD = 32
"""Fewest units of a head, unless `model.heads` is set or the layer has fewer units."""


@cells.register("transformer")
class Transformer(ParallelCell):
    """A block of a transformer (Vaswani et al. 2017) that attends to the last K tokens: K is `model.context`.

    q, k, v = QKV norm(x)
    y = x + O attention(q, k_1 ... k_(K-1) k, v_1 ... v_(K-1) v)
    h' = y + D gelu(E norm(y))

    x: input; h': output; k_j, v_j: keys and values of the K - 1 tokens before this one. The state
    holds these keys and values, the previous output, and the number of tokens read so far, counted
    up to K - 1. By this number, places before the start of the text are masked. Each head has d
    units and weights the values by softmax(q k / sqrt(d) - m distance). The slope m, which differs
    between heads, replaces position embeddings (Press et al. 2022, "ALiBi"). The norms come first
    (pre-norm) and no matrix has a bias, as in GPT-2's successors; E is 4 n x n and D is n x 4 n for
    n units.
    """

    context = 64
    gates, states, attends, residual = 0, 2 * context, True, True
    products = {"QKV": 3, "O": 1, "E": 4, "D": (1, 4)}
    input_products = ("QKV", "O", "E", "D")
    product_scale = {"O": 0.1, "D": 0.1}  # blocks start near the identity, so that many can stack
    vectors = {"gain": 1, "bias": 1, "mlp_gain": 1, "mlp_bias": 1}
    vector_init = {"gain": 1.0, "mlp_gain": 1.0}
    candidates = {"QKV": (0, 1, 2), "O": (0,), "E": (0, 1, 2, 3), "D": (0,)}

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__(config)
        self.states = 2 * self.context  # the output, the number of tokens, and K - 1 keys and values
        self.heads = config.heads if config is not None else 0
        if config is not None and config.hidden is not None and self.heads and config.hidden % self.heads:
            raise CharlmError(
                f"{config.hidden} hidden units cannot be shared by {self.heads} heads; "
                "set `model.heads` to a divisor of `model.hidden`"
            )

    def whole(self, f: Functions[Array], w: Weights, x: Array, state: Array) -> tuple[Array, Array]:
        time, past = x.shape[0], self.context - 1
        heads = self.heads or _heads(x.shape[-1])
        q, k, v = f.split(w.QKV(f.norm(x, w.gain, w.bias)), 3)
        count = past - f.relu(past - f.relu(state[1:2]))  # from 0 to K - 1, whatever the state
        keys, values = f.concatenate([state[2 : 2 + past], k]), f.concatenate([state[2 + past :], v])
        y = x + w.O(f.attention(q, keys, values, count[0, ..., 0], heads))
        h = y + w.D(f.gelu(w.E(f.norm(y, w.mlp_gain, w.mlp_bias))))
        count = past - f.relu(past - (count + time))
        return h, f.concatenate([h[-1:], count, keys[time:], values[time:]])


def _heads(hidden: int) -> int:
    """Return the default number of heads.

    It is the largest divisor of `hidden` that gives each head at least `HEAD` units, or else 1.
    """
    return next(heads for heads in range(max(1, hidden // HEAD), 0, -1) if hidden % heads == 0)
