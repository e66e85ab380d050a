"""The return to the last checkpoint when weights have diverged; no saved file holds such weights.

A step is skipped if its gradient is not finite. This does not protect the weights from a gradient
that is finite but far too large. Therefore the weights are checked before each validation and
before each save. The first time that they fail the check, they are replaced by those of the last
checkpoint; the second time, the run ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from torch import Tensor

from charlm.errors import CharlmError, Diverged
from charlm.network.model import LanguageModel
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.training.checkpoint import load_checkpoint
from charlm.training.module import LanguageModule
from charlm.training.processes import end_quietly


class Recovery:
    """The part of a training that replaces diverged weights by those of the last checkpoint.

    The optimiser returns to the checkpoint as well, and the learning rate is lowered. The recurrent
    state is set to zero; the position in the text, the step and the schedule are kept. If the
    training diverges a second time, it is ended. All processes of a run make the same decision.

    Args:
        directory: The run; its `last.ckpt` is finite, because weights are checked before each save.
        reporter: Receives a message about what happened.
    """

    def __init__(self, directory: RunDirectory, reporter: Reporter) -> None:
        self.directory = directory
        self.reporter = reporter

    def check(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        """Return to the last checkpoint if the weights have diverged.

        Weights count as diverged if one of them or a value of the optimiser is not finite, or if
        the loss of the newest batch is not below `module.HIGHEST_LOSS`.

        Raises:
            Diverged: the run has already returned to a checkpoint once.
        """
        with trainer.precision_plugin.forward_context():
            good = module.predicts_finite() and _is_finite(module.model.state_dict())
        good = good and all(_is_finite(optimizer.state_dict()) for optimizer in trainer.optimizers)
        if trainer.world_size > 1:
            good = trainer.strategy.reduce_boolean_decision(good, all=True)
        if not good:
            self.roll_back(trainer, module, "the weights are not finite, or too large for a finite loss")

    def roll_back(self, trainer: lightning.Trainer, module: LanguageModule, reason: str) -> None:
        """Return to the last checkpoint with a lower learning rate.

        Args:
            trainer, module: The training.
            reason: What went wrong: a clause without a full stop.

        Raises:
            Diverged: the run has already returned to a checkpoint once.
        """
        progress = module.progress
        if progress.rollbacks:
            self._give_up(trainer, module, reason)
        saved = load_checkpoint(self.directory.path / "checkpoints" / "last.ckpt")
        module.load_state_dict(saved["state_dict"])
        trainer.strategy.load_optimizer_state_dict(saved)
        module.state = None  # the state was computed by diverged weights
        progress.rollbacks, progress.rolled_back, progress.bad_steps = 1, True, 0
        self.reporter.say(
            f"step {progress.step}: {reason}; weights and optimiser return to those of step {saved['global_step']}, "
            f"and the learning rate is multiplied by {progress.learning_rate_factor:g} from here on"
        )

    def _give_up(self, trainer: lightning.Trainer, module: LanguageModule, reason: str) -> None:
        """End the training: raise Diverged in the first process, end the others silently."""
        if trainer.global_rank:
            end_quietly()
        optimizer, settings, run = module.optimizer_config, module.trainer_config, self.directory.path
        raise Diverged(
            f"step {module.progress.step}: {reason}, although the run had returned to its last good weights and "
            f"lowered the learning rate; {run} keeps its last good weights; in a new run, try a lower `optimizer.lr` "
            f"(now {optimizer.lr:g}), `optimizer.weight_decay` (now {optimizer.weight_decay:g}) or "
            f"`trainer.gradient_clip_val` (now {settings.gradient_clip_val:g}; 0 is no clipping), or "
            f"`trainer.precision` 32"
        )


def check_initial_weights(model: LanguageModel) -> None:
    """Raise CharlmError if a weight is not finite before the first step."""
    bad = [name for name, weight in model.state_dict().items() if not _is_finite(weight)]
    if bad:
        raise CharlmError(
            f"the initial weights are not finite ({', '.join(bad[:3])}); lower `model.gate_scale`, "
            "`model.recurrent_scale` or `model.forget_bias`, or choose another `init_from`"
        )


def _is_finite(value: Any) -> bool:
    """Return whether all tensors in nested dictionaries and lists are finite.

    Other values are ignored.
    """
    return all(bool(torch.isfinite(one).all()) for one in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def finite(values: dict[str, float]) -> dict[str, float]:
    """Return only the finite numbers of a dictionary, because only these are logged."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
