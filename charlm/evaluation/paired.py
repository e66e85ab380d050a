"""Comparison of several networks that were each trained with the same seeds.

The comparison consists of paired differences with confidence intervals and of a verdict in words.
Each network has one score per seed: a number such as the bits per character, of which a smaller
one is better. An object of the class `Score` is not such a number but holds two of them, the loss
and the bits per character. Two networks are compared seed by seed, so an effect of the seed that is
the same for both networks cancels in the difference.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from charlm.errors import count

CONFIDENCE = 0.95
"""Probability that the interval of a difference covers its true mean, if differences vary like a normal variable."""

LITTLE = 0.01
"""Relative difference below which a network is better by little, however sure the difference is."""

Decision = Literal["clearly better", "better by little", "cannot be told apart"]

WORDS: dict[Decision, str] = {
    "clearly better": "is clearly better than",
    "better by little": "is better by little, but surely, than",
    "cannot be told apart": "cannot be told apart from",
}
"""For each decision, the words between the name of the best network and those of the others. The
sentences about the decisions come in this order."""


@dataclass(frozen=True)
class Score:
    """How well a network predicts a split.

    Args:
        loss: Nats per token; infinite if the training diverged before its first validation.
        bits: Bits per character; infinite in the same case.
    """

    loss: float
    bits: float

    @classmethod
    def of(cls, values: dict[str, float | None]) -> Score:
        """Return the score that a JSON object holds; None stands for infinity, which JSON lacks.

        Args:
            values: The values of `loss` and `bits` by name.
        """
        loss, bits = (math.inf if values[name] is None else values[name] for name in ("loss", "bits"))
        return msgspec.convert({"loss": loss, "bits": bits}, cls)


@dataclass(frozen=True)
class Difference:
    """How much higher the scores of a network are than those of the best one, averaged over seeds.

    All numbers are infinite if the training of the network diverged with any seed.

    Args:
        mean: The mean difference.
        low, high: The ends of the confidence interval of the mean; infinite for a single seed.
        relative: The mean difference divided by the mean score of the best network.
    """

    mean: float
    low: float
    high: float
    relative: float

    @property
    def decision(self) -> Decision:
        """What the difference shows: how the best network compares with the other one."""
        if self.low <= 0:
            return "cannot be told apart"
        return "better by little" if self.relative < LITTLE else "clearly better"


def paired_difference(best: Sequence[float], other: Sequence[float]) -> Difference:
    """Return how much higher the scores of a network are than those of the best one.

    The confidence interval is that of Student's t for paired samples: mean +- t s / sqrt(n), where
    s is the sample standard deviation of the n differences and t the quantile of n - 1 degrees of
    freedom (Student 1908, "The probable error of a mean").

    Args:
        best, other: The scores of both networks, in the same order of the seeds.
    """
    differences = [theirs - ours for ours, theirs in zip(best, other, strict=True)]
    mean, count = statistics.fmean(differences), len(differences)
    relative = mean / statistics.fmean(best)
    if not math.isfinite(mean):  # the other has diverged with at least one seed
        return Difference(math.inf, math.inf, math.inf, math.inf)
    if count < 2:
        return Difference(mean, -math.inf, math.inf, relative)
    half = t_quantile(0.5 + CONFIDENCE / 2, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return Difference(mean, mean - half, mean + half, relative)


def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution for a probability from 0.5 to 1.

    This is the value below which a variable with this distribution lies with this probability.

    Args:
        probability: The probability.
        degrees: Degrees of freedom.
    """
    low, high = 0.0, 1.0
    while t_distribution(high, degrees) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_distribution(middle, degrees) < probability else (low, middle)
    return high


def t_distribution(value: float, degrees: int) -> float:
    """Return the probability that a variable with Student's t distribution lies below a value.

    Source: the finite series of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.

    Args:
        value: The value.
        degrees: Degrees of freedom, a whole number.
    """
    angle = math.atan(value / math.sqrt(degrees))
    term = total = math.cos(angle) if degrees % 2 else 1.0
    for number in range(3 if degrees % 2 else 2, degrees, 2):
        term *= math.cos(angle) ** 2 * (number - 1) / number
        total += term
    if degrees % 2:
        inside = 2 / math.pi * (angle + (math.sin(angle) * total if degrees > 1 else 0.0))
    else:
        inside = math.sin(angle) * total
    return 0.5 + inside / 2


def mean(scores: Sequence[float]) -> float:
    """Return the mean score over the seeds; infinite if the training with any seed diverged."""
    return statistics.fmean(scores)


