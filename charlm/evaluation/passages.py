"""Passages and lines that a text has in common with another one, or has more than once."""

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

COPIED = 0.05  # part of a validation text that is copied from which its loss is no measure
MOST = 3  # passages or lines that are shown
CANDIDATES = 20  # runs of copied substrings that are searched for the longest passages: the longest runs
SEARCHED = 400  # passages that are looked for in these runs: each search reads the source
COMPARED = 1 << 12  # characters that are compared at once


@dataclass(frozen=True)
class Passage:
    """A passage that occurs in two places.

    Attributes:
        text: The passage.
        start: Where it begins in its text.
        other: Where it begins in the other text, or once more in its own.
    """

    text: str
    start: int
    other: int


@dataclass(frozen=True)
class Copies:
    """What of a text occurs elsewhere in passages of at least `SPAN` characters.

    Attributes:
        fraction: The part of its characters that are in such passages.
        longest: The longest of these passages, at most `MOST`; a text that is in several of them is listed once.
    """

    fraction: float
    longest: list[Passage]


def copied_passages(text: TextStatistics, source: TextStatistics) -> Copies:
    """The passages of a text that occur in another."""
    flags = text.overlap(source).substrings(SPAN)
    return _copies(flags, text.text, source.text, same=False)


def repeated_passages(text: TextStatistics) -> Copies:
    """The passages that a text has more than once."""
    return _copies(repeated(text.characters, SPAN), text.text, text.text, same=True)


def _copies(flags: Flags, text: str, source: str, *, same: bool) -> Copies:
    """The passages of a text whose substrings of `SPAN` characters are found in a source.

    Args:
        flags: Whether each substring of `SPAN` characters occurs in the source.
        text, source: The two texts.
        same: Whether they are one text, in which each substring occurs at its own place as well.
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
        while position < end and len(found) < SEARCHED:  # a run may be several passages that overlap
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
    """The passage around a position of a text, as far as the first other place of the substring there has it."""
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
    """How many characters two texts have in common from their beginning."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(a), len(b)))


def _before(text: str, position: int) -> str:
    """The characters before a position, the nearest first."""
    return text[max(0, position - COMPARED) : position][::-1]


@dataclass(frozen=True)
class CommonLines:
    """How many lines are duplicates.

    Attributes:
        shortest: Characters from which a line counts; shorter ones are often equal by chance.
        training: Lines of the training text that count.
        duplicates: Those of them that occurred before.
        validation: Lines of the validation text that count.
        shared: Those of them that the training text has as well.
        frequent: The most frequent lines of the training text that occur more than once, and how often.
    """

    shortest: int
    training: int
    duplicates: int
    validation: int
    shared: int
    frequent: list[tuple[str, int]]


def common_lines(training: Sequence[str], validation: Sequence[str], shortest: int) -> CommonLines:
    """Count the duplicates among the lines of a training text and a validation text."""
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
