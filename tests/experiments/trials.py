"""What tests of races and sweeps share: settings of small trials, and how they are interrupted."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

from charlm.config import Config
from charlm.config.plain import merge
from charlm.experiments.race import RaceOptions, base_settings
from charlm.reporter import Reporter

SETTINGS: dict[str, Any] = {
    "data": {"batch_size": 4, "seq_length": 16},
    "model": {"layers": 1, "hidden": 12, "embedding": 6},
    "trainer": {"accelerator": "cpu", "precision": "32", "logger": "csv", "log_every_n_steps": 1},
    "samples": {"length": 20},
    "inspect": {"histograms": False, "embeddings": False},
}
TOKENS = 2_000  # 31 optimiser steps of 4 x 16 tokens
OPTIONS = RaceOptions(cells=("lstm", "rnn"), seeds=2, tokens=TOKENS, search=3)


class Dies(BaseException):
    """Stands for a process that is killed."""


class StopsAt(Reporter):
    """Interrupts a race at an optimiser step of a trial, once: by Ctrl-C, or as if the process were killed."""

    def __init__(self, trial: int, step: int, *, killed: bool) -> None:
        self.trial, self.step, self.killed, self.done = trial, step, killed, False
        self.number = 0

    def say(self, line: str) -> None:
        if found := re.match(r"trial (\d+) of", line):
            self.number = int(found[1])

    def on_step(self, fraction: float, step: int, *rest: Any) -> None:
        if (self.number, step) == (self.trial, self.step) and not self.done:
            self.done = True
            if self.killed:
                raise Dies
            os.kill(os.getpid(), signal.SIGINT)


def settings(text: Path, **groups: dict[str, Any]) -> Config:
    return Config.from_dict(base_settings(merge(merge(SETTINGS, {"data": {"text": [str(text)]}}), groups)))