def deviation(scores: Sequence[float]) -> float:
    """Return the sample standard deviation of the scores over the seeds.

    It is NaN for a single seed, or if the training with one of the seeds diverged.
    """
    finite = len(scores) > 1 and all(map(math.isfinite, scores))
    return statistics.stdev(scores) if finite else math.nan


def describe_choice(
    scores: Mapping[str, Sequence[float]], speeds: Mapping[str, float], test: Mapping[str, Sequence[float]]
) -> list[str]:
    """Return sentences that say which of several networks to pick, and how sure this choice is.

    Args:
        scores: Bits per character of the validation split: for each network, one value per seed.
        speeds: Tokens per second in training, by network.
        test: The same as `scores` for the test split; empty if there is none.
    """
    best, *others = sorted(scores, key=lambda name: mean(scores[name]))
    if not math.isfinite(mean(scores[best])):
        return ["Every network diverged with at least one seed, so none can be picked; lower `optimizer.lr`."]
    differences = {name: paired_difference(scores[best], scores[name]) for name in others}
    groups: dict[Decision, list[str]] = {}
    for name, difference in differences.items():
        groups.setdefault(difference.decision, []).append(name)
    equals = groups.get("cannot be told apart", [])
    sentences = _pick(best, equals, scores, speeds)
    for decision, words in WORDS.items():
        if (found := groups.get(decision, [])) and len(scores[best]) > 1:
            compared = "; ".join(f"{name} ({describe_difference(differences[name])})" for name in found)
            sentences.append(f"{best} {words} {compared}.")
    if test:
        lowest = min(test, key=lambda name: mean(test[name]))
        reached = f"{mean(test[lowest]):.3f} bits per character"
        reached += "" if lowest == best else f", {best} {mean(test[best]):.3f}"
        agrees = "confirms this choice" if lowest == best else "has another order"
        sentences.append(f"The test split, read once at the end, {agrees}: {lowest} is best there ({reached}).")
    return sentences


def describe_difference(difference: Difference) -> str:
    """Describe a difference in bits per character and its confidence interval in words."""
    if not math.isfinite(difference.mean):
        return "which diverged"
    by = f"by {difference.mean:.3f} bits per character"
    if math.isinf(difference.low):
        return by
    return f"{by}, {CONFIDENCE:.0%} interval {difference.low:.3f} to {difference.high:.3f}"


def describe_seeds(seeds: int, others: int) -> list[str]:
    """Return sentences that say how reliable confidence intervals from `seeds` seeds are.

    Args:
        seeds: Number of seeds with which each network was trained.
        others: Number of networks that are compared with the best one.
    """
    if seeds < 2:
        return ["With one seed nothing shows how much another seed would change; more `seeds` show it."]
    sentences = []
    if seeds < 6:
        quantile = t_quantile(0.5 + CONFIDENCE / 2, seeds - 1)
        sentences.append(
            f"With {seeds} seeds the intervals are wide (Student's t with "
            f"{count(seeds - 1, 'degree')} of freedom: {quantile:.2f} standard errors to each side); more `seeds` "
            "make them narrower."
        )
    if others > 1:
        sentences.append("Each interval is of one comparison, without a correction for several comparisons.")
    return sentences


def _pick(
    best: str, equals: Sequence[str], scores: Mapping[str, Sequence[float]], speeds: Mapping[str, float]
) -> list[str]:
    """Return sentences that name the network to pick.

    Args:
        best: The network with the lowest mean score.
        equals: Networks that cannot be told apart from the best one.
        scores, speeds: As for `describe_choice`.
    """
    reached = f"{mean(scores[best]):.3f} bits per character of the validation split"
    if not equals:
        return [f"Pick {best} for this text: {reached}."]
    seeds = len(scores[best])
    if seeds < 2:
        return [f"{best} is best with this seed, {reached}; another seed may change the order."]
    listed = equals[0] if len(equals) == 1 else f"{', '.join(equals[:-1])} and {equals[-1]}"
    unsure = f"{best} has the lowest mean, {reached}, but {seeds} seeds do not tell it apart from {listed}."
    near = [name for name in equals if mean(scores[name]) < mean(scores[best]) * (1 + LITTLE)]
    fastest = max([best, *near], key=lambda name: speeds[name])
    if fastest == best:
        return [unsure, f"Pick {best} for this text."]
    return [unsure, f"Pick {best} for this text, or {fastest}: it is less than {LITTLE:.0%} worse and trains faster."]
