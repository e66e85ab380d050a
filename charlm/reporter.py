"""`Reporter`: an interface for a terminal, a notebook or a test that follows a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.evaluation.likelihood import Evaluation
    from charlm.run_directory import RunDirectory, Sample


class Reporter:
    """A receiver of the progress of a run.

    Every method does nothing unless a subclass overrides it.
    """

    def say(self, line: str) -> None:
        """Receive a message of one line for the user."""

    def parameter_table(self, rows: list[tuple[str, str, int]]) -> None:
        """Receive the parts of the network: the name, the shape and the number of parameters of each."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Receive the progress of a task outside training, such as reading a text.

        Args:
            what: The task in words.
            done: How many units of it are done.
            total: How many units there are.
        """

    def on_step(
        self,
        fraction: float,
        step: int,
        epoch: float,
        seconds: float,
        loss: float | None,
        tokens_per_second: float | None,
    ) -> None:
        """Receive the state of the training after an optimiser step.

        This method is called at every logged step, and between them at most twice a second.

        Args:
            fraction: The part of the run that is done, from 0 to 1.
            step: Optimiser steps done.
            epoch: Epochs done, with a fraction.
            seconds: Training time so far, in seconds.
            loss: Mean training loss since the last logged step in nats per token; None between
                logged steps, and if no loss was finite.
            tokens_per_second: Training speed since the last logged step; None between logged steps.
        """

    def on_validation(self, step: int, epoch: float, evaluation: Evaluation, best: bool) -> None:
        """Receive the result of a validation.

        Args:
            step: Optimiser steps done.
            epoch: Epochs done, with a fraction.
            evaluation: The losses on the validation text.
            best: Whether the validation loss is the lowest so far.
        """

    def on_sample(self, sample: Sample) -> None:
        """Receive a sample that was just generated."""

    def on_end(self, directory: RunDirectory) -> None:
        """Receive the directory of a run whose training has ended or was interrupted by Ctrl-C.

        The weights and the checkpoint of the run are written by then.
        """

    def close(self) -> None:
        """Release resources such as a live display, at the end of a run, also after an error."""
