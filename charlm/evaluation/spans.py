"""The spans of a text that an evaluation protocol reads from the zero state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.config.protocols import Protocol


class Spans(NamedTuple):
    """Spans of a text that are each read from the zero state; each array is (spans,) int64.

    For each span, the model reads the ids at the positions `[begin, end)` and predicts those at
    `(begin + skip, end]`.
    """

    begin: NDArray[np.int64]
    skip: NDArray[np.int64]
    end: NDArray[np.int64]


def spans(protocol: Protocol, begin: NDArray[np.int64], end: NDArray[np.int64]) -> Spans:
    """Cut the items of a text into the spans that a protocol reads from the zero state.

    The protocols "window" and "last_half" cut each item into windows; for the others, an item is
    one span. Every token of an item but the first is predicted exactly once.

    Args:
        protocol: The protocol.
        begin, end: (items,) positions of the first and the last token of each item; a text that
            does not consist of items counts as one item.
    """
    if protocol.name not in ("window", "last_half"):
        return Spans(begin, np.zeros_like(begin), end)
    overlap = protocol.window // 2 if protocol.name == "last_half" else 0
    stride = protocol.window - overlap
    # A span of n tokens has one window, and one more for each further `stride` tokens.
    windows = 1 + np.maximum(0, -(-(end - begin - protocol.window) // stride))
    item = np.repeat(np.arange(len(begin)), windows)
    number = np.arange(len(item)) - np.repeat(np.cumsum(windows) - windows, windows)
    first = begin[item] + number * stride
    return Spans(first, np.where(number > 0, overlap, 0), np.minimum(first + protocol.window, end[item]))
