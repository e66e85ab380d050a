"""What happens inside the network during training: weights, gradients, gates, memory, the embedding.

All of it is for TensorBoard alone. Nothing here enters a file that an interrupted run has to repeat, so it may be left
out where it would take too much time.
"""

from __future__ import annotations

import math

import lightning
import numpy as np
import torch
from torch import Tensor

from charlm.config import Config
from charlm.inspection.gates import gate_activations, saturation
from charlm.inspection.memory import excerpts, gradient_through_time, memory_horizon
from charlm.network.model import LanguageModel, evaluating
from charlm.run_directory import RunDirectory
from charlm.training.callbacks import StepCallback
from charlm.training.module import LanguageModule
from charlm.training.projector import Projector
from charlm.training.run_logger import RunLogger
from charlm.training.sample_logger import TimeBudget
from charlm.training.sample_schedule import SampleSchedule
from charlm.views.plots import Chart, Curve, image

TIME_FRACTION = 0.015
"""Largest fraction of the time that diagnostics take, apart from the first and the last."""

VALUES = 50_000
"""Numbers of a tensor that a histogram is made of; larger tensors are read in strides."""

BINS = 64

TOKENS = 10_000_000
"""Tokens of the training text that are counted for the projector."""

GATE_LANES, GATE_TIME = 16, 64
"""Size of the window in which gates are recorded; as much is read before it."""

GRADIENT_LANES, GRADIENT_TIME = 16, 258
"""Pieces of text whose last token is predicted, and their tokens."""

NEGLIGIBLE = 1e-12
"""Fraction of the largest gradient below which one is not drawn."""


class Diagnostics(StepCallback):
    """Records the inside of the network at initialisation, with the samples, and at the end.

    Unless `inspect.every` names the epochs, a record is left out while records take too much of the time.
    """

    def __init__(self, directory: RunDirectory, config: Config, run_logger: RunLogger) -> None:
        self.directory = directory
        self.run_logger = run_logger
        self.config = config.inspect
        every = config.samples.every if self.config.every == "auto" else self.config.every
        self.schedule = SampleSchedule(every or "auto")
        self.budget = TimeBudget(TIME_FRACTION)
        self.stream = directory.stream("val" if directory.has_split("val") else "train")
        self._projector: Projector | None = None

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        self.schedule.start(module.progress)
        if self.config.embeddings:
            ids = self.directory.stream("train").ids[:TOKENS]
            counts = np.bincount(ids, minlength=module.model.vocab_size)
            path, tokens = self.directory.path, self.directory.tokenizer.tokens
            self._projector = Projector(path, tokens, counts, trainer.global_step)
        if trainer.global_step == 0:
            self._record(trainer, module.model, "initialisation")  # not timed: it also loads what draws

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress = module.progress
        due = self.schedule.reached(progress)
        if progress.stop_reason or due and (self.config.every != "auto" or self.budget.available):
            with self.budget.timed():
                self._record(trainer, module.model, f"epoch {progress.epoch:.3g}")

    def _record(self, trainer: lightning.Trainer, model: LanguageModel, when: str) -> None:
        step = trainer.global_step
        if self.config.histograms:
            self._weights(model, step)
            self._gates(model, step)
        if self.config.images:
            self._gradient(model, step, when)
            with trainer.precision_plugin.forward_context():  # as the validation text is read
                self._horizon(model, step, when)
        if self._projector is not None:
            self._projector.add(model.embedding.weight.detach().float().cpu().numpy(), step)

    def _weights(self, model: LanguageModel, step: int) -> None:
        for name, weight in model.named_parameters():
            self._histogram(f"weights/{name}", weight, step)
            if weight.grad is not None:
                self._histogram(f"gradients/{name}", weight.grad, step)

    def _gates(self, model: LanguageModel, step: int) -> None:
        if len(self.stream) < 2 * GATE_TIME:
            return
        before, window = excerpts(self.stream.ids, GATE_LANES, 2 * GATE_TIME).to(_device(model)).chunk(2, 1)
        with evaluating(model), torch.no_grad():
            _, state = model.hidden(before)
        for number, gates in enumerate(gate_activations(model, window, state), 1):
            for name, values in gates.items():
                tag = f"layer {number} {name}"
                closed, opened = saturation(values)
                self._histogram(f"gates/{tag}", values, step)
                self.run_logger.add_scalar(f"gates closed/{tag}", closed, step)
                self.run_logger.add_scalar(f"gates open/{tag}", opened, step)

    def _histogram(self, tag: str, values: Tensor, step: int) -> None:
        flat = values.detach().flatten()
        flat = flat[:: max(1, len(flat) // VALUES)].float().cpu()
        flat = flat[torch.isfinite(flat)]
        if len(flat):
            self.run_logger.add_histogram(tag, flat.numpy(), step, BINS)

    def _gradient(self, model: LanguageModel, step: int, when: str) -> None:
        """Draw the size of the gradient of a loss over the distance back in time."""
        if len(self.stream) < 3:
            return
        ids = excerpts(self.stream.ids, GRADIENT_LANES, min(GRADIENT_TIME, len(self.stream)))
        distances, lengths = gradient_through_time(model, ids)
        lengths[lengths < NEGLIGIBLE * lengths.max()] = 0
        curves = [Curve(f"layer {number}", distances, length.tolist()) for number, length in enumerate(lengths, 1)]
        chart = Chart(f"Gradient through time, {when}", "tokens back, T - t", "|dL_T / dh_t|", curves, log_y=True)
        self._image("gradient through time", chart, step)

    def _horizon(self, model: LanguageModel, step: int, when: str) -> None:
        """Draw the loss over the context that the network may use; items have no text before them."""
        if self.stream.starts is not None:
            return
        contexts, losses = memory_horizon(model, self.stream.ids)
        curve = Curve("loss", contexts, losses, marked=True)
        title = f"Memory horizon, {when}"
        chart = Chart(title, "tokens of context", "nats per token", [curve], log_x=True)
        self._image("memory horizon", chart, step)

    def _image(self, tag: str, chart: Chart, step: int) -> None:
        if any(0 < value < math.inf for curve in chart.curves for value in curve.y):
            self.run_logger.add_image(tag, image(chart), step)


def _device(model: LanguageModel) -> torch.device:
    return next(model.parameters()).device
