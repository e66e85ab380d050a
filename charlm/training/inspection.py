"""What goes on inside the network while it learns: weights, gradients, gates, memory, the embedding.

All of it is for TensorBoard alone. Nothing here enters a file that a run which was interrupted has to repeat,
and so the looks may follow the clock: they are left out where they would cost too much.
"""

from __future__ import annotations

import math

import lightning
import numpy as np
import torch
from torch import Tensor

from charlm.measure.gates import gate_activations, saturation
from charlm.measure.memory import excerpts, gradient_through_time, memory_horizon
from charlm.network.model import LanguageModel, evaluating
from charlm.run import Run
from charlm.training.callbacks import BetweenSteps
from charlm.training.module import LanguageModule
from charlm.training.projector import Projector
from charlm.training.record import Record
from charlm.training.reel import Pace, Points
from charlm.views.plots import Chart, Curve, image

SHARE = 0.015
"""Most of the time that looking inside takes, but for the first and the last look."""

VALUES = 50_000
"""Numbers of a tensor that a histogram is made of; larger ones are read in strides."""

BINS = 64

TOKENS = 10_000_000
"""Tokens of the training text that are counted."""

GATE_LANES, GATE_TIME = 16, 64
"""Size of the window in which gates are recorded; as much is read before it."""

GRADIENT_LANES, GRADIENT_TIME = 16, 258
"""Pieces of text whose last token is predicted, and their tokens."""

FADED = 1e-12
"""Share of the largest gradient below which one is not drawn: nothing is left of it."""


class Inspection(BetweenSteps):
    """Looks inside the network at initialisation, at points of the reel, and at the end.

    Unless `inspect.every` names the epochs, a look is left out while looking has taken more than its share.
    """

    def __init__(self, run: Run, record: Record) -> None:
        self.run = run
        self.record = record
        self.config = run.config.inspect
        self.points = Points(self.config.every or run.config.samples.every or None)
        self.pace = Pace(SHARE)
        self.stream = run.stream("val" if run.has_split("val") else "train")
        self._projector: Projector | None = None

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        self.points.start(module)
        if self.config.embeddings:
            vocabulary = self.run.shape.vocabulary
            counts = np.bincount(self.run.stream("train").ids[:TOKENS], minlength=vocabulary)
            self._projector = Projector(self.run.path, self.run.tokenizer.tokens, counts, trainer.global_step)
        if trainer.global_step == 0:
            self._look(trainer, module.model, "initialisation")  # not timed: it also loads what draws

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, epoch_ends: bool) -> None:
        due = self.points.reached(module, epoch, epoch_ends)
        if module.finished or due and (self.config.every is not None or self.pace.rested):
            with self.pace.timed():
                self._look(trainer, module.model, f"epoch {epoch:.3g}")

    def _look(self, trainer: lightning.Trainer, model: LanguageModel, when: str) -> None:
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
                self.record.writer.add_scalar(f"gates closed/{tag}", closed, step)
                self.record.writer.add_scalar(f"gates open/{tag}", opened, step)

    def _histogram(self, tag: str, values: Tensor, step: int) -> None:
        flat = values.detach().flatten()
        flat = flat[:: max(1, len(flat) // VALUES)].float().cpu()
        flat = flat[torch.isfinite(flat)]
        if len(flat):
            self.record.writer.add_histogram(tag, flat.numpy(), step, bins=BINS)

    def _gradient(self, model: LanguageModel, step: int, when: str) -> None:
        """Draw how the gradient of a loss fades on its way back."""
        if len(self.stream) < 3:
            return
        ids = excerpts(self.stream.ids, GRADIENT_LANES, min(GRADIENT_TIME, len(self.stream)))
        distances, lengths = gradient_through_time(model, ids)
        lengths[lengths < FADED * lengths.max()] = 0
        curves = [Curve(f"layer {number}", distances, length.tolist()) for number, length in enumerate(lengths, 1)]
        chart = Chart(f"Gradient through time, {when}", "tokens back, T - t", "|dL_T / dh_t|", curves, log_y=True)
        self._image("gradient through time", chart, step)

    def _horizon(self, model: LanguageModel, step: int, when: str) -> None:
        """Draw how much the network gains from what lies further back; items have no text before them."""
        if self.stream.starts is not None:
            return
        contexts, losses = memory_horizon(model, self.stream.ids)
        curve = Curve("loss", contexts, losses, marked=True)
        title = f"Memory horizon, {when}"
        chart = Chart(title, "tokens of context that the state has seen", "nats a token", [curve], log_x=True)
        self._image("memory horizon", chart, step)

    def _image(self, tag: str, chart: Chart, step: int) -> None:
        if any(0 < value < math.inf for curve in chart.curves for value in curve.y):
            self.record.writer.add_image(tag, image(chart), step, dataformats="HWC")


def _device(model: LanguageModel) -> torch.device:
    return next(model.parameters()).device
