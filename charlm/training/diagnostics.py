"""Records of the network during training: weights, gradients, gates, memory, the embedding.

"Memory" means how far back the network looks. All records are for TensorBoard, and `memory.json`
also holds the newest memory record. If `inspect.every` is "auto", records between the first and the
last one are skipped where they would take too much time. The end of a run is always recorded, so a
resumed run ends with the same `memory.json` as an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import torch
from torch import Tensor

from charlm.config import Config
from charlm.inspection.gates import gate_activations, saturation
from charlm.inspection.memory import excerpts, gradient_through_time, memory_horizon
from charlm.network.model import LanguageModel, evaluating
from charlm.run_directory import MemoryRecord, RunDirectory
from charlm.training.callbacks import StepCallback
from charlm.training.module import LanguageModule
from charlm.training.progress import Progress
from charlm.training.projector import Projector
from charlm.training.run_logger import RunLogger
from charlm.training.sample_logger import TimeBudget
from charlm.training.sample_schedule import SampleSchedule
from charlm.views.plots import image, memory_charts

TIME_FRACTION = 0.015
"""Largest fraction of the time that records take if `inspect.every` is "auto".

The first and the last record do not count.
"""

VALUES = 50_000
"""A tensor with at least twice this number of values is subsampled for its histogram."""

BINS = 64

TOKENS = 10_000_000
"""Tokens at the start of the training text in which frequencies are counted for the projector."""

GATE_LANES, GATE_TIME = 16, 64
"""Lanes and tokens of the window in which gates are recorded; as many tokens are read before it."""

GRADIENT_LANES, GRADIENT_TIME = 16, 258
"""Pieces of text from which the gradient through time is computed, and tokens of each piece."""

NEGLIGIBLE = 1e-12
"""Gradient norms below this fraction of the largest one are recorded as 0."""


class Diagnostics(StepCallback):
    """The callback that records weights, gradients, gates, memory and embedding of the network.

    It acts at initialisation, at the points of a schedule, and at the end of the run.
    `inspect.every` sets the schedule. If it is "auto", records have the schedule of the samples,
    but points are skipped while records take too much of the time; a run without samples uses the
    schedule of `samples.every` "auto". Without TensorBoard only the memory is recorded.
    """

    def __init__(self, directory: RunDirectory, config: Config, run_logger: RunLogger) -> None:
        self.directory = directory
        self.run_logger = run_logger
        self.config = config.inspect
        if run_logger.writer is None:
            self.config = replace(self.config, histograms=False, embeddings=False)
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
            self._record(trainer, module)  # not timed: this also imports the plotting library

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress = module.progress
        due = self.schedule.reached(progress)
        if progress.stop_reason or due and (self.config.every != "auto" or self.budget.available):
            with self.budget.timed():
                self._record(trainer, module)

    def _record(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        model, step = module.model, trainer.global_step
        if self.config.histograms:
            self._weights(model, step)
            self._gates(model, step)
        if self.config.images:
            self._memory(trainer, model, module.progress)
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

    def _memory(self, trainer: lightning.Trainer, model: LanguageModel, progress: Progress) -> None:
        """Record how far back the network looks, by two measures.

        The gradient through time is the gradient of the loss of a token with respect to earlier
        states. The memory horizon is the loss with contexts of growing length. The horizon is
        measured only for a stream, because items are read without the text before them.
        """
        distances, lengths = list[int](), torch.zeros(model.config.layers, 0)
        if len(self.stream) >= 3:
            ids = excerpts(self.stream.ids, GRADIENT_LANES, min(GRADIENT_TIME, len(self.stream)))
            distances, lengths = gradient_through_time(model, ids)
            lengths[lengths < NEGLIGIBLE * lengths.max()] = 0
        contexts, losses = list[int](), list[float]()
        if self.stream.starts is None:
            with trainer.precision_plugin.forward_context():  # in the precision of the validation
                contexts, losses = memory_horizon(model, self.stream.ids)
        if not (torch.isfinite(lengths).all() and np.isfinite(losses).all()):
            return
        step = trainer.global_step
        record = MemoryRecord(step, round(progress.epoch, 4), distances, lengths.tolist(), contexts, losses)
        self.directory.write_memory(record)
        if self.run_logger.writer is not None:
            when = f"epoch {progress.epoch:.3g}" if step else "initialisation"
            for tag, chart in memory_charts(record, when).items():
                self.run_logger.add_image(tag, image(chart), step)


def _device(model: LanguageModel) -> torch.device:
    return next(model.parameters()).device
