"""The Lightning module of a training: loss, state carried from window to window, optimiser step."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.optim import Optimizer

from charlm.config import OptimizerConfig, TrainerConfig
from charlm.evaluation.likelihood import total_nats
from charlm.network.loss import summed_cross_entropy
from charlm.network.model import LanguageModel
from charlm.text.batching import Batch
from charlm.training.checkpoint import OURS
from charlm.training.optimizers import build_optimizer, clip_gradients
from charlm.training.progress import Progress
from charlm.training.schedule import Schedule

PATIENCE = 10
"""Value of `Progress.bad_steps` at which a run returns to its last checkpoint.

This counter is the number of steps that were skipped in a row.
"""

HIGHEST_LOSS = 700.0
"""Loss in nats per token from which on weights count as diverged; they are not saved.

The perplexity exp(loss) exceeds the range of float64 from 709.8 on.
"""


def is_finite_loss(loss: float) -> bool:
    """Whether a loss in nats per token is below `HIGHEST_LOSS`, so its perplexity is finite."""
    return loss < HIGHEST_LOSS  # false for nan


class LanguageModule(lightning.LightningModule):
    """The Lightning module that trains a network by truncated back-propagation through time.

    The loss is the cross-entropy of the next token. The final state of a window, detached, is the
    initial state of the next one, so gradients stop at the start of a window. Lanes for which the
    batch sets `reset_mask` start from the zero state.

    Args:
        model: The network.
        optimizer: Settings of the optimiser and the learning rate.
        trainer: Settings of the training, of which only gradient clipping is used here.
        progress: The counters of the training; the module keeps them up to date.
    """

    def __init__(
        self, model: LanguageModel, optimizer: OptimizerConfig, trainer: TrainerConfig, progress: Progress
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer_config = optimizer
        self.trainer_config = trainer
        self.progress = progress
        self.schedule = Schedule(optimizer)
        self.state: Tensor | None = None
        self.losses: list[Tensor] = []  # one per window since the last `take_losses`
        self.norm: Tensor = torch.tensor(float("nan"))
        self._batch: Batch | None = None  # the newest
        self._random: dict[str, Tensor] | None = None

    # -- one step

    def configure_optimizers(self) -> Optimizer:
        return build_optimizer(self.model, self.optimizer_config)

    def on_train_start(self) -> None:
        self.progress.start_clock()
        # Lightning treats a run resumed at the end of an epoch as if it were in the middle of one.
        # Without the reset it would not count the next epoch, and a checkpoint of that epoch would
        # resume at its first batch.
        epochs = self.trainer.fit_loop.epoch_progress.total
        if epochs.completed == epochs.ready:
            self.trainer.fit_loop.reset_restart_stage()
        # A checkpoint is loaded before the network moves to its device.
        self.state = None if self.state is None else self.state.to(self.device)
        self.losses = [loss.to(self.device) for loss in self.losses]
        if self._random is not None:
            rank = self.trainer.global_rank
            torch.set_rng_state(self._random["cpu"][rank].clone())  # torch crashes on a view
            if "cuda" in self._random and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._random["cuda"][rank].clone(), self.device)
            self._random = None
        elif self.trainer.global_rank:  # weights are the same in all processes, dropout must differ
            torch.manual_seed(torch.initial_seed() + self.trainer.global_rank)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        factor = self.schedule.factor(self.global_step, self.progress.fraction, self.current_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.optimizer_config.lr * factor * self.progress.learning_rate_factor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features, state = self.model.hidden(batch.inputs, batch.enter(self.state))
        self.state, self._batch = state.detach(), batch
        nats = summed_cross_entropy(self.model, features.flatten(0, 1), batch.targets.flatten())
        loss = nats / batch.targets_per_process
        progress = self.progress
        progress.tokens += int(batch.targets_per_process * self.trainer.world_size)
        progress.batch, progress.improved, progress.rolled_back = batch_idx + 1, False, False
        progress.epoch = self.current_epoch + progress.batch / progress.batches_per_epoch
        self.losses.append(loss.detach())
        return loss

    def optimizer_step(  # type: ignore[override]
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Any = None
    ) -> None:
        """Take a step only if the newest loss, all gradients and the newest state are finite.

        Otherwise the step is skipped, and the next window starts from the zero state. If a training
        has several processes, all of them skip the step. Setting the gradients to zero instead
        would not be enough: momentum, weight decay and Adam's running means would still change the
        weights. Therefore the closure (forward and backward pass) runs first, and its results are
        checked before the step.
        """
        optimizer_closure()
        trainer, progress = self.trainer_config, self.progress
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        raw = getattr(optimizer, "optimizer", optimizer)
        if scaler is not None:
            scaler.unscale_(raw)
        self.norm = clip_gradients(self.model.parameters(), trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        assert self.state is not None
        good = bool(torch.isfinite(self.norm + self.losses[-1] + self.state.abs().amax()))
        if self.trainer.world_size > 1:
            good = self.trainer.strategy.reduce_boolean_decision(good, all=True)
        if good:
            if scaler is not None:
                scaler.step(raw)
            else:
                optimizer.step()
            progress.bad_steps = 0
        else:
            self.state = None
            # With fp16, the loss scaler lowers its scale after such a step: no sign of divergence.
            progress.bad_steps += scaler is None
            progress.skipped_steps += 1
        if scaler is not None:
            scaler.update()
        progress.step = self.global_step + 1  # Lightning counts a skipped step too, as soon as this returns

    def take_losses(self) -> list[float]:
        """Return the training losses since the last call, in nats per token, and forget them.

        There is one loss for each window: the mean over all processes.
        """
        losses = self._common_losses()
        self.losses = []
        return losses

    def _common_losses(self) -> list[float]:
        if not self.losses:
            return []
        losses = torch.stack(self.losses)
        if self.trainer.world_size > 1:
            losses = self.trainer.strategy.reduce(losses, reduce_op="mean")
        return losses.tolist()

    def predicts_finite(self) -> bool:
        """Return whether the network has a finite loss on the newest batch.

        Before the first batch, the result is True.
        """
        batch = self._batch
        return batch is None or is_finite_loss(total_nats(self.model, [batch]) / batch.targets_per_process)

    # -- what a checkpoint holds besides weights, optimiser and position

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        random = {"cpu": self._of_all_processes(torch.get_rng_state())}
        if self.device.type == "cuda":
            random["cuda"] = self._of_all_processes(torch.cuda.get_rng_state(self.device))
        checkpoint[OURS] = {
            "processes": self.trainer.world_size,
            "progress": self.progress.state_dict(),
            "state": self._all_lanes(),
            "random": random,
            "losses": [loss for loss in self._common_losses() if math.isfinite(loss)],
            "schedule": self.schedule.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        ours = checkpoint[OURS]
        state = ours["state"]
        if state is not None:
            # Every process reads back its own lanes.
            world, rank = self.trainer.world_size, self.trainer.global_rank
            lanes = state.shape[2] // world
            state = state[:, :, rank * lanes : (rank + 1) * lanes].contiguous()
        self.state = state
        self._random = ours["random"]
        self.losses = [torch.tensor(loss) for loss in ours["losses"]]
        self.progress.load_state_dict(ours["progress"])
        self.schedule.load_state_dict(ours["schedule"])

    def _all_lanes(self) -> Tensor | None:
        """Return the state of the lanes of all processes, on the CPU; None if there is no state.

        The shape is (layers, states, all lanes, hidden).
        """
        if self.state is None:
            return None
        return torch.cat(list(self._of_all_processes(self.state)), dim=2)

    def _of_all_processes(self, value: Tensor) -> Tensor:
        """Gather a tensor from every process into one tensor, (processes, ...), on the CPU."""
        if self.trainer.world_size == 1:
            return value[None].cpu()
        gathered = self.all_gather(value.to(self.device))
        assert isinstance(gathered, Tensor)
        return gathered.cpu()
