"""The functions of the exact stepper with products by torch, for many rows: the same results, sooner.

torch multiplies integers of 8 bits with oneDNN, which uses the processor's instructions for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from charlm.generation.exact import LARGEST, ExactFunctions, integers
from charlm.generation.stepper import Array


class TorchFunctions(ExactFunctions):
    """`ExactFunctions` of which torch computes the products."""

    @staticmethod
    def product(matrix: Array) -> Callable[[Array], Array]:
        """Return the function that multiplies vectors by a matrix; see `ExactFunctions.product`."""
        weights, steps = integers(matrix)
        rows, columns = matrix.shape
        transposed, steps = torch.from_numpy(weights.astype(np.int8)).T, steps[:, 0]

        def product(x: Array) -> Array:
            inputs, step = integers(x.reshape(-1, columns))
            sums = torch._int_mm(torch.from_numpy(inputs.astype(np.int8)), transposed).numpy()
            return (sums * step * steps).reshape(*x.shape[:-1], rows)

        return product


@cache
def multiplies_exactly() -> bool:
    """Return whether torch's products of 8-bit integers are exact on this processor.

    A processor without instructions for such products adds pairs of them in 16 bits, where the
    largest ones do not fit.
    """
    signs = np.random.default_rng(1).choice([-1, 1], (64, 512))
    signs[:2] = [[1], [-1]]
    signs = LARGEST * signs
    found = torch.from_numpy(signs.astype(np.int8))
    try:
        return all(
            np.array_equal(torch._int_mm(found[:rows], found.T).numpy(), signs[:rows] @ signs.T) for rows in (1, 8, 64)
        )
    except (AttributeError, RuntimeError):  # this torch cannot multiply them on a CPU
        return False
