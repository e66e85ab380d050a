"""The functions of the exact stepper, compiled by numba (the extra `fast`): the same results, sooner.

A product with one vector reads its weights as bytes, a quarter of what numpy reads. numba keeps the
compiled code in a cache on disk, so that only the first process on a machine compiles it.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from charlm.generation.exact import ENTRIES, LARGEST, SIGMOID, TANH, ExactFunctions, integers
from charlm.generation.stepper import Array

MOST_VECTORS = 32
"""Most vectors for which the compiled product is faster than numpy's product of matrices."""


class NumbaFunctions(ExactFunctions):
    """`ExactFunctions` of which numba computes tables, and products with few vectors."""

    @staticmethod
    def product(matrix: Array) -> Callable[[Array], Array]:
        """Return the function that multiplies vectors by a matrix; see `ExactFunctions.product`."""
        weights, steps = integers(matrix)
        small, steps, many = weights.astype(np.int8), steps[:, 0].copy(), ExactFunctions.product(matrix)
        rows, columns = matrix.shape

        def product(x: Array) -> Array:
            if x.size > MOST_VECTORS * columns:
                return many(x)
            vectors = np.ascontiguousarray(x).reshape(-1, columns)
            return _product(vectors, small, steps).reshape(*x.shape[:-1], rows)

        return product

    @staticmethod
    def sigmoid(x: Array) -> Array:
        """Return the sigmoid; see `ExactFunctions.sigmoid`."""
        return _looked_up(SIGMOID, x.ravel(), ENTRIES).reshape(x.shape)

    @staticmethod
    def tanh(x: Array) -> Array:
        """Return tanh; see `ExactFunctions.tanh`."""
        return _looked_up(TANH, x.ravel(), 2 * ENTRIES).reshape(x.shape)


@numba.njit(cache=True)
def _product(x: Array, weights: Array, steps: Array) -> Array:
    """Return the products of a matrix with vectors, (batch, rows).

    Args:
        x: The vectors, (batch, columns).
        weights: The integers of the matrix, (rows, columns), in int8.
        steps: The step of each row, (rows,).
    """
    batch, (rows, columns) = len(x), weights.shape
    inputs, input_steps, result = np.empty((batch, columns), np.int16), np.empty(batch), np.empty((batch, rows))
    for place in range(batch):
        largest = 0.0
        for column in range(columns):
            largest = max(largest, abs(x[place, column]))
        step = input_steps[place] = largest / LARGEST if largest > 0 else 1.0
        for column in range(columns):
            inputs[place, column] = np.int16(np.rint(x[place, column] / step))
    for row in range(rows):
        for place in range(batch):
            total = np.int32(0)
            for column in range(columns):  # in 32 bits throughout: the processor has instructions for such sums
                total = np.int32(total + np.int32(weights[row, column]) * np.int32(inputs[place, column]))
            result[place, row] = total * input_steps[place] * steps[row]
    return result


@numba.njit(cache=True)
def _looked_up(table: Array, x: Array, entries: float) -> Array:
    """Return entries of a table for numbers x, (n,); see `exact._looked_up`."""
    middle = len(table) // 2
    result = np.empty(len(x))
    for place in range(len(x)):
        result[place] = table[int(min(max(x[place] * entries, -middle), middle) + (middle + 0.5))]
    return result
