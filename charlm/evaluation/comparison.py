"""Sentences that compare a generated text with real text and with text of an n-gram model.

Labels of metrics, and scores written as text, are made here too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from charlm.evaluation.text_metrics import BASELINE, REFERENCE, SPAN, metrics

RELIABLE = 2_000
"""Characters that a text must have for its metrics to be shown without a warning. Among excerpts of
tiny Shakespeare, the fraction of word 2-grams that occur elsewhere varies by 31 % (standard
deviation / mean) for excerpts of 500 characters, and by 12 % for 2,000."""

Scores = Mapping[str, float]
"""Scores of one text by metric."""

References = Mapping[str, Scores]
"""Scores of the texts to compare with (the reference and the baselines), by the name of the text."""

LEAST_DIFFERENCE = 0.1
"""Relative difference between reference and baseline below which a metric does not tell them apart."""

REACHED = 0.95
"""Value of `progress` from which a score counts as equal to the reference."""

MANY_CHARACTERS, MANY_LINES = 0.02, 0.5
"""A text counts as copied if its fraction of copied characters (or lines) exceeds that of held-out
text by more than this. The limit for lines is higher, because short lines often are equal by
chance."""


def label(name: str) -> str:
    """Return the human-readable label of the metric `name`."""
    return metrics[name].label if name in metrics else name.replace("_", " ")


def labelled(name: str) -> str:
    """Return the label of the metric `name` with its unit.

    The unit is omitted if the label contains it, and for fractions, whose scores show "%".
    """
    unit = metrics[name].unit if name in metrics else ""
    return label(name) if unit == "fraction" or unit in label(name) else f"{label(name)}, {unit}"


def number(name: str, score: float) -> str:
    """Return a score of the metric `name` as text without its unit.

    A score that is a fraction is shown in per cent (0.482 becomes 48%), an infinite one or NaN as
    "-".
    """
    if not math.isfinite(score):
        return "-"
    if name in metrics and metrics[name].unit == "fraction":
        return f"{score:.0%}" if score == 0 or score >= 0.1 else f"{100 * score:.2g}%"
    return f"{score:.0f}" if score == int(score) or abs(score) >= 1000 else f"{score:.3g}"


def in_words(name: str, score: float) -> str:
    """Return a score of the metric `name` as text with its unit."""
    unit = metrics[name].unit if name in metrics else ""
    return f"{number(name, score)} {'' if unit == 'fraction' else unit}".strip()


def progress(name: str, score: float, references: References) -> float:
    """Return where a score lies between those of the baseline (0) and of the reference (1).

    A negative value means that the score is further from the reference than the baseline is. If
    higher scores are better, or if lower ones are, a score better than the reference counts as 1.
    For other metrics, a score above the reference counts like one that is equally far below it.

    The result is NaN if the reference or the baseline has no such score, if their scores differ too
    little, or if the baseline is better than the reference.

    Args:
        name: The metric.
        score: The score of the generated text.
        references: The scores of the reference and of the baselines.
    """
    reference, baseline = (references.get(which, {}).get(name, math.nan) for which in (REFERENCE, BASELINE))
    better = metrics[name].better
    if better == "higher":
        score, baseline = min(score, reference), min(baseline, reference)
    elif better == "lower":
        score, baseline = max(score, reference), max(baseline, reference)
    distance = abs(baseline - reference)
    if not distance > LEAST_DIFFERENCE * max(abs(baseline), abs(reference)):
        return math.nan
    return 1 - abs(score - reference) / distance


def describe_progress(scores: Scores, references: References) -> list[str]:
    """Return sentences that compare a generated text with the baseline, a text of a 5-gram model.

    The first sentence says in how many metrics the generated text is closer to held-out text than
    the baseline is. The second one names the worst metric; this sentence is missing if all scores
    are about as good as those of held-out text. The list is empty if no metric can be compared.
    """
    found = {name: progress(name, score, references) for name, score in scores.items() if name in metrics}
    found = {name: value for name, value in found.items() if not math.isnan(value)}
    if not found:
        return []
    closer = sum(value > 0 for value in found.values())
    sentences = [
        f"The generated text is closer to held-out text than the text of a 5-gram model in {closer} of {len(found)} "
        "text metrics."
    ]
    worst = min(found, key=lambda name: found[name])
    if found[worst] < REACHED:
        own, reference, baseline = (
            in_words(worst, one[worst]) for one in (scores, references[REFERENCE], references[BASELINE])
        )
        sentences.append(
            f"The worst metric is {label(worst)}: {own} (held-out text: {reference}, 5-gram model: {baseline})."
        )
    return sentences


def describe_copying(scores: Scores, references: References) -> list[str]:
    """Return a list of one sentence: how much a generated text copies from the training text.

    The list is empty if `scores` has no metric of copying.
    """
    usual = references.get(REFERENCE, {})
    lines, copied, longest = (
        scores.get(name) for name in ("lines_in_training_text", "copied_characters", "longest_copy")
    )
    copies = "The generated text copies the training text:"
    if lines is not None:
        real = f" (held-out text: {usual['lines_in_training_text']:.0%})" if "lines_in_training_text" in usual else ""
        if lines > usual.get("lines_in_training_text", 0.0) + MANY_LINES:
            return [f"{copies} {lines:.0%} of its lines occur there{real}."]
        return [f"Of the generated lines, {lines:.0%} occur in the training text{real}."]
    if copied is None or longest is None:
        return []
    length = f"{longest:,.0f} characters"
    length += f" (held-out text: {usual['longest_copy']:,.0f})." if "longest_copy" in usual else "."
    if copied > usual.get("copied_characters", 0.0) + MANY_CHARACTERS:
        return [f"{copies} {copied:.0%} of it are passages of {SPAN} or more characters; the longest has {length}"]
    return [f"The generated text does not copy the training text: the longest common passage has {length}"]


def describe_size(size: int) -> list[str]:
    """Return a list with a warning if the scored texts are too short for reliable metrics.

    The list is empty if there are enough characters, or if `size` is 0 because there are no
    metrics.

    Args:
        size: How many characters of each text are scored.
    """
    if not 0 < size < RELIABLE:
        return []
    return [
        f"The text metrics are computed from only {size:,} characters of each text, so they vary much from one text "
        "to another; a longer validation text or a higher `samples.scored` makes them reliable."
    ]
