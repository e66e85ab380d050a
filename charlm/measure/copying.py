"""What of a text was copied: all substrings of a long text, looked up at once.

The index is a suffix array (Manber and Myers, 1993) that orders the places of a text by as many ids as one 64-bit
number holds, 9 of 65 letters, 4 of 5,000 signs. Substrings that short are looked up in it. It also names the few
places where a longer one may stand; there, sums over the whole text give a 64-bit hash of a substring of any length
in a few operations (Karp and Rabin, 1987). Two different substrings pass for equal with a probability of one in a
hundred million when 10,000 characters are looked up in 10 million.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.measure.ngram import MULTIPLIER, Codes, Ids


class SubstringIndex:
    """The substrings of a text.

    Args:
        ids: (n,) the text, ids from 0 to `size - 1`.
        size: How many different ids there are, in this text or in those that will be looked up.
    """

    def __init__(self, ids: NDArray[Any], size: int) -> None:
        self.bits = size.bit_length()  # of an id, raised by one: 0 is what follows the end of a text
        self.depth = 63 // self.bits
        codes = self.prefixes(ids, self.depth)
        order = np.argsort(codes)
        self.codes = codes[order]
        self.places = order.astype(np.int32)
        self.sums = Sums(ids, len(ids))

    def prefixes(self, ids: NDArray[Any], length: int) -> NDArray[np.int64]:
        """The first `length` (at most `depth`) ids of every place as the leading digits of a number, (n,)."""
        codes = np.zeros(len(ids) + length, np.int64)
        for offset in range(length):
            ...
        return codes
