"""A stepper whose logits are the same bits on every machine, and probabilities in integers.

Floating-point results differ between machines for two reasons: sums depend on the order in which a
library adds, and functions such as exp are rounded differently by every library. Single additions,
multiplications, divisions and square roots of float64 numbers are correctly rounded everywhere
(IEEE 754). `ExactFunctions` therefore adds up only integers that are small enough for every partial
sum to be exact, in any order, and reads elementary functions from tables that are computed by
correctly rounded operations. No cell needs to know: its equations run on these functions unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from charlm.config import ModelConfig
from charlm.errors import CharlmError
from charlm.generation.stepper import Array, NumpyFunctions, NumpyStepper, _Layer

LARGEST = 127
"""Largest weight and largest input of a product, in steps: both are integers of 8 bits."""

BLOCK = 1040
"""Products of two such integers whose sum is exact in float32: 1040 x 127 x 127 < 2^24."""

SUMMAND_BITS = 34
"""Bits of the integers that `mean` adds up: 2^19 of them have an exact sum in float64 (2^53)."""

FACTOR_BITS = 18
"""Bits of the integers that `matmul` multiplies: 2^17 products have an exact sum in float64."""

LOGIT_STEP = 2.0**-16
"""All logits are multiples of this."""

TOTAL_BITS = 24
"""The frequencies of all tokens together are 2^24."""

TORCH_TOKENS, TORCH_ROWS = 20_000, 16
"""Tokens in all rows together, and rows, from which torch multiplies (measured with scripts/benchmark_exact.py)."""

NUMBA_TOKENS = 10_000
"""Tokens in all rows together from which numba is used if it is installed; importing it takes as long as some 5,000."""

ENTRIES, END = 1024.0, 16
"""The sigmoid is tabulated from -16 to 16, with 1024 entries for each 1; beyond, it is 0 or 1 to seven digits."""

POWER_BITS = 16
"""2^x is tabulated for 2^16 values of x between 0 and 1: exp is right to a part in 190,000."""

LOG_2, LOG2_E = 0.6931471805599453, 1.4426950408889634


def _geometric(base: float, halvings: int, count: int) -> Array:
    """Return the powers base^(k / 2^halvings) for k = 0, ..., count - 1.

    Square roots and products are correctly rounded, so that the result is the same everywhere.

    Args:
        base: The base, above 0.
        halvings: How many times the square root of the base is taken for the smallest step.
        count: Number of powers.
    """
    roots, powers = [base], np.ones(1)
    for _ in range(halvings):
        roots.append(math.sqrt(roots[-1]))
    while len(powers) < count:
        factor = roots.pop()
        powers = np.concatenate([powers, powers * factor])
        if not roots:
            roots.append(factor * factor)
    return powers[:count]


_POWERS_OF_2 = _geometric(2.0, POWER_BITS, 2**POWER_BITS)


def _sigmoid_table() -> Array:
    small = _geometric(1 / math.e, 10, int(END * ENTRIES) + 1)  # exp(-x) for x from 0 to 16
    rising = 1 / (1 + small)
    return np.concatenate([(small * rising)[:0:-1], rising])


SIGMOID = _sigmoid_table()
TANH = 2 * SIGMOID - 1


class ExactFunctions(NumpyFunctions):
    """The functions of `NumpyFunctions` for float64 arrays, with results that are the same bits everywhere."""

    @staticmethod
    def product(matrix: Array) -> Callable[[Array], Array]:
        """Return the function that multiplies vectors (..., columns) by a matrix (rows, columns).

        Each row of the matrix, and each vector, is rounded to integers between -127 and 127, in
        steps of its own: the largest magnitude divided by 127.
        """
        weights, steps = integers(matrix)
        columns = weights.T.astype(np.float32)
        blocks = [columns[start : start + BLOCK] for start in range(0, len(columns), BLOCK)]
        steps = steps[:, 0]

        def product(x: Array) -> Array:
            inputs, step = integers(x)
            inputs = inputs.astype(np.float32)
            if len(blocks) == 1:
                sums = inputs.dot(columns)
            else:
                parts = np.split(inputs, range(BLOCK, len(columns), BLOCK), axis=-1)
                sums = sum(part.dot(block).astype(np.float64) for part, block in zip(parts, blocks, strict=True))
            return sums * step * steps

        return product

    @staticmethod
    def matmul(a: Array, b: Array) -> Array:
        """Multiply matrices (..., m, k) and (..., k, n), after rounding each row of a and column of b to 18 bits."""
        (a, a_step), (b, b_step) = _fixed_point(a, -1, FACTOR_BITS), _fixed_point(b, -2, FACTOR_BITS)
        return np.matmul(a, b) * a_step * b_step

    @staticmethod
    def mean(x: Array) -> Array:
        """Return the mean over the last axis of numbers that are first rounded to 34 bits."""
        integers, step = _fixed_point(x, -1, SUMMAND_BITS)
        return integers.sum(-1, keepdims=True) * step / x.shape[-1]

    @staticmethod
    def exp2(x: Array) -> Array:
        """Compute 2^x for x up to 1023, after rounding x to a multiple of 2^-16."""
        n = np.rint(np.maximum(x, -2000.0) * 2.0**POWER_BITS).astype(np.int64)  # 2^-2000 is 0
        return np.ldexp(_POWERS_OF_2[n & 2**POWER_BITS - 1], n >> POWER_BITS)

    @classmethod
    def exp(cls, x: Array) -> Array:
        return cls.exp2(x * LOG2_E)

    @staticmethod
    def log(x: Array) -> Array:
        """Compute the natural logarithm of numbers above 0 by the series of artanh."""
        fraction, exponent = np.frexp(x)  # fraction in [1/2, 1)
        low = fraction < math.sqrt(0.5)
        fraction, exponent = np.where(low, 2 * fraction, fraction), exponent - low
        z = (fraction - 1) / (fraction + 1)  # log(fraction) = 2 (z + z^3 / 3 + z^5 / 5 + ...), |z| < 0.172
        square, series = z * z, np.zeros_like(z)
        for n in range(21, 0, -2):
            series = series * square + 1 / n
        return exponent * LOG_2 + 2 * z * series

    @staticmethod
    def sigmoid(x: Array) -> Array:
        """Return the sigmoid of x rounded to a multiple of 2^-10."""
        return _looked_up(SIGMOID, x, ENTRIES)

    @staticmethod
    def tanh(x: Array) -> Array:
        """Return tanh of x rounded to a multiple of 2^-11, which is 2 sigmoid(2 x) - 1."""
        return _looked_up(TANH, x, 2 * ENTRIES)


def _looked_up(table: Array, x: Array, entries: float) -> Array:
    """Return entries of a table whose middle is the entry for x = 0.

    Args:
        table: The table; its ends stand for all x beyond.
        x: Numbers, whose nearest entries are returned.
        entries: Entries between x = 0 and x = 1.
    """
    places = x * entries
    middle = len(table) // 2
    np.maximum(places, -middle, out=places)
    np.minimum(places, middle, out=places)
    places += middle + 0.5  # above 0, so that the conversion rounds down
    return table.take(places.astype(np.intp))


def integers(x: Array) -> tuple[Array, Array]:
    """Return x in steps of its own along the last axis, as integers from -127 to 127, and the steps (..., 1)."""
    step = np.maximum.reduce(np.abs(x), -1, keepdims=True) / LARGEST
    step += step == 0
    return np.rint(x / step), step


def _fixed_point(x: Array, axis: int, bits: int) -> tuple[Array, Array]:
    """Return x in steps that are a power of 2, as integers of magnitudes up to 2^bits, and the steps.

    Along the axis the step is the same.
    """
    _, exponent = np.frexp(np.abs(x).max(axis, keepdims=True))
    step = np.ldexp(1.0, exponent - bits)
    return np.rint(x / step), step


def frequencies(logits: Array) -> NDArray[np.int64]:
    """Return the probabilities of tokens as integers that are the same on every machine.

    Each is at least 1, so that an arithmetic coder can encode every token, and together they are
    2^24. What is left after rounding down goes to the most probable token, the first of equal ones.

    Args:
        logits: The logits of an `ExactStepper`, (batch, vocab_size).

    Returns:
        The frequencies, (batch, vocab_size).
    """
    weights = ExactFunctions.exp(logits - logits.max(-1, keepdims=True))
    integers = np.rint(weights * 2.0**36).astype(np.int64)
    left = 2**TOTAL_BITS - logits.shape[-1]
    result = 1 + integers * left // integers.sum(-1, keepdims=True)  # below 2^60
    result[np.arange(len(logits)), logits.argmax(-1)] += 2**TOTAL_BITS - result.sum(-1)
    return result


def exact_functions(tokens: int, rows: int) -> type[ExactFunctions]:
    """Return the functions with which the exact stepper is fastest; the results are the same.

    torch multiplies for many rows, and numba compiles products and tables if it is installed, where
    this saves more time than the import takes.

    Args:
        tokens: Number of tokens that will be generated or read in all texts together.
        rows: Number of texts that will be generated or read side by side.
    """
    if tokens >= TORCH_TOKENS and rows >= TORCH_ROWS:
        from charlm.generation.exact_torch import TorchFunctions, multiplies_exactly

        if multiplies_exactly():
            return TorchFunctions
    if tokens >= NUMBA_TOKENS:
        try:
            from charlm.generation.exact_numba import NumbaFunctions

            return NumbaFunctions
        except (ImportError, RuntimeError):  # numba is missing, or finds no folder for its cache
            pass
    return ExactFunctions


class ExactStepper(NumpyStepper):
    """A trained network whose logits are the same bits on every machine.

    They depend neither on the library that multiplies matrices, nor on its threads, nor on the
    number of rows. Reading a prompt gives the same bits as reading it token by token. The weights
    of matrices and the inputs of products have 8 bits; everything else is computed in float64. The
    logits are multiples of `LOGIT_STEP`, in float64.

    Args:
        weights, config, vocab_size: As for `NumpyStepper`.
        functions: What `exact_functions` returns; the results do not depend on it.

    Raises:
        CharlmError: a weight is not finite.
        ValueError: a weight is missing or has another shape than the network's.
    """

    def __init__(
        self,
        weights: Mapping[str, Array],
        config: ModelConfig,
        vocab_size: int,
        functions: type[ExactFunctions] = ExactFunctions,
    ) -> None:
        self.functions = functions
        if not all(np.isfinite(array).all() for array in weights.values()):
            raise CharlmError("the model's weights are not finite: its training diverged; use another checkpoint")
        super().__init__({name: array.astype(np.float64) for name, array in weights.items()}, config, vocab_size)

    def prefill(self, ids: Array, state: Array) -> tuple[Array, Array]:
        """Read a whole prompt token by token; see `Stepper.prefill`."""
        for column in ids.T:
            features, state = self._forward(column, state, _Layer.step)
        return self._logits(features), state

    def _logits(self, features: Array) -> Array:
        return np.rint(super()._logits(features) / LOGIT_STEP) * LOGIT_STEP
