"""A callback that interrupts a training in the middle of a step."""

from __future__ import annotations

import os
import signal
from typing import Any

import lightning


class StopAt(lightning.Callback):
    """Sends this process the signal `number` once, before optimiser step `step` is complete."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number, self.sent = step, number, False

    def on_train_batch_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
        if trainer.global_step + 1 == self.step and not self.sent:  # a second signal would end the process at once
            self.sent = True
            os.kill(os.getpid(), self.number)
