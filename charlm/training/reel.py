"""The reel: text from the same prompts and seeds, again and again while the network learns, and how good it is.

A point of the reel does two things: it writes the samples, which are for reading, and it draws a longer text,
which is measured and thrown away. Neither touches what training draws its random numbers from.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import lightning
import numpy as np

from charlm.errors import CharlmError
from charlm.files import atomic
from charlm.generation.passage import passage
from charlm.generation.sampling import write
from charlm.generation.stepper import NumpyStepper, Stepper, TorchStepper
from charlm.measure.quality import MOST_TRAINING, Quality
from charlm.run import Run, Sample
from charlm.training.callbacks import BetweenSteps
from charlm.training.module import LanguageModule
from charlm.training.record import Record
from charlm.watcher import Watcher

EARLY = (1 / 8, 1 / 4, 1 / 2)
"""Points within the first epoch, where most of the change is."""

SHARE = 0.05
"""Most of the time that points after the first epoch take, in a run that is bound by time."""


class Points:
    """Says after which steps there is a point: some in the first epoch, then ends of epochs, fewer and fewer.

    Within the first epoch, or the whole run if that is shorter, they are at 1/8, 1/4 and 1/2; after it at the
    ends of epochs (see `is_point`). In a run that is bound by steps or epochs all this follows from the number of
    the step alone, so that a run that was interrupted has the points of one that was not.

    Args:
        every: Epochs between points; None: fewer and fewer; 0: no points at all.
    """

    def __init__(self, every: int | None) -> None:
        self.every = every
        self._before = 0.0

    def start(self, module: LanguageModule) -> None:
        """Training begins or goes on."""
        self._before = _progress(module)

    def reached(self, module: LanguageModule, epoch: float, epoch_ends: bool) -> bool:
        """Whether there is a point after the step that was just done; to be asked after every step."""
        before, self._before = self._before, _progress(module)
        early = any(before < point <= self._before for point in EARLY)
        return self.every != 0 and (early or epoch_ends and is_point(round(epoch), self.every))


def is_point(epoch: int, every: int | None = None) -> bool:
    """Whether there is a point at the end of epoch 1, 2, ...

    Unless `every` says otherwise these are 1 to 10, then 12, 14, ..., 20, 25, ..., 50, 60, ..., 100, 120, and so
    on: about sixteen for each factor of ten, for the more a network has learnt the slower it changes.
    """
    if every is None:
        power = 10 ** (len(str(epoch - 1)) - 1)
        every = max(1, next(digit for digit in (2, 5, 10) if epoch <= digit * power) * power // 10)
    return epoch % every == 0


def _progress(module: LanguageModule) -> float:
    """How far the first epoch is, or the run if it ends sooner; above 1 after either."""
    return max(module.global_step / module.steps_per_epoch, module.share)


class Pace:
    """Holds something that is done now and then to a share of the time.

    Args:
        share: Most of the time, from 0 to 1, that it takes in the long run.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._took = self._ended = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """While it is done."""
        began = time.monotonic()
        yield
        self._ended = time.monotonic()
        self._took = self._ended - began

    @property
    def rested(self) -> bool:
        """Whether enough time has passed since it was last done."""
        return time.monotonic() - self._ended >= self._took / self.share


class Reel(BetweenSteps):
    """Writes and scores text at initialisation, at the points, and at the end.

    In a run that is bound by time, points after the first epoch are left out while the reel has taken too much
    of it; where `samples.every` names the epochs they are never left out.
    """

    def __init__(self, run: Run, record: Record, watcher: Watcher) -> None:
        self.run = run
        self.record = record
        self.watcher = watcher
        self.points = Points(run.config.samples.every)
        self.pace = Pace(SHARE)
        self._quality: Quality | None = None

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        self.points.start(module)
        if self.points.every != 0:
            self._prepare_scores()
        if trainer.global_step == 0:
            self.record.add_layout(self._quality.references if self._quality else {})
            if self.points.every != 0:
                self._point(trainer, module, 0.0)

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, epoch_ends: bool) -> None:
        due = self.points.reached(module, epoch, epoch_ends) and (self._exact or epoch <= 1 or self.pace.rested)
        if due or module.finished and self.points.every != 0:
            self._point(trainer, module, epoch)

    @property
    def _exact(self) -> bool:
        """Whether every point is kept, whatever it costs."""
        return self.run.config.trainer.max_time is None or self.points.every is not None

    def _prepare_scores(self) -> None:
        """Compute all that is needed of the run's own text, and keep its reference lines in `quality.json`."""
        config = self.run.config
        if not config.samples.scored:
            return
        self.watcher.progress("looking at the text that samples are compared with", 0, 1)
        held_out = _text(self.run, "val") if self.run.has_split("val") else ""
        self._quality = Quality(
            _text(self.run, "train"),
            held_out,
            unit=config.data.unit,
            seed=config.samples.seed,
            size=config.samples.scored,
        )
        self.watcher.progress("looking at the text that samples are compared with", 1, 1)
        with atomic(self.run.path / "quality.json") as file:
            known = {"references": self._quality.references, "left_out": self._quality.left_out}
            json.dump(known, file, indent=2, ensure_ascii=False)

    def _point(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float) -> None:
        with self.pace.timed(), np.errstate(over="ignore", invalid="ignore"):
            weights = {name: value.float().cpu().numpy() for name, value in module.model.state_dict().items()}
            stepper = NumpyStepper(weights, self.run.shape)
            try:
                scores = self._score(trainer, module, epoch, stepper)
                self._write(trainer.global_step, epoch, stepper, scores)
            except CharlmError as error:  # scores that are not finite; the run may recover, or gives up by itself
                self.watcher.say(f"step {trainer.global_step}: no samples; {error}")

    def _score(
        self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, stepper: Stepper
    ) -> dict[str, float]:
        """The measures of a text drawn now, by name."""
        if self._quality is None:
            return {}
        config = self.run.config.samples
        quick = TorchStepper(module.model) if module.device.type == "cuda" else stepper
        text = passage(quick, self.run.tokenizer, config.scored, seed=config.seed)
        scores = self._quality.score(text)
        self.record.add_scores(trainer.global_step, epoch, module.elapsed, scores, self._quality.references)
        return scores

    def _write(self, step: int, epoch: float, stepper: Stepper, scores: dict[str, float]) -> None:
        config = self.run.config.samples
        for prompt in config.prompts:
            for number in range(config.count or 1):
                seed = config.seed + number
                pieces = write(
                    stepper,
                    self.run.tokenizer,
                    prompt,
                    length=config.length,
                    seed=seed,
                    temperature=config.temperature,
                )
                text = "".join(row[0] for row in pieces)
                sample = Sample(round(epoch, 4), step, prompt, seed, config.temperature, text, scores)
                self.run.add_sample(sample)
                self.record.add_sample(sample)
                self.watcher.sampled(sample)


def _text(run: Run, split: str) -> str:
    """The text of a split, or as much of it as is compared with."""
    stream = run.stream(split)
    share = min(1.0, MOST_TRAINING / max(1, stream.counts.characters))
    return run.tokenizer.decode(stream.ids[: math.ceil(share * len(stream))].tolist())
