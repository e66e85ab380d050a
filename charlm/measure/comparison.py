"""How a generated text compares with real text and with that of an n-gram model, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from charlm.measure.quality import measures

Scores = Mapping[str, float]
"""Measure to what it says of a text."""

References = Mapping[str, Scores]
"""What the measures say of the texts that others are compared with, by their names."""

WAY = 0.1
"""Share by which two references must differ for a score to stand between them."""

ARRIVED = 0.95
"""How far on the way to held-out text a score is as good as there."""

MANY_CHARACTERS, MANY_LINES = 0.02, 0.5
"""Shares above those of held-out text from which a text is copied: short lines are often met by chance."""

CEILING, FLOOR = "held-out text", "order-5 characters"
"""The references that a generated text is held against."""


def label(name: str) -> str:
    """What a measure is called."""
    return measures[name].label if name in measures else name.replace("_", " ")


def labelled(name: str) -> str:
    """What a measure is called, with its unit unless that shows in its numbers."""
    unit = measures[name].unit if name in measures else ""
    return label(name) if unit == "share" or unit in label(name) else f"{label(name)}, {unit}"


def number(name: str, score: float) -> str:
    """A score of the measure `name` without its unit; a share of 0.482 is 48%."""
    if not math.isfinite(score):
        return "-"
    if name in measures and measures[name].unit == "share":
        return f"{score:.0%}" if score == 0 or score >= 0.1 else f"{100 * score:.2g}%"
    return f"{score:.0f}" if score == int(score) or abs(score) >= 1000 else f"{score:.3g}"


def in_words(name: str, score: float) -> str:
    """A score of the measure `name` with its unit."""
    unit = measures[name].unit if name in measures else ""
    return f"{number(name, score)} {'' if unit == 'share' else unit}".strip()


def closeness(name: str, score: float, references: References) -> float:
    """How far a score has come on the way from the order-5 n-gram (0) to held-out text (1); NaN if there is no way.

    Below 0 it is further from held-out text than the n-gram is. What surpasses held-out text has arrived if more
    (or less) is better; if near is better, it is as far as it has gone beyond.
    """
    ceiling, floor = (references.get(which, {}).get(name, math.nan) for which in (CEILING, FLOOR))
    better = measures[name].better
    if better == "higher":
        score, floor = min(score, ceiling), min(floor, ceiling)
    elif better == "lower":
        score, floor = max(score, ceiling), max(floor, ceiling)
    way = abs(floor - ceiling)
    if not way > WAY * max(abs(floor), abs(ceiling)):
        return math.nan
    return 1 - abs(score - ceiling) / way


def standing(scores: Scores, references: References) -> list[str]:
    """How far the newest text is from held-out text, and on which side of an order-5 n-gram."""
    come = {name: closeness(name, score, references) for name, score in scores.items() if name in measures}
    come = {name: share for name, share in come.items() if not math.isnan(share)}
    if not come:
        return []
    nearer = sum(share > 0 for share in come.values())
    said = [
        f"In {nearer} of {len(come)} measures its text is nearer to held-out text than that of an n-gram model, which "
        "only counts runs of five characters."
    ]
    furthest = min(come, key=lambda name: come[name])
    if come[furthest] < ARRIVED:
        shown = [in_words(furthest, one[furthest]) for one in (scores, references[CEILING], references[FLOOR])]
        said.append(
            f"It is furthest from it in {label(furthest)}: {shown[0]}, where held-out text has {shown[1]} "
            f"and the n-gram {shown[2]}."
        )
    return said


def copying(scores: Scores, references: References) -> list[str]:
    """Whether the newest text was copied from the training text: its lines, or passages of it."""
    usual = references.get(CEILING, {})
    lines, copied, longest = (
        scores.get(name) for name in ("lines_in_training_text", "copied_characters", "longest_copy")
    )
    if lines is not None:
        real = f", of held-out text {usual['lines_in_training_text']:.0%}" if "lines_in_training_text" in usual else ""
        many = lines > usual.get("lines_in_training_text", 0.0) + MANY_LINES
        return [f"{'It copies' if many else 'Copied'}: {lines:.0%} of its lines stand in the training text{real}."]
    if copied is None or longest is None:
        return []
    real = f" (of held-out text: {usual['longest_copy']:,.0f})" if "longest_copy" in usual else ""
    length = f"the longest passage that stands in the training text as well has {longest:,.0f} characters{real}."
    if copied > usual.get("copied_characters", 0.0) + MANY_CHARACTERS:
        share = f"{copied:.0%} of its characters stand in passages of 50 or more taken from the training text"
        return [f"It copies: {share}; {length}"]
    return [f"It does not copy: {length}"]
