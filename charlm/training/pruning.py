"""A callback that ends a training early, used by a sweep to stop trials that are not promising."""

from __future__ import annotations

from collections.abc import Callable

import lightning

from charlm.training.callbacks import StepCallback
from charlm.training.module import LanguageModule


class EndWhen(StepCallback):
    """The callback that ends a training after the first step at which `asked` returns True.

    The run is saved and can be resumed to its end.

    Args:
        asked: A function without arguments that says whether to end the training. It is called
            after every step; if the step has a validation, after that validation.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.asked = asked

    def stepped(self, trainer: lightning.Trainer, module: LanguageModule) -> None:
        if self.asked():
            module.progress.stop_reason, trainer.should_stop = "asked", True
