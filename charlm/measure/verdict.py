"""A verdict on a run in words that a newcomer understands, computed from its numbers.

1. ``trend``: is it still improving, has it converged, does it over-fit, and since when?
2. ``comparison``: how far is its text from held-out text and from that of an n-gram model, and did it copy?
3. ``advice``: the one command that is worth trying next.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from charlm.config import Config
from charlm.config.settings import duration, seconds
from charlm.measure.comparison import CEILING, References, Scores, copying, standing

Curve = Sequence[tuple[float, float]]
"""Numbers over the epochs, (epoch, number), oldest first."""

State = Literal[
    "not trained", "not validated", "too early", "still improving", "converged", "over-fitting", "getting worse"
]

CHANGE = 0.005
"""Share by which a loss must change to count: validations of one network differ by less."""

FEW_EPOCHS = 5
"""Epochs below which a loss that stands still says more of a learning rate that has fallen than of the network."""

GAP = 0.1
"""Share by which the training loss lies below the validation loss when the network has room to spare."""


@dataclass(frozen=True)
class Evidence:
    """The numbers of a run that a verdict is made from.

    Args:
        run: The run's directory, as the next command names it.
        config: Its resolved settings.
        epochs, steps, seconds: How far it was trained.
        training: Training loss over the epochs, in nats a token.
        validation: Validation loss over the epochs, in nats a token.
        bits_per_character: Of the validation text under the best weights; None if that was not measured.
        scores: What the measures of quality say of the newest text.
        references: What they say of the texts it is compared with.
        skipped: Steps that were not taken because a loss or a gradient was not finite.
    """

    run: str
    config: Config
    epochs: float
    steps: int
    seconds: float
    training: Curve = ()
    validation: Curve = ()
    bits_per_character: float | None = None
    scores: Scores = field(default_factory=dict)
    references: References = field(default_factory=dict)
    skipped: int = 0

    @property
    def end(self) -> Literal["epochs", "steps", "time", "patience"] | None:
        """Which of its limits ended the run; None while it has not reached any."""
        limits, patience = self.config.trainer, self.config.checkpoint.patience
        if limits.max_epochs and self.epochs >= limits.max_epochs - 1e-3:
            return "epochs"
        if limits.max_steps and self.steps >= limits.max_steps:
            return "steps"
        if limits.max_time and self.seconds >= (seconds(limits.max_time) or 0):
            return "time"
        if patience and self.validation and len(self.validation) - 1 - _lowest(self.validation) >= patience:
            return "patience"
        return None

    @property
    def share(self) -> float:
        """How much of the run is done, from 0 to 1."""
        limits = self.config.trainer
        parts = [
            self.epochs / limits.max_epochs if limits.max_epochs else 0.0,
            self.steps / limits.max_steps if limits.max_steps else 0.0,
            self.seconds / (seconds(limits.max_time) or math.inf),
        ]
        return 1.0 if self.end else min(1.0, max(parts))


@dataclass(frozen=True)
class Trend:
    """Where the losses went: how the run stands, since which epoch, and the numbers that say so."""

    state: State
    since: float = 0.0  # epoch
    before: float = math.nan  # the validation loss (the training loss where there is no other) then
    after: float = math.nan  # and in the end
    training_before: float = math.nan
    training_after: float = math.nan

    @property
    def change(self) -> float:
        """By which share the loss has changed; below zero it fell."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class Verdict:
    """What became of a run.

    Args:
        state: In two words.
        sentences: In whole sentences.
        advice: What is worth trying next, and why; ends with the colon before the command.
        command: The command that does it.
    """

    state: State
    sentences: list[str]
    advice: str
    command: str

    @property
    def lines(self) -> list[str]:
        """Everything, a line each."""
        return [*self.sentences, self.advice, f"  {self.command}"]


