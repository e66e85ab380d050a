"""A verdict on a run: a few sentences for a beginner, computed from the numbers of the run.

1. `trend` finds out whether the loss still falls, has converged or rises, and since which epoch.
2. The functions of `comparison` describe how close the generated text is to held-out text, and
   whether it was copied from the training text.
3. `advise` names the one command that is most worth trying next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from charlm.config import Config
from charlm.config.durations import duration, seconds
from charlm.config.limits import Limit, Limits
from charlm.config.shell import command
from charlm.evaluation.comparison import References, Scores, describe_copying, describe_progress, describe_size
from charlm.evaluation.text_metrics import REFERENCE

Curve = Sequence[tuple[float, float]]
"""Values over epochs: (epoch, value), oldest first."""

State = Literal[
    "not trained", "not validated", "too early", "still improving", "converged", "over-fitting", "getting worse"
]

CHANGE = 0.005
"""Smallest relative change of a loss that counts; validations of the same network differ by less."""

FEW_EPOCHS = 5
"""Epochs below which a constant loss is blamed on the learning rate and not on the size of the
network."""

FEW_STEPS = 100
"""Optimiser steps below which a constant loss is no convergence: a network learns the token
frequencies first."""

GAP = 0.1
"""Relative gap between training and validation loss from which more regularisation or more text is advised."""

MANY_SKIPPED = 0.01
"""Fraction of the optimiser steps; if more of them (and more than 10) were skipped, the learning
rate is blamed. Fewer are skipped by chance."""

STRONG_DROPOUT = 0.3
"""Least dropout that is blamed for under-fitting, if the training loss (with dropout) is above the
validation loss."""

SHORT_TEXT = 20_000
"""Tokens of training text below which no setting replaces more text."""

NARROW = 64
"""Hidden units below which a network that over-fits with much dropout is not made narrower still."""


@dataclass(frozen=True)
class Evidence:
    """The numbers of a run from which its verdict is computed.

    Args:
        run: Path of the run directory, for the advised command.
        config: The settings of the run, all of which have a value.
        epochs, steps, seconds: How long the run was trained.
        training: Training loss in nats per token.
        validation: Validation loss in nats per token.
        stale_validations: Number of validations since the one with the lowest loss, as the training
            counted them.
        validation_text: Whether the run has a validation text.
        bits_per_character: The loss on the validation text with the best weights, in bits per
            character; None without validation.
        scores: Text metrics of the newest samples that have any.
        references: Text metrics of the reference and of the baselines (see `text_metrics`).
        scored_size: How many characters of each text the text metrics are computed from; 0 if there
            are no metrics.
        skipped: Optimiser steps that were skipped because a loss or a gradient was not finite.
    """

    run: str
    config: Config
    epochs: float
    steps: int
    seconds: float
    training: Curve = ()
    validation: Curve = ()
    stale_validations: int = 0
    validation_text: bool = True
    bits_per_character: float | None = None
    scores: Scores = field(default_factory=dict)
    references: References = field(default_factory=dict)
    scored_size: int = 0
    skipped: int = 0

    @cached_property
    def limits(self) -> Limits:
        """The limits (of epochs, steps, time or patience) that end the training of the run."""
        return Limits.of(self.config.trainer, self.config.checkpoint)

    @property
    def end(self) -> Limit | None:
        """The limit that ended the run; None if the run has not reached any limit."""
        return self.limits.reached(self.epochs, self.steps, self.seconds, self.stale_validations)

    @property
    def fraction(self) -> float:
        """The fraction of the run that is done, from 0 to 1, by the limit that is closest."""
        return 1.0 if self.end else self.limits.fraction(self.epochs, self.steps, self.seconds)

    @property
    def tokens(self) -> float:
        """The approximate number of tokens of the training text.

        It is computed from the tokens that the run has read and the number of epochs. It is NaN for
        a text of items, because items do not fill their windows, and before the training begins.
        """
        data = self.config.data
        if data.unit != "stream" or not self.epochs or None in (data.batch_size, data.seq_length):
            return math.nan
        batches = self.steps * self.config.trainer.accumulate_grad_batches
        return batches * data.batch_size * data.seq_length / self.epochs


@dataclass(frozen=True)
class Trend:
    """The change of the losses of a run.

    Args:
        state: The diagnosis.
        since: The epoch from which the change is computed.
        before: Validation loss at `since`; NaN if it is too early to judge the run because it was
            first validated in its last quarter.
        after: The last validation loss if the run over-fits or gets worse, otherwise the lowest
            one. Without any validation, `before` and `after` are training losses.
        training_before, training_after: Training loss at `since` and at the last validation, NaN
            without any validation.
    """

    state: State
    since: float = 0.0
    before: float = math.nan
    after: float = math.nan
    training_before: float = math.nan
    training_after: float = math.nan

    @property
    def change(self) -> float:
        """The relative change of the loss; negative if the loss fell."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class Advice:
    """A command that is worth trying next.

    Args:
        sentence: What the command does and why; the sentence ends with a colon.
        command: The command, for a shell.
    """

    sentence: str
    command: str


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run: its diagnosis, as a label and in sentences, and advice."""

    state: State
    sentences: list[str]
    advice: Advice


def verdict(evidence: Evidence) -> Verdict:
    """Judge a run: diagnose it from its numbers, describe it, and advise what to try next."""
    found = trend(evidence.training, evidence.validation, evidence.end, evidence.steps)
    sentences = [*_describe_end(evidence), _describe_trend(found, evidence), *_describe_prediction(evidence)]
    sentences += describe_progress(evidence.scores, evidence.references)
    sentences += describe_copying(evidence.scores, evidence.references)
    sentences += describe_size(evidence.scored_size) if evidence.scores else []
    if evidence.skipped:
        sentences.append(
            f"{evidence.skipped:,} of {evidence.steps:,} steps were skipped because their loss or gradient was not "
            "finite; a lower `optimizer.lr` prevents that."
        )
    return Verdict(found.state, sentences, advise(evidence, found))


# -- the trend of the losses


def trend(training: Curve, validation: Curve, end: Limit | None = None, steps: float = math.inf) -> Trend:
    """Diagnose a run from its training and validation losses.

    - Not trained: there are no losses. Not validated: there are only training losses.
    - Over-fitting: the last validation loss is above the lowest one by at least the fraction
      `CHANGE`, and the training loss has not risen as well.
    - Getting worse: both losses have risen by this fraction.
    - Converged: neither of these, and the run was stopped early because of `patience`.
    - Still improving: in the last quarter of any other run, the validation loss fell by more than
      `CHANGE`. If it did not, the run has converged.
    - Too early: the first validation was in the last quarter, or the run would have converged after
      fewer than `FEW_STEPS` optimiser steps.

    Args:
        training, validation: The losses.
        end: The limit that ended the run; None if it has not ended.
        steps: Optimiser steps of the run.
    """
    if not validation:
        if not training:
            return Trend("not trained")
        quarter = 0.75 * training[-1][0]
        return Trend("not validated", quarter, _level(training, quarter), _level(training, training[-1][0]))
    epochs, losses = zip(*validation, strict=True)
    lowest = _lowest(validation)
    since, least, last = epochs[lowest], losses[lowest], losses[-1]
    trained = (_level(training, since), _level(training, epochs[-1]))
    if last >= least * (1 + CHANGE):
        worse = trained[1] > trained[0] * (1 + CHANGE)
        return Trend("getting worse" if worse else "over-fitting", since, least, last, *trained)
    if end == "patience":
        return Trend("converged", since, least, least, *trained)
    quarter = 0.75 * epochs[-1]
    if epochs[0] > quarter:
        return Trend("too early", since, math.nan, least, *trained)
    before = float(np.interp(quarter, epochs, losses))
    if least < before * (1 - CHANGE):
        state: State = "still improving"
    else:
        state = "converged" if steps >= FEW_STEPS else "too early"
    return Trend(state, quarter, before, least, _level(training, quarter), trained[1])


def _lowest(curve: Curve) -> int:
    """Return the number of the point at which a curve is lowest, counted from 0."""
    return min(range(len(curve)), key=lambda index: curve[index][1])


def _level(curve: Curve, epoch: float) -> float:
    """Return the smoothed value of a noisy curve at an epoch.

    The value is the mean over the preceding tenth of the training. If the curve has no value there,
    it is the value at the nearest epoch.
    """
    if not curve:
        return math.nan
    width = 0.1 * curve[-1][0]
    near = [value for at, value in curve if epoch - width < at <= epoch]
    return float(np.mean(near)) if near else min(curve, key=lambda point: abs(point[0] - epoch))[1]


# -- sentences


def _describe_end(evidence: Evidence) -> list[str]:
    if evidence.end:
        return []
    return [f"Not finished: {evidence.fraction:.0%} of the run is done ({evidence.epochs:.3g} epochs)."]


def _describe_trend(found: Trend, evidence: Evidence) -> str:
    best = f"The best weights, of epoch {found.since:.3g}, are kept."
    change = f"from {found.before:.3f} to {found.after:.3f} nats per token"
    match found.state:
        case "not trained":
            return "Not trained: no loss was logged yet."
        case "not validated":
            why = "without validation text, over-fitting cannot be detected"
            why = "Not validated yet." if evidence.validation_text else f"Not validated: {why}."
            return f"{why} In the last quarter of the training, the training loss went {change}."
        case "too early" if evidence.steps < FEW_STEPS:
            return (
                f"Too early to judge after {evidence.steps:,} optimiser steps (validation loss: {found.after:.3f} nats "
                "per token)."
            )
        case "too early":
            return (
                "Too early to judge: the first validation was in the last quarter of the training (validation loss: "
                f"{found.after:.3f} nats per token)."
            )
        case "still improving":
            return (
                "Still improving: in the last quarter of the training, the validation loss fell by "
                f"{-found.change:.1%}, {change}."
            )
        case "converged" if evidence.end == "patience":
            return (
                f"Converged: the training stopped early, because {evidence.stale_validations} validations in a row "
                f"brought no improvement. The lowest validation loss is {found.after:.3f} nats per token. {best}"
            )
        case "converged":
            return (
                "Converged: in the last quarter of the training, the validation loss changed by less than "
                f"{CHANGE:.1%}; it is {found.after:.3f} nats per token."
            )
        case "over-fitting":
            return (
                f"Over-fitting since epoch {found.since:.3g}: the validation loss has risen by {found.change:.1%}, "
                f"{change}, while the training loss went from {found.training_before:.3f} to "
                f"{found.training_after:.3f}. {best}"
            )
        case _:
            return (
                f"Getting worse since epoch {found.since:.3g}: the validation loss has risen {change}, and the "
                f"training loss has risen as well: the optimiser's steps are too large. {best}"
            )


def _describe_prediction(evidence: Evidence) -> list[str]:
    bits = evidence.bits_per_character
    if bits is None:
        return []
    perplexity = f"a perplexity of {2 ** min(bits, 1000):.3g} per character"
    sentence = f"The validation text takes {bits:.2f} bits per character ({perplexity})"
    other = evidence.references.get(REFERENCE, {}).get("ngram_bits")
    if other is None:
        return [f"{sentence}."]
    difference = f"{abs(bits / other - 1):.0%} {'less' if bits < other else 'more'}"
    return [f"{sentence}, {difference} than under a 6-gram model ({other:.2f} bits)."]


# -- advice


def advise(evidence: Evidence, found: Trend) -> Advice:
    """Return the command that is most worth trying after a run.

    Args:
        evidence: The numbers of the run.
        found: What `trend` returned for the run.
    """
    config = evidence.config
    if evidence.end is None:
        return Advice("Next, continue the training to its end:", _resume(evidence))
    if evidence.skipped > max(10, MANY_SKIPPED * evidence.steps):
        lower = f"{config.optimizer.lr / 2:.3g}"
        return Advice(
            "Many losses or gradients were not finite. Next, halve the learning rate:",
            _train_again(evidence, optimizer__lr=lower),
        )
    if found.state == "not validated" and not evidence.validation_text:
        return Advice("Next, keep a tenth of the text for validation:", _train_again(evidence, data__val_fraction=0.1))
    if found.state in ("not validated", "too early", "still improving"):
        return Advice("Next, train for twice as long:", _resume(evidence, **_twice(evidence)))
    if found.state == "getting worse":
        lower = f"{config.optimizer.lr / 2:.3g}"
        return Advice("Next, halve the learning rate:", _train_again(evidence, optimizer__lr=lower))
    gap = found.training_after < found.after * (1 - GAP)
    if found.state == "converged" and not gap:
        if evidence.epochs < FEW_EPOCHS and evidence.end == "patience":
            return Advice(
                f"The validation loss stopped falling after only {evidence.epochs:.3g} epochs. "
                "Next, halve the learning rate:",
                _train_again(evidence, optimizer__lr=f"{config.optimizer.lr / 2:.3g}"),
            )
        if evidence.epochs < FEW_EPOCHS:
            return Advice(
                f"The training loss is close to the validation loss after only {evidence.epochs:.3g} epochs. "
                "Next, train for twice as long, with a learning rate that falls more slowly:",
                _resume(evidence, **_twice(evidence)),
            )
        if config.model.dropout >= STRONG_DROPOUT and found.training_after > found.after:
            return Advice(
                "Under-fitting: with dropout, the training loss is above the validation loss. Next, try less dropout:",
                _train_again(evidence, model__dropout=f"{config.model.dropout / 2:.2g}"),
            )
        return Advice(
            "The training loss is close to the validation loss, so the network is too small to learn more. "
            "Next, try a wider one:",
            _train_again(evidence, **_width(config, 2.0)),
        )
    exhausted = config.model.dropout >= 0.5 and config.model.hidden < NARROW
    if exhausted or evidence.tokens < SHORT_TEXT:
        return Advice(
            "The text is too small: with more dropout or a narrower network, the loss would hardly fall. Next, train "
            "on more text (MORE_TEXT stands for it):",
            _with_more_text(evidence),
        )
    reason = "More text helps most. With this text, next try"
    if config.model.dropout < 0.5:
        more = round(min(0.6, max(0.2, config.model.dropout + 0.2)), 2)
        return Advice(f"{reason} more dropout:", _train_again(evidence, model__dropout=f"{more:g}"))
    return Advice(f"{reason} a narrower network:", _train_again(evidence, **_width(config, 0.5)))


def _resume(evidence: Evidence, **changes: Any) -> str:
    return command("train", resume=evidence.run, **changes)


def _train_again(evidence: Evidence, **changes: Any) -> str:
    """Return the command for a new run with the settings of this one, some of which are changed."""
    line = command("train", config=f"{evidence.run}/config.yaml", **changes)
    return f"{line} < TEXT" if "-" in evidence.config.data.text else line


def _with_more_text(evidence: Evidence) -> str:
    """Return the command for a new run with the same settings, on the same text and MORE_TEXT."""
    texts = evidence.config.data.text
    line = command("train", *texts, "MORE_TEXT", config=f"{evidence.run}/config.yaml")
    return f"{line} < TEXT" if "-" in texts else line


def _width(config: Config, factor: float) -> dict[str, Any]:
    """Return the settings to change for a network that is `factor` times as wide.

    The new network starts from random weights.
    """
    wide = max(1, round(factor * config.model.hidden))
    changes: dict[str, Any] = {"model__hidden": wide}
    if config.model.embedding == config.model.hidden:
        changes["model__embedding"] = wide
    changes["optimizer__lr"] = "none"  # chosen anew for this width
    if config.init_from:
        changes["init_from"] = ""
    return changes


def _twice(evidence: Evidence) -> dict[str, Any]:
    """Return the setting with which the run trains for twice as long.

    This setting is the limit that ended the run, doubled.
    """
    limits = evidence.config.trainer
    match evidence.end:
        case "epochs":
            return {"trainer__max_epochs": 2 * limits.max_epochs}
        case "steps":
            return {"trainer__max_steps": 2 * limits.max_steps}
        case _:
            return {"trainer__max_time": duration(2 * seconds(limits.max_time))}
