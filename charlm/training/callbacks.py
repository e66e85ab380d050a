"""What happens between two steps, in this order: validate, sample, look inside, report, save, stop.

Everything is done at the end of a step and nothing in the middle of one, so that a checkpoint always stands
between two steps with the validation and the samples of that step behind it. That is what makes a run that
was interrupted anywhere go on exactly.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import TorchCheckpointIO

from charlm.config.settings import settings
from charlm.errors import CharlmError, Interrupted
from charlm.files import atomic, link
from charlm.measure.evaluation import Evaluation, evaluate
from charlm.run import Run, save_config
from charlm.text.stream import TokenStream
from charlm.training.module import PATIENCE, LanguageModule
from charlm.training.record import Record
from charlm.watcher import Watcher

VALIDATION_TOKENS = 512
"""Fewest tokens of a lane in validation: the start of a lane is read without knowing what came before."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Checkpoints written whole or not at all, and read without executing code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        data = io.BytesIO()  # torch.save would hide why a file cannot be written
        torch.save(checkpoint, data)
        with atomic(path, "wb") as file:
            file.write(data.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> Any:
        return load_checkpoint(path)


def load_checkpoint(path: Any) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are accepted."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"state_dict", "global_step", "language"} - checkpoint.keys()
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        # What follows the first sentence of torch tells how to make it run the code in the file.
        line = str(error).strip().split(". ")[0].splitlines()[0] if str(error).strip() else type(error).__name__
        raise CharlmError(
            f"the checkpoint {path} is damaged ({line}); start a new run from the weights with --init_from"
        ) from None
    return checkpoint


class BetweenSteps(Callback):
    """Acts when a step is complete; a window whose gradients wait for more windows is in the middle of one."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, LanguageModule)
        self.started(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, LanguageModule)
        windows = int(trainer.num_training_batches)
        epoch_ends = batch_idx + 1 >= windows
        if epoch_ends or (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            began = time.monotonic()
            self.stepped(trainer, pl_module, trainer.current_epoch + (batch_idx + 1) / windows, epoch_ends)
            pl_module.paused += time.monotonic() - began

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        """Training begins or goes on."""

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, epoch_ends: bool) -> None:
        """A step is done: `epoch` epochs so far, with a fraction; `epoch_ends` if it was the last of one."""


class Limits(BetweenSteps):
    """Decides whether the run's last step is done."""

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, epoch_ends: bool) -> None:
        over = module.share >= 1.0
        if trainer.world_size > 1:
            over = trainer.strategy.reduce_boolean_decision(over, all=False)
        if over:
            module.finished = trainer.should_stop = True


