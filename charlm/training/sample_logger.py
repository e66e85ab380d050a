"""The sample history: text generated during training, always from the same prompts and seeds.

At each point of the `sample_schedule`, samples are generated for people to read. Unless
`samples.scored` is 0, a further text is generated, scored by the text metrics and discarded.
Neither of them uses the random number generator of the training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import lightning
import numpy as np

from charlm.config import Config, SamplesConfig
from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError
from charlm.evaluation.text_metrics import MOST_TRAINING, TextMetrics
from charlm.generation.draw_text import draw_text
from charlm.generation.stepper import NumpyStepper, Stepper, TorchStepper
from charlm.generation.streaming import Generation
from charlm.network.model import LanguageModel
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory, Sample
from charlm.training.callbacks import StepCallback
from charlm.training.module import LanguageModule
from charlm.training.progress import Progress
from charlm.training.run_logger import RunLogger
from charlm.training.sample_schedule import SampleSchedule

TIME_FRACTION = 0.05
"""Largest fraction of the time that samples after the first epoch take (see `SampleLogger`)."""


class TimeBudget:
    """A limit on the fraction of the time that an occasional task takes.

    Args:
        fraction: Largest fraction of the time, from 0 to 1, that the task takes in the long run.
    """

    def __init__(self, fraction: float) -> None:
        self.fraction = fraction
        self._took = self._ended = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measure the duration of the block, in which the task is done once."""
        began = time.monotonic()
        yield
        self._ended = time.monotonic()
        self._took = self._ended - began

    @property
    def available(self) -> bool:
        """Whether the task may be done again: enough time has passed since it last ended."""
        return time.monotonic() - self._ended >= self._took / self.fraction


class SampleLogger(StepCallback):
    """The callback that generates samples and scores generated text during training.

    It acts at initialisation, at the points of the `SampleSchedule`, and at the end of the run;
    never if `samples.every` is 0. If `trainer.max_time` is set and `samples.every` is "auto",
    points after the first epoch are skipped while samples take too much of the time. Otherwise no
    point is skipped.
    """

    def __init__(self, directory: RunDirectory, config: Config, run_logger: RunLogger, reporter: Reporter) -> None:
        self.directory = directory
        self.config = config.samples
        self.unit, self.direction = config.data.unit, config.data.direction
        self.run_logger = run_logger
        self.reporter = reporter
        self.schedule = SampleSchedule(config.samples.every)
        self.budget = TimeBudget(TIME_FRACTION)
        self.budgeted = bool(config.trainer.max_time) and config.samples.every == "auto"
        self._metrics: TextMetrics | None = None

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        self.schedule.start(module.progress)
        if self.config.every != 0 and self.config.scored:
            self._metrics = self._prepare_metrics()
        if trainer.global_step == 0:
            references = self._metrics.references if self._metrics else {}
            self.run_logger.add_layout({name for scores in references.values() for name in scores})
            if self.config.every != 0:
                self._sample(module)

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress = module.progress
        affordable = not self.budgeted or progress.epoch <= 1 or self.budget.available
        due = self.schedule.reached(progress) and affordable
        if due or progress.stop_reason and self.config.every != 0:
            self._sample(module)

    def _prepare_metrics(self) -> TextMetrics:
        """Prepare the text metrics, and store the scores of the reference texts.

        Generated text is compared with the reference texts.
        """
        what = "scoring the text that samples are compared with"
        self.reporter.progress(what, 0, 1)
        held_out = self._text("val") if self.directory.has_split("val") else ""
        found = TextMetrics(
            self._text("train"), held_out, unit=self.unit, seed=self.config.seed, size=self.config.scored
        )
        self.reporter.progress(what, 1, 1)
        self.directory.write_quality(references=found.references, left_out=found.left_out, size=found.size)
        return found

    def _text(self, split: str) -> str:
        """Return the text of a split, cut after about `MOST_TRAINING` characters."""
        stream = self.directory.stream(split)
        fraction = min(1.0, MOST_TRAINING / max(1, stream.counts.characters))
        return stream.text(self.directory.tokenizer, math.ceil(fraction * len(stream)))

    def _sample(self, module: LanguageModule) -> None:
        model = module.model
        with self.budget.timed(), np.errstate(over="ignore", invalid="ignore"):
            stepper = _stepper(model)
            try:
                scores = self._score(module, stepper)
                self._generate(module.progress, stepper, scores)
            except CharlmError as error:  # logits that are not finite, which `Recovery` handles
                self.reporter.say(f"step {module.progress.step}: no samples; {error}")

    def _score(self, module: LanguageModule, stepper: Stepper) -> dict[str, float]:
        """Generate a text with the current weights; log and return its text metrics, by name.

        The result is empty if the run scores no text.
        """
        if self._metrics is None:
            return {}
        fastest = TorchStepper(module.model) if module.device.type == "cuda" else stepper
        text = draw_text(fastest, self.directory.tokenizer, self.config.scored, self.direction, seed=self.config.seed)
        scores = self._metrics.score(text)
        self.run_logger.add_scores(module.progress, scores, self._metrics.references)
        return scores

    def _generate(self, progress: Progress, stepper: Stepper, scores: dict[str, float]) -> None:
        for sample in _samples(progress, stepper, self.directory, self.config):
            scored = replace(sample, scores=scores)
            self.directory.add_sample(scored)
            self.run_logger.add_sample(scored)
            self.reporter.on_sample(scored)


def generate_samples(module: LanguageModule, directory: RunDirectory, config: SamplesConfig) -> Iterator[Sample]:
    """Generate samples with the current weights, one by one, without scores.

    Raises:
        CharlmError: the logits are not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        yield from _samples(module.progress, _stepper(module.model), directory, config)


def _stepper(model: LanguageModel) -> NumpyStepper:
    weights = {name: value.float().cpu().numpy() for name, value in model.state_dict().items()}
    return NumpyStepper(weights, model.config, model.vocab_size)


def _samples(progress: Progress, stepper: Stepper, directory: RunDirectory, config: SamplesConfig) -> Iterator[Sample]:
    direction = directory.config.data.direction
    for prompt in config.prompts:
        for seed in range(config.seed, config.seed + config.count):
            settings = GenerationConfig(length=config.length, seed=seed)
            generation = Generation(
                stepper,
                directory.tokenizer,
                [prompt],
                settings,
                direction=direction,
                temperature=config.temperature,
            )
            text = generation.finish()[0].text
            epoch = round(progress.epoch, 4)
            yield Sample(epoch, progress.step, prompt, seed, config.temperature, text, direction=direction)
