"""Passages and lines that two texts have in common, or that one text has more than once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.overlap import repeated
from charlm.evaluation.text_metrics import SPAN
from charlm.evaluation.text_statistics import TextStatistics

Flags = NDArray[np.bool_]

COPIED = 0.05  # fraction of the validation text; if more of it is copied, its loss looks too good
MOST = 3  # longest passages, or most frequent lines, that are returned
CANDIDATES = 20  # sequences of copied substrings, the longest ones, that are searched for passages
SEARCHED = 400  # most passages that are looked for; each search reads the source
COMPARED = 1 << 12  # characters that are compared at once


@dataclass(frozen=True)
class Passage:
    """A passage of a text that also occurs at another place.

    Attributes:
        text: The passage.
        start: The position in the text at which the passage begins.
        other: The position of the other place, in another text or in the same one.
    """

    text: str
    start: int
    other: int


@dataclass(frozen=True)
class Copies:
    """The passages of at least `SPAN` characters of a text that also occur at another place.

    Attributes:
        fraction: The fraction of the characters of the text that are in such passages.
        longest: The longest of these passages, at most `MOST` of them. A passage that is contained
            in a longer one is left out.
    """

    fraction: float
    longest: list[Passage]


def copied_passages(text: TextStatistics, source: TextStatistics) -> Copies:
    """Find the passages of a text that also occur in another text, the source."""
    flags = text.overlap(source).substrings(SPAN)
    return _copies(flags, text.text, source.text, same=False)


def repeated_passages(text: TextStatistics) -> Copies:
    """Find the passages that occur more than once in a text."""
    return _copies(repeated(text.characters, SPAN), text.text, text.text, same=True)


def _copies(flags: Flags, text: str, source: str, *, same: bool) -> Copies:
    """Find the passages of a text that also occur in a source.

    Args:
        flags: (characters - SPAN + 1,) whether the substring of `SPAN` characters at each position
            of the text occurs in the source.
        text, source: The two texts.
        same: Whether both are the same text, in which a substring must occur at a second place.
    """
    if not flags.any():
        return Copies(0.0, [])
    changes = np.diff(flags.astype(np.int8), prepend=0, append=0)
    firsts, ends = np.flatnonzero(changes == 1), np.flatnonzero(changes == -1)
    covered = np.zeros(len(text) + 1, np.int64)
    covered[firsts] += 1
    np.subtract.at(covered, ends + SPAN - 1, 1)
    fraction = float(np.count_nonzero(np.cumsum(covered[:-1]) > 0)) / len(text)
    found: list[Passage] = []
    for run in np.argsort(firsts - ends, kind="stable")[:CANDIDATES]:
        position, end = int(firsts[run]), int(ends[run])
        while position < end and len(found) < SEARCHED:  # passages may overlap
            passage = _passage(text, source, position, same=same)
            if passage is None:
                break
            found.append(passage)
            position = passage.start + len(passage.text) - SPAN + 1
    longest: list[Passage] = []
    for passage in sorted(found, key=lambda one: (-len(one.text), one.start)):
        if not any(passage.text in other.text for other in longest):
            longest.append(passage)
        if len(longest) == MOST:
            break
    return Copies(fraction, longest)


def _passage(text: str, source: str, start: int, *, same: bool) -> Passage | None:
    """Return the passage around a position of a text that also occurs at another place.

    The other place is the first one in the source that has the same `SPAN` characters as the text
    from `start` on. From there the passage is extended in both directions as far as the two places
    agree.

    Returns None if there is no such place.

    Args:
        text, source: The two texts.
        start: The position in the text.
        same: Whether both are the same text, in which the position itself does not count.
    """
    substring = text[start : start + SPAN]
    other = source.find(substring)
    if same and other == start:
        other = source.find(substring, start + 1)
    if other < 0:  # two different substrings had the same hash
        return None
    end, other_end = start + SPAN, other + SPAN
    while common := _common(text[end : end + COMPARED], source[other_end : other_end + COMPARED]):
        end, other_end = end + common, other_end + common
    while common := _common(_before(text, start), _before(source, other)):
        start, other = start - common, other - common
    return Passage(text[start:end], start, other)


def _common(a: str, b: str) -> int:
    """Return how many characters two texts have in common from their beginning."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(a), len(b)))


def _before(text: str, position: int) -> str:
    """Return the last `COMPARED` characters before a position, or fewer, in reverse order."""
    return text[max(0, position - COMPARED) : position][::-1]


@dataclass(frozen=True)
class CommonLines:
    """How many lines of a training text and a validation text are duplicates.

    Lines with fewer than `shortest` characters are ignored, because they are often equal by chance.

    Attributes:
        shortest: Characters of the shortest line that counts.
        training: Number of lines of the training text.
        duplicates: How many lines of the training text have occurred before in it.
        validation: Number of lines of the validation text.
        shared: How many lines of the validation text also occur in the training text.
        frequent: The most frequent lines of the training text that occur more than once, at most
            `MOST` of them, with how often each occurs.
    """

    shortest: int
    training: int
    duplicates: int
    validation: int
    shared: int
    frequent: list[tuple[str, int]]


def common_lines(training: Sequence[str], validation: Sequence[str], shortest: int) -> CommonLines:
    """Count the duplicate lines in a training text and a validation text.

    Args:
        training, validation: The lines of both texts.
        shortest: Lines with fewer characters are ignored.
    """
    counts = Counter(line for line in training if len(line) >= shortest)
    held_out = [line for line in validation if len(line) >= shortest]
    frequent = sorted(((line, count) for line, count in counts.items() if count > 1), key=lambda one: (-one[1], one[0]))
    return CommonLines(
        shortest,
        sum(counts.values()),
        sum(counts.values()) - len(counts),
        len(held_out),
        sum(line in counts for line in held_out),
        frequent[:MOST],
    )
