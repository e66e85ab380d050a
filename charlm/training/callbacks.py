"""Callbacks that act after each optimiser step; `trainer.step_callbacks` lists them in order.

Apart from the checkpoint of the initial weights, a checkpoint is saved only after a complete
optimiser step, when the validation and the samples of this step are done. Therefore a resumed run
counts nothing twice and skips nothing, wherever it was interrupted.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import lightning
from lightning.pytorch import Callback

from charlm.config import CheckpointConfig, Config, TrainerConfig
from charlm.errors import CharlmError, Interrupted
from charlm.evaluation.likelihood import Evaluation, evaluate_lanes
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.text.stream import TokenStream
from charlm.training.module import PATIENCE, LanguageModule, is_finite_loss
from charlm.training.progress import Progress
from charlm.training.recovery import Recovery, finite
from charlm.training.run_logger import RunLogger
from charlm.training.validation_points import ValidationPoints, beginning, halved

VALIDATION_TOKENS = 512
"""Smallest length in tokens of a lane in validation; a shorter validation text is one lane.

The first tokens of each lane are predicted without the text before them, so short lanes
would raise the loss. A text of items is not read in lanes.
"""


class StepCallback(Callback):
    """A Lightning callback that acts when an optimiser step is complete.

    A subclass overrides `started`, `stepped` or both. The counters in `module.progress` tell these
    methods how far the training is.
    """

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModule)
        self.started(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, LanguageModule)
        if pl_module.progress.step_ended:
            began = time.monotonic()
            self.stepped(trainer, pl_module)
            pl_module.progress.paused += time.monotonic() - began

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        """Act when training begins or resumes; a subclass may override this method."""

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        """Act when an optimiser step is complete; a subclass may override this method."""


class StoppingCriteria(StepCallback):
    """The callback that ends the run when it has reached a limit of epochs, steps or time.

    `Validation` ends a run whose validation loss has stopped improving.
    """

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress = module.progress
        progress.batches_per_epoch = int(trainer.num_training_batches)
        progress.accumulate = trainer.accumulate_grad_batches

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress = module.progress
        reached = progress.limit_reached()
        if trainer.world_size > 1:  # each process has its own clock
            reached = trainer.strategy.broadcast(reached)
        if reached:
            progress.stop_reason, trainer.should_stop = reached, True


class Validation(StepCallback):
    """The callback that validates, and ends the run when the validation loss has stopped improving.

    A validation text that is one stream is read in a few long lanes, and the state of each lane is
    carried from window to window. Every validation of a run reads the same part of the text:

    - if `limit_val_batches` is a number, about this fraction of the text, from its beginning;
    - otherwise, if `val_check_interval` is a number, all of the text;
    - otherwise (both are "auto"), as much from its beginning as can be read in about 3 % of the
      time of the run.

    The function `beginning` says where exactly the text is cut.

    Args:
        trainer: Settings, of which `val_check_interval` says how often to validate, and
            `limit_val_batches` how much to read.
        checkpoint: Settings, of which `patience` says when to stop early.
        batch_size: Largest number of lanes; a short stream is read in fewer.
        stream: The validation text; None if the run has none. Without a validation text, the newest
            weights count as the best.
        run_logger: Logs the results; None in all processes but the first.
        reporter: Receives the results and messages.
        recovery: Checks the weights before each validation.
    """

    def __init__(
        self,
        trainer: TrainerConfig,
        checkpoint: CheckpointConfig,
        batch_size: int,
        stream: TokenStream | None,
        run_logger: RunLogger | None,
        reporter: Reporter,
        recovery: Recovery,
    ) -> None:
        self.interval, self.limit = trainer.val_check_interval, trainer.limit_val_batches
        self.reads_all = self.interval != "auto" and self.limit == "auto"
        self.patience = checkpoint.patience
        self.batch_size = batch_size
        self.stream = stream
        self.run_logger = run_logger
        self.reporter = reporter
        self.points = ValidationPoints()
        self.recovery = recovery

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        self.points.start(module.progress)
        if isinstance(self.interval, int) and self.interval > module.progress.batches_per_epoch:
            raise CharlmError(
                f"`trainer.val_check_interval` {self.interval} is more than the {module.progress.batches_per_epoch} "
                "batches of an epoch; take fewer, or a fraction such as 1.0"
            )

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress = module.progress
        due = self._due(trainer, progress)
        if not (due or progress.stop_reason):
            return
        if self.stream is None:
            progress.improved = True
            return
        self.recovery.check(trainer, module)
        stream = self._part(progress, self.stream)
        result: Evaluation | None = self.evaluate(trainer, module, stream) if trainer.global_rank == 0 else None
        if trainer.world_size > 1:
            result = trainer.strategy.broadcast(result)
        assert result is not None
        if not is_finite_loss(result.loss):
            self.recovery.roll_back(trainer, module, "the validation loss is not finite")
            return
        module.schedule.observe(result.loss)
        progress.validated(result.loss, result.bits_per_character)
        if progress.stale_validations >= progress.limits.patience and not progress.stop_reason:
            progress.stop_reason, trainer.should_stop = "patience", True
            self.reporter.say(
                f"stopping early: {self.patience} validations without improvement since epoch "
                f"{progress.best_epoch:.3g} (`checkpoint.patience`)"
            )
        if self.run_logger is not None:
            values = {
                "val/loss": result.loss,
                "val/bits_per_character": result.bits_per_character,
                "val/perplexity": result.perplexity,
                "val/word_perplexity": result.word_perplexity,
                "val/tokens": result.predicted.tokens,
                "val/stale_validations": progress.stale_validations,
            }
            self.run_logger.add(progress, finite(values))
            self.reporter.on_validation(progress.step, progress.epoch, result, progress.improved)

    def _due(self, trainer: lightning.Trainer, progress: Progress) -> bool:
        if self.interval == "auto":
            reached = self.points.reached(progress)
            return bool(trainer.strategy.broadcast(reached)) if trainer.world_size > 1 else reached
        interval = self.interval
        if isinstance(interval, float):
            interval = max(1, int(progress.batches_per_epoch * interval))
        return progress.passed(interval)

    def _part(self, progress: Progress, stream: TokenStream) -> TokenStream:
        """Return the part of the validation text that every validation of this run reads.

        If `limit_val_batches` and `val_check_interval` are both "auto", the part is chosen at the
        first validation.
        """
        if self.limit != "auto":
            progress.validation_tokens = max(2, round(self.limit * len(stream)))
        elif self.reads_all:
            return stream
        elif not progress.validation_tokens:
            progress.validation_tokens = halved(len(stream), self.points.tokens(progress))
            part = beginning(stream, progress.validation_tokens)
            if part is not stream:
                self.reporter.say(
                    f"validation reads the first {len(part):,} of the {len(stream):,} tokens of the validation text, "
                    "so that it takes about 3 % of the time; `trainer.val_check_interval` 1.0 reads all of them after "
                    "each epoch"
                )
        return beginning(stream, progress.validation_tokens)

    def evaluate(self, trainer: lightning.Trainer, module: LanguageModule, stream: TokenStream) -> Evaluation:
        """Compute how well the network predicts a text with its current weights."""
        lanes = self.batch_size
        if stream.starts is None:
            lanes = max(1, min(lanes, stream.predicted.tokens // VALIDATION_TOKENS))
        with trainer.precision_plugin.forward_context():
            return evaluate_lanes(module.model, stream, lanes=lanes)


class ProgressLogging(StepCallback):
    """The callback that logs loss, learning rate and speed, and reports how far the run is.

    Args:
        every: Optimiser steps between two logged rows of numbers.
        tokens_per_character: Tokens per character of the training text, for bits per character.
        run_logger: Logs the numbers; None in all processes but the first.
        reporter: Receives messages and the progress of the run.
    """

    def __init__(
        self, every: int, tokens_per_character: float, run_logger: RunLogger | None, reporter: Reporter
    ) -> None:
        self.every = every
        self.tokens_per_character = tokens_per_character
        self.run_logger = run_logger
        self.reporter = reporter
        self._shown = self._logged = time.monotonic()
        self._tokens = 0
        self._paused = 0.0
        self._skipped = 0
        self._epoch_start = (0.0, 0.0)  # seconds and epochs so far when the epoch, or this process, began

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress = module.progress
        self._shown = self._logged = time.monotonic()
        self._tokens, self._paused, self._skipped = progress.tokens, progress.paused, progress.skipped_steps
        self._epoch_start = progress.elapsed, progress.epoch

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress = module.progress
        if progress.skipped_steps > self._skipped:
            self._skipped = progress.skipped_steps
            self.reporter.say(f"step {progress.step}: the loss or a gradient was not finite; the step was skipped")
        if progress.epoch_ended and self.run_logger is not None:
            seconds = (progress.elapsed - self._epoch_start[0]) / (progress.epoch - self._epoch_start[1])
            self.run_logger.add(progress, {"train/seconds_per_epoch": seconds})
            self._epoch_start = progress.elapsed, progress.epoch
        now = time.monotonic()
        if progress.step % self.every == 0 or progress.stop_reason:
            self._log(trainer, module, now)
        elif now - self._shown > 0.5:
            self.reporter.on_step(progress.fraction, progress.step, progress.epoch, progress.elapsed, None, None)
            self._shown = now

    def _log(self, trainer: lightning.Trainer, module: LanguageModule, now: float) -> None:
        progress = module.progress
        losses = [loss for loss in module.take_losses() if math.isfinite(loss)]
        training = (now - self._logged) - (progress.paused - self._paused)
        speed = (progress.tokens - self._tokens) / max(1e-9, training)
        self._tokens, self._paused, self._logged = progress.tokens, progress.paused, now
        values = {
            "train/learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "train/gradient_norm": float(module.norm),
            "train/tokens_per_second": speed,
            "train/skipped_steps": float(progress.skipped_steps),
        }
        loss = sum(losses) / len(losses) if losses else None
        if loss is not None:
            values["train/loss"] = loss
            values["train/bits_per_character"] = loss / math.log(2) * self.tokens_per_character
            values["train/perplexity"] = math.exp(loss) if loss < 700 else math.inf
        if self.run_logger is not None:
            self.run_logger.add(progress, finite(values))
        self.reporter.on_step(progress.fraction, progress.step, progress.epoch, progress.elapsed, loss, speed)
        self._shown = now

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._add_results(pl_module)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, Interrupted):  # log its results as well
            self._add_results(pl_module)

    def _add_results(self, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModule)
        progress = pl_module.progress
        if progress.best_loss is not None and self.run_logger is not None:
            best = {"val_bits_per_character": progress.best_bits_per_character, "val_loss": progress.best_loss}
            self.run_logger.add_results(best, progress.step)


class Checkpointing(StepCallback):
    """The callback that saves checkpoints, and stops the run on Ctrl-C or SIGTERM.

    A checkpoint is saved at the start and the end of a run, at the end of each epoch, at the
    intervals `checkpoint.every` and `checkpoint.minutes`, after a validation with the best loss so
    far, and after diverged weights were replaced by those of the last checkpoint. On Ctrl-C or
    SIGTERM, the step is finished, a checkpoint is saved and `Interrupted` is raised; a second
    signal ends the process at once.
    """

    def __init__(self, directory: RunDirectory, config: Config, reporter: Reporter, recovery: Recovery) -> None:
        self.directory = directory
        self.config = config
        self.reporter = reporter
        self.recovery = recovery
        self.signal: int | None = None
        self.training = False  # True once training begins; a checkpoint is restored by then
        self.saved_at = time.monotonic()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle Ctrl-C and SIGTERM within the block.

        In a thread other than the main one, do nothing, because only the main thread can set
        handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            self.reporter.close()
            os._exit(128 + number)
        self.signal = number

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._asked)  # Lightning has set its own handler
        self.saved_at = time.monotonic()
        self.training = True
        if trainer.global_rank == 0:
            self.directory.write_config(self.config)  # a resumed run may have changed settings
        if trainer.global_step == 0:
            self._save(trainer, module)
        if self._any(trainer, self.signal is not None):
            raise Interrupted(self.signal or signal.SIGINT, self.directory.path)

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        progress, checkpoint = module.progress, self.config.checkpoint
        due = bool(progress.stop_reason) or progress.improved or progress.epoch_ended
        due = due or checkpoint.every > 0 and progress.step % checkpoint.every == 0
        timely = checkpoint.minutes > 0 and time.monotonic() - self.saved_at >= 60 * checkpoint.minutes
        asked = self._any(trainer, self.signal is not None)
        due = self._any(trainer, timely) or due or asked
        if progress.bad_steps >= PATIENCE:
            self.recovery.roll_back(trainer, module, f"the loss was not finite {PATIENCE} steps in a row")
        elif due:
            self.recovery.check(trainer, module)
        if due or progress.rolled_back:
            self._save(trainer, module)
        if asked and not progress.stop_reason:
            raise Interrupted(self.signal or signal.SIGINT, self.directory.path)

    @staticmethod
    def _any(trainer: lightning.Trainer, decision: bool) -> bool:
        """Return whether `decision` is true in at least one process of the training.

        Processes may decide differently, because their clocks differ and a signal may reach only
        one.
        """
        if trainer.world_size > 1:
            decision = trainer.strategy.reduce_boolean_decision(decision, all=False)
        return decision

    def _save(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        """Save the weights first and the checkpoint second.

        A run that is killed in between resumes from the previous checkpoint.
        """
        # Until the first validation the newest weights are the best known.
        best = module.progress.improved or module.progress.best_loss is None
        if trainer.global_rank == 0:
            weights = module.model.state_dict()
            if best:
                self.directory.write_weights(weights, "best")
            self.directory.write_weights(weights, "last")
        folder = self.directory.path / "checkpoints"
        trainer.save_checkpoint(folder / ("best.ckpt" if best else "last.ckpt"))
        if best and trainer.global_rank == 0:
            self.directory.manifest.link("checkpoints/best.ckpt", "checkpoints/last.ckpt")
        self.saved_at = time.monotonic()