class Validation(BetweenSteps):
    """Validates at the end of an epoch (or every N windows), keeps the best, stops when nothing is gained.

    The whole split is read, in a few long lanes with the state carried; `charlm evaluate` reads it in one.
    """

    def __init__(self, run: Run, record: Record | None, watcher: Watcher, stream: TokenStream | None) -> None:
        self.run = run
        self.record = record
        self.watcher = watcher
        self.stream = stream
        self.best: float | None = None
        self.best_epoch = 0.0
        self.stale = 0
        self.improved = False  # at this step
        self.best_bits = 0.0  # a character

    def state_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("best", "best_bits", "best_epoch", "stale")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for key, value in state_dict.items():
            setattr(self, key, value)

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, epoch_ends: bool) -> None:
        every = self.run.config.trainer.val_check_interval
        due = trainer.global_step % every == 0 if every else epoch_ends
        self.improved = False
        if not (due or module.finished):
            return
        if self.stream is None:
            self.improved = True  # without validation text the newest weights are the best known
            return
        result: Evaluation | None = self._evaluate(trainer, module) if trainer.global_rank == 0 else None
        if trainer.world_size > 1:
            result = trainer.strategy.broadcast(result)
        assert result is not None
        module.schedule.validated(result.loss)
        self.improved = self.best is None or result.loss < self.best
        if self.improved:
            self.best, self.best_bits, self.best_epoch = result.loss, result.bits_per_character, epoch
        self.stale = 0 if self.improved else self.stale + 1
        patience = self.run.config.checkpoint.patience
        if patience and self.stale >= patience and not module.finished:
            module.finished = trainer.should_stop = True
            self.watcher.say(
                f"stopping early: {patience} validations without gain since epoch {self.best_epoch:.3g} "
                "(--checkpoint.patience)"
            )
        if self.record is not None:
            values = {
                "val/loss": result.loss,
                "val/bits_per_character": result.bits_per_character,
                "val/perplexity": result.perplexity,
                "val/word_perplexity": result.word_perplexity,
            }
            self.record.add(trainer.global_step, epoch, module.elapsed, values)
            self.watcher.validated(trainer.global_step, epoch, result, self.improved)

    def _evaluate(self, trainer: lightning.Trainer, module: LanguageModule) -> Evaluation:
        assert self.stream is not None
        lanes = self.run.config.data.batch_size or 1
        if self.stream.starts is None:
            lanes = max(1, min(lanes, self.stream.predicted.tokens // VALIDATION_TOKENS))
        with trainer.precision_plugin.forward_context():
            return evaluate(module.model, self.stream, lanes=lanes)


class Saving(BetweenSteps):
    """Saves the run every so many steps or minutes, at the end of epochs, and when it is asked to stop.

    The first Ctrl-C (or SIGTERM) lets the step end, saves and leaves; the second leaves at once.
    """

    def __init__(self, run: Run, validation: Validation, watcher: Watcher) -> None:
        self.run = run
        self.validation = validation
        self.watcher = watcher
        self.signal: int | None = None
        self.saved_at = time.monotonic()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Heed Ctrl-C and SIGTERM, in the main thread, where alone they arrive."""
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
            self.watcher.close()
            os._exit(128 + number)
        self.signal = number

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._asked)  # Lightning has put its own handler in front
        self.saved_at = time.monotonic()
        if trainer.global_rank == 0:
            save_config(self.run.path, self.run.config)  # a run that goes on may have changed settings
        if trainer.global_step == 0:
            self._save(trainer, module)
        if self._any(trainer, self.signal is not None):
            raise Interrupted(self.signal or signal.SIGINT, self.run.path)

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, epoch_ends: bool) -> None:
        config = self.run.config.checkpoint
        due = module.finished or self.validation.improved or epoch_ends
        due = due or bool(config.every) and trainer.global_step % (config.every or 1) == 0
        timely = bool(config.minutes) and time.monotonic() - self.saved_at >= 60 * config.minutes
        asked = self._any(trainer, self.signal is not None)
        hopeless = module.bad_steps >= PATIENCE
        if hopeless:
            module.bad_steps = 0  # a run that goes on is patient again
        if due or asked or hopeless or self._any(trainer, timely):
            self._save(trainer, module)
        if hopeless:
            module.give_up(self.run.path)
        if asked and not module.finished:
            raise Interrupted(self.signal or signal.SIGINT, self.run.path)

    @staticmethod
    def _any(trainer: lightning.Trainer, decision: bool) -> bool:
        """Whether any process says so: each has a clock and a keyboard of its own."""
        if trainer.world_size > 1:
            decision = trainer.strategy.reduce_boolean_decision(decision, all=False)
        return decision

    def _save(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        """Write the weights, then the checkpoint: a run killed in between goes on before this step and repeats it."""
        # Until the first validation the newest weights are the best known.
        best = self.validation.improved or self.validation.best is None
        if trainer.global_rank == 0:
            weights = module.model.state_dict()
            for name in ("best", "last") if best else ("last",):
                self.run.save_weights(weights, name)
        folder = self.run.path / "checkpoints"
        trainer.save_checkpoint(folder / ("best.ckpt" if best else "last.ckpt"))
        if best and trainer.global_rank == 0:
            link(folder / "best.ckpt", folder / "last.ckpt")
        self.saved_at = time.monotonic()


class Report(BetweenSteps):
    """Logs the numbers of training now and then, and tells whoever is watching how far the run is."""

    def __init__(self, run: Run, record: Record | None, watcher: Watcher, validation: Validation) -> None:
        self.run = run
        self.record = record
        self.watcher = watcher
        self.validation = validation
        self._shown = self._logged = time.monotonic()
        self._tokens = 0
        self._paused = 0.0
        self._skipped = 0
        self._mark = (0.0, 0.0)  # seconds and epochs so far when the epoch, or this sitting, began
        predicted = run.stream("train").predicted
        self._tokens_per_character = predicted.tokens / max(1, predicted.characters)

    def started(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        self._shown = self._logged = time.monotonic()
        self._tokens, self._paused, self._skipped = module.tokens, module.paused, module.skipped
        self._mark = module.elapsed, module.global_step / module.steps_per_epoch

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, epoch_ends: bool) -> None:
        step = trainer.global_step
        if module.skipped > self._skipped:
            self._skipped = module.skipped
            self.watcher.say(f"step {step}: the loss or a gradient was not finite; the step was skipped")
        if epoch_ends and self.record is not None:
            seconds = (module.elapsed - self._mark[0]) / (epoch - self._mark[1])
            self.record.add(step, epoch, module.elapsed, {"train/seconds_per_epoch": seconds})
            self._mark = module.elapsed, epoch
        due = step % self.run.config.trainer.log_every_n_steps == 0 or module.finished
        now = time.monotonic()
        if due:
            self._log(trainer, module, epoch, now)
        elif now - self._shown > 0.5:
            self.watcher.trained(module.share, step, epoch, module.elapsed, None, None)
            self._shown = now

    def _log(self, trainer: lightning.Trainer, module: LanguageModule, epoch: float, now: float) -> None:
        losses = [loss for loss in module.drain_losses() if math.isfinite(loss)]
        training = (now - self._logged) - (module.paused - self._paused)
        speed = (module.tokens - self._tokens) / max(1e-9, training)
        self._tokens, self._paused, self._logged = module.tokens, module.paused, now
        values = {
            "train/learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "train/gradient_norm": float(module.norm),
            "train/tokens_per_second": speed,
            "train/skipped_steps": float(module.skipped),
        }
        loss = sum(losses) / len(losses) if losses else None
        if loss is not None:
            values["train/loss"] = loss
            values["train/bits_per_character"] = loss / math.log(2) * self._tokens_per_character
            values["train/perplexity"] = math.exp(loss) if loss < 700 else math.inf
        if self.record is not None:
            self.record.add(trainer.global_step, epoch, module.elapsed, values)
        self.watcher.trained(module.share, trainer.global_step, epoch, module.elapsed, loss, speed)
        self._shown = now

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        best = self.validation.best
        if best is not None and self.record is not None:
            results = {"val_bits_per_character": self.validation.best_bits, "val_loss": best}
            values = {setting.name: setting.value for setting in settings(self.run.config)}
            self.record.add_settings(values, results, trainer.global_step)
