"""LanguageModule: the loss, the state carried from window to window, the optimiser's step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NoReturn

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from charlm.config import Config
from charlm.config.settings import seconds
from charlm.errors import CharlmError
from charlm.network.model import LanguageModel
from charlm.text.batching import IGNORED, Batch
from charlm.training.optimizers import Schedule, build_optimizer, clip_gradients

PATIENCE = 10
"""Steps in a row without a finite loss and gradient after which a run gives up."""

LARGE = 2**25
"""Scores (tokens x vocabulary) of one window above which they are never held all at once."""


class LanguageModule(lightning.LightningModule):
    """Next-token cross-entropy with truncated back-propagation through time.

    The state at the end of a window is the state at the start of the next, cut off from its past: gradients
    flow through one window, what is remembered flows on. The lanes of a batch that are `fresh` start from zero.

    Args:
        model: The network.
        config: The resolved settings of the run.
    """

    def __init__(self, model: LanguageModel, config: Config) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.schedule = Schedule(config.optimizer)
        self.state: Tensor | None = None
        self.losses: list[Tensor] = []  # of the windows since they were last logged
        self.norm: Tensor = torch.tensor(float("nan"))
        self.tokens = 0  # predicted so far by all processes
        self.bad_steps = 0  # in a row
        self.skipped = 0  # in all
        self.finished = False  # nothing is left to train
        self.paused = 0.0  # seconds between steps in this sitting: validation, samples, saving
        self._elapsed = 0.0
        self._since: float | None = None
        self._random: dict[str, Tensor] | None = None

    # -- the clock: training time over all sittings of a run

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, over all the sittings of the run."""
        return self._elapsed + (0.0 if self._since is None else time.monotonic() - self._since)

    @property
    def share(self) -> float:
        """How much of the run is over, from 0 to 1, by steps or by time, whichever is further."""
        total = self.total_steps
        by_steps = self.global_step / total if total else 0.0
        limit = seconds(self.config.trainer.max_time)
        by_time = self.elapsed / limit if limit else 0.0
        return min(1.0, max(by_steps, by_time))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch; gradients left over at its end make a step of their own."""
        return -(-int(self.trainer.num_training_batches) // self.config.trainer.accumulate_grad_batches)

    @property
    def total_steps(self) -> int | None:
        """Optimiser steps of the whole run, where epochs or steps bound it."""
        limits = []
        if self.config.trainer.max_epochs:
            limits.append(self.config.trainer.max_epochs * self.steps_per_epoch)
        if self.config.trainer.max_steps:
            limits.append(self.config.trainer.max_steps)
        return min(limits, default=None)

    # -- one step

    def configure_optimizers(self) -> Optimizer:
        assert self.config.optimizer.lr is not None
        return build_optimizer(self.model, self.config.optimizer, self.config.optimizer.lr)

    def on_train_start(self) -> None:
        self._since = time.monotonic()
        # What a checkpoint brought was read before the network went to its device.
        self.state = None if self.state is None else self.state.to(self.device)
        self.losses = [loss.to(self.device) for loss in self.losses]
        if self._random is not None:
            torch.set_rng_state(self._random["cpu"])
            if "cuda" in self._random and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._random["cuda"], self.device)
            self._random = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        optimizer = self.config.optimizer
        assert optimizer.lr is not None
        factor = self.schedule.factor(self.global_step, self.share, self.current_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = optimizer.lr * factor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        features, state = self.model.hidden(batch.inputs, batch.enter(self.state))
        self.state = state.detach()
        loss = self._summed_loss(features.flatten(0, 1), batch.targets.flatten()) / batch.share
        self.tokens += int(batch.share) * self.trainer.world_size
        self.losses.append(loss.detach())
        return loss

    def _summed_loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy summed over the tokens of a window, in nats; scores of large vocabularies in chunks."""
        fused = getattr(F, "linear_cross_entropy", None)
        if fused is not None and len(targets) * self.model.shape.vocabulary > LARGE:
            features, weight, bias = self.model.output_inputs(features)
            return fused(
                features.float(),
                weight,
                targets,
                linear_bias=bias,
                reduction="sum",
                ignore_index=IGNORED,
                options=torch.nn.LinearCrossEntropyOptions(),
            )
        logits = self.model.project(features)
        if logits.dtype != torch.float64:
            logits = logits.float()
        return F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORED)

    def optimizer_step(  # type: ignore[override]
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_closure: Any = None
    ) -> None:
        """Take a step only if the loss and every gradient are finite.

        A gradient set to zero would not do: momentum, weight decay and Adam's means would still move the
        weights. So the closure (forward and backward) runs first, and the step follows or does not.
        """
        optimizer_closure()
        trainer = self.config.trainer
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        raw = getattr(optimizer, "optimizer", optimizer)
        if scaler is not None:
            scaler.unscale_(raw)
        self.norm = clip_gradients(self.model.parameters(), trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        good = bool(torch.isfinite(self.norm + self.losses[-1]))
        if self.trainer.world_size > 1:
            good = self.trainer.strategy.reduce_boolean_decision(good, all=True)
        if good:
            if scaler is not None:
                scaler.step(raw)
            else:
                optimizer.step()
            self.bad_steps = 0
        else:
            self.state = None  # what the network remembers may be infinite as well
            # With fp16 a loss scale that is too high is found out this way, and is not an accident.
            self.bad_steps += scaler is None
            self.skipped += 1
        if scaler is not None:
            scaler.update()

    def drain_losses(self) -> list[float]:
        """The losses of the windows since the last call, in nats a token, over the lanes of all processes."""
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

    def give_up(self, run: Path) -> NoReturn:
        """End a run that cannot take a step any more with a CharlmError."""
        if self.trainer.global_rank:
            raise SystemExit(0)  # one process says it; the launcher would kill it if another ended with an error
        optimizer, trainer = self.config.optimizer, self.config.trainer
        raise CharlmError(
            f"the loss was not finite {PATIENCE} steps in a row (up to step {self.global_step}); {run} keeps the "
            f"weights of the last good step; try a lower --optimizer.lr (now {optimizer.lr:g}), a lower "
            f"--trainer.gradient_clip_val (now {trainer.gradient_clip_val:g}) or --trainer.precision 32, "
            f"in a new run with --init_from {run}"
        )

    # -- what a checkpoint holds besides weights, optimiser and position

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint["language"] = {
            "state": self._all_lanes(),
            "random": random,
            "elapsed": self.elapsed,
            "epochs": self.global_step / self.steps_per_epoch,
            "losses": self._common_losses(),
            "tokens": self.tokens,
            "skipped": self.skipped,
            "bad_steps": self.bad_steps,
            "schedule": self.schedule.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        language = checkpoint["language"]
        state = language["state"]
        if state is not None:
            # Every process reads back its own lanes.
            world, rank = self.trainer.world_size, self.trainer.global_rank
            lanes = state.shape[2] // world
            state = state[:, :, rank * lanes : (rank + 1) * lanes].contiguous()
        self.state = state
        self._random = language["random"]
        self._elapsed = language["elapsed"]
        self.losses = [torch.tensor(loss) for loss in language["losses"]]
        self.tokens, self.skipped, self.bad_steps = (
            language["tokens"],
            language["skipped"],
            language["bad_steps"],
        )
        self.schedule.load_state_dict(language["schedule"])

    def _all_lanes(self) -> Tensor | None:
        """The state of every process's lanes, (layers, slots, all lanes, hidden), on the CPU."""
        if self.state is None:
            return None
        state = self.state
        if self.trainer.world_size > 1:
            gathered = self.all_gather(state)  # (processes, layers, slots, lanes, hidden)
            state = torch.cat(list(gathered), dim=2)
        return state.cpu()
