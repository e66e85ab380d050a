"""Watcher: whoever looks on while a run is prepared and trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.measure.evaluation import Evaluation
    from charlm.run import Run, Sample


class Watcher:
    """Takes note of nothing; a terminal, a notebook or a test overrides what it wants to see."""

    def say(self, line: str) -> None:
        """Something happened that a person wants to know, in one line (or a small table)."""

    def table(self, rows: list[tuple[str, str, int]]) -> None:
        """The network's parameters: name, shape and count of each layer."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` of some work before training: reading, encoding."""

    def trained(
        self, share: float, step: int, epoch: float, seconds: float, loss: float | None, speed: float | None
    ) -> None:
        """Training is at `step`, `share` of the run (0 to 1); now and then with loss (nats) and tokens a second."""

    def validated(self, step: int, epoch: float, evaluation: Evaluation, best: bool) -> None:
        """The validation text was read; `best` if it never went better."""

    def sampled(self, sample: Sample) -> None:
        """A sample was written."""

    def finished(self, run: Run) -> None:
        """Training has come to its end, and all of it is written."""

    def close(self) -> None:
        """Training is over, well or not."""
