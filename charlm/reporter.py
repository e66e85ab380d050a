"""The interface through which a run reports its preparation and its training to a terminal, a notebook or a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.evaluation.likelihood import Evaluation
    from charlm.run_directory import RunDirectory, Sample


class Reporter:
    """Receives what happens during a run; every method does nothing unless a subclass overrides it."""

    def say(self, line: str) -> None:
        """Receive a message of one line."""

    def parameter_table(self, rows: list[tuple[str, str, int]]) -> None:
        """Receive the parts of the network: the name, the shape and the number of parameters of each."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Receive the progress of the task `what` outside training: `done` of `total` units."""

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

        Args:
            fraction: The part of the run that is done, from 0 to 1.
            step: Optimiser steps done.
            epoch: Epochs done, with a fraction.
            seconds: Training time so far.
            loss: Mean training loss since the last logged step in nats per token; None between logged steps.
            tokens_per_second: Training speed since the last logged step; None between logged steps.
        """

    def on_validation(self, step: int, epoch: float, evaluation: Evaluation, best: bool) -> None:
        """Receive the result of a validation; `best` says whether its loss is the lowest so far."""

    def on_sample(self, sample: Sample) -> None:
        """Receive a sample that was just generated."""

    def on_end(self, directory: RunDirectory) -> None:
        """Receive the directory of a run whose training has ended or was interrupted; all its files are written."""

    def close(self) -> None:
        """Release resources such as a live display; called at the end, also after an error."""