def verdict(evidence: Evidence) -> Verdict:
    """Judge a run by its numbers."""
    course = trend(evidence.training, evidence.validation)
    said = [*_progress(evidence), _course(course)]
    said += _prediction(evidence) + standing(evidence.scores, evidence.references)
    said += copying(evidence.scores, evidence.references)
    if evidence.skipped:
        said.append(
            f"{evidence.skipped:,} of {evidence.steps:,} steps were skipped, for their loss or gradient was not "
            "finite; a lower --optimizer.lr prevents that."
        )
    advised, command = advice(evidence, course)
    return Verdict(course.state, said, advised, command)


# -- how the losses went


def trend(training: Curve, validation: Curve) -> Trend:
    """Whether the losses still fall, and if not, since when.

    The validation loss over-fits if it has risen by more than `CHANGE` over its lowest value while the training
    loss has not. It still improves if it fell by more than `CHANGE` over the last quarter of the training.
    """
    if not validation:
        if not training:
            return Trend("not trained")
        quarter = 0.75 * training[-1][0]
        return Trend("not validated", quarter, _level(training, quarter), _level(training, training[-1][0]))
    epochs, losses = zip(*validation, strict=True)
    lowest = _lowest(validation)
    since, least, last = epochs[lowest], losses[lowest], losses[-1]
    learnt = (_level(training, since), _level(training, epochs[-1]))
    if last >= least * (1 + CHANGE):
        worse = learnt[1] > learnt[0] * (1 + CHANGE)
        return Trend("getting worse" if worse else "over-fitting", since, least, last, *learnt)
    quarter = 0.75 * epochs[-1]
    if epochs[0] > quarter:
        return Trend("too early", since, math.nan, least, *learnt)
    before = float(np.interp(quarter, epochs, losses))
    state: State = "still improving" if least < before * (1 - CHANGE) else "converged"
    return Trend(state, quarter, before, least, _level(training, quarter), learnt[1])


def _lowest(curve: Curve) -> int:
    """Where a curve is lowest."""
    return min(range(len(curve)), key=lambda index: curve[index][1])


def _level(curve: Curve, epoch: float) -> float:
    """A noisy curve at an epoch: its mean over the tenth of its length that ends there, or the nearest value."""
    if not curve:
        return math.nan
    width = 0.1 * curve[-1][0]
    near = [value for at, value in curve if epoch - width < at <= epoch]
    return float(np.mean(near)) if near else min(curve, key=lambda point: abs(point[0] - epoch))[1]


def _progress(evidence: Evidence) -> list[str]:
    if evidence.end:
        return []
    return [f"Not finished: {evidence.share:.0%} of the run is done ({evidence.epochs:.3g} epochs)."]


def _course(course: Trend) -> str:
    kept = f"The weights of epoch {course.since:.3g} are kept and used."
    match course.state:
        case "not trained":
            return "Nothing has been learnt yet."
        case "not validated":
            return (
                "There is no validation text, so nobody can say whether it over-fits. The loss on the training text "
                f"went from {course.before:.3f} to {course.after:.3f} nats a token in the last quarter of the training."
            )
        case "too early":
            return (
                "Too early to tell whether it still improves: the validation text was first read near the end (loss "
                f"{course.after:.3f} nats a token)."
            )
        case "still improving":
            return (
                "Still improving: in the last quarter of the training the loss on the validation text fell by "
                f"{-course.change:.1%}, from {course.before:.3f} to {course.after:.3f} nats a token."
            )
        case "converged":
            return (
                "Converged: in the last quarter of the training the loss on the validation text changed by less than "
                f"{CHANGE:.1%}; it is {course.after:.3f} nats a token."
            )
        case "over-fitting":
            return (
                f"Over-fitting since epoch {course.since:.3g}: since then the loss on the validation text has risen by "
                f"{course.change:.1%}, from {course.before:.3f} to {course.after:.3f} nats a token, while that on the "
                f"training text went from {course.training_before:.3f} to {course.training_after:.3f}: the network "
                f"learns its text by heart. {kept}"
            )
        case _:
            return (
                f"Getting worse since epoch {course.since:.3g}: since then the loss has risen both on the validation "
                f"text, from {course.before:.3f} to {course.after:.3f} nats a token, and on the training text: the "
                f"steps are too large. {kept}"
            )


def _prediction(evidence: Evidence) -> list[str]:
    bits = evidence.bits_per_character
    if bits is None:
        return []
    among = f"{2 ** min(bits, 1000):.3g} equally likely ones"
    said = f"A character of the validation text costs it {bits:.2f} bits, as if it wavered between {among}"
    other = evidence.references.get(CEILING, {}).get("ngram_bits")
    if other is None:
        return [said + "."]
    than = f"{abs(bits / other - 1):.0%} {'less' if bits < other else 'more'} than"
    return [f"{said}: {than} an n-gram model pays ({other:.2f} bits)."]


# -- what to try next


def advice(evidence: Evidence, course: Trend) -> tuple[str, str]:
    """What is worth trying next with its reason, and the command."""
    run, config = shlex.quote(evidence.run), evidence.config
    go_on = f"charlm train --resume {run}"
    anew = f"charlm train --config {shlex.quote(evidence.run + '/config.yaml')}"
    piped = " < TEXT" if "-" in config.data.text else ""
    if evidence.end is None:
        return "Next, let it go on to its end:", go_on
    if course.state == "not validated":
        return "Next, keep a tenth of the text for validation:", f"{anew} --data.val_fraction 0.1{piped}"
    if course.state in ("too early", "still improving"):
        return "Next, let it learn for twice as long:", f"{go_on} {_twice(evidence)}"
    if course.state == "getting worse":
        lr = (config.optimizer.lr or 0.0) / 2
        return "Next, take smaller steps:", f"{anew} --optimizer.lr {lr:.3g}{piped}"
    roomy = course.training_after < course.after * (1 - GAP)
    if course.state == "converged" and not roomy:
        if evidence.epochs < FEW_EPOCHS:
            return (
                "The training loss is hardly lower, and it saw its text but a few times. Next, let it learn for twice "
                "as long, the learning rate falling more slowly:",
                f"{go_on} {_twice(evidence)}",
            )
        return (
            "The training loss is hardly lower, so the network has no room to learn more. Next, try a wider one, its "
            "learning rate chosen anew:",
            f"{anew} {_width(config, 2.0)}{piped}",
        )
    dropout = config.model.dropout or 0.0
    if dropout < 0.5:
        more = round(min(0.6, max(0.2, dropout + 0.2)), 2)
        return (
            "More text helps most. With this text, next try to drop more of the network while it learns:",
            f"{anew} --model.dropout {more:g}{piped}",
        )
    return (
        "More text helps most. With this text, next try a narrower network:",
        f"{anew} {_width(config, 0.5)}{piped}",
    )


def _width(config: Config, factor: float) -> str:
    """The options of a network `factor` times as wide, which cannot start from other weights."""
    hidden = config.model.hidden or 1
    wide = max(1, round(factor * hidden))
    embedding = f" --model.embedding {wide}" if config.model.embedding == hidden else ""
    fresh = " --init_from null" if config.init_from else ""
    return f"--model.hidden {wide}{embedding} --optimizer.lr null{fresh}"


def _twice(evidence: Evidence) -> str:
    """The option that lets a run go on for as long as it has gone."""
    limits = evidence.config.trainer
    match evidence.end:
        case "epochs":
            return f"--trainer.max_epochs {2 * (limits.max_epochs or 0)}"
        case "steps":
            return f"--trainer.max_steps {2 * (limits.max_steps or 0)}"
        case "time":
            return f"--trainer.max_time {duration(2 * (seconds(limits.max_time) or 0))}"
        case _:
            return f"--checkpoint.patience {2 * evidence.config.checkpoint.patience}"
