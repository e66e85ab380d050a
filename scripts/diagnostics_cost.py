"""The fraction of a training's time that logging, diagnostics and samples take.

    python scripts/diagnostics_cost.py ../shared/data/tinyshakespeare/input.txt --time 5m
    python scripts/diagnostics_cost.py text.txt --time 5m model.cell=rnn samples.scored=0

Trains with the defaults for a time and adds up the seconds of each part, including what it prepares before the first
step. The goals for five minutes: (a) scalars, histograms, images and embeddings take less than 3 %, (b) samples with
their text metrics less than 10 %. The machine should be otherwise idle.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import charlm
from charlm.config.plain import merge, nest
from charlm.training.callbacks import ProgressLogging, StepCallback
from charlm.training.diagnostics import Diagnostics
from charlm.training.sample_logger import SampleLogger

PARTS: dict[str, list[type[StepCallback]]] = {
    "(a) scalars, histograms, images, embeddings": [ProgressLogging, Diagnostics],
    "(b) samples and their text metrics": [SampleLogger],
}


class Stopwatch:
    """Adds up the seconds that methods of classes take, and counts the calls of more than 20 ms."""

    def __init__(self) -> None:
        self.seconds: defaultdict[type, float] = defaultdict(float)
        self.calls: Counter[type] = Counter()

    def time(self, cls: type, name: str) -> None:
        """Time a method from now on."""
        method: Callable[..., Any] = getattr(cls, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                took = time.perf_counter() - began
                self.seconds[cls] += took
                self.calls[cls] += took > 0.02

        setattr(cls, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="what to learn")
    parser.add_argument("settings", nargs="*", help="other settings, as model.cell=rnn")
    parser.add_argument("--time", default="5m", help="how long to train (default: 5m)")
    arguments = parser.parse_intermixed_args()
    stopwatch = Stopwatch()
    for cls in [cls for part in PARTS.values() for cls in part]:
        for name in ("started", "stepped"):
            stopwatch.time(cls, name)
    given = nest(dict(setting.split("=", 1) for setting in arguments.settings))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        settings = merge({"trainer": {"max_time": arguments.time}}, given)
        run = charlm.train(arguments.text, run=Path(folder) / "run", **settings)
        whole = time.perf_counter() - began
        points = len({sample.step for sample in run.samples})
        model = run.config.model
        print(f"{model.layers} x {model.hidden} {model.cell}, {whole:.0f} s, samples after {points} steps")
    for part, classes in PARTS.items():
        seconds = sum(stopwatch.seconds[cls] for cls in classes)
        print(f"{part}: {seconds:.1f} s, {seconds / whole:.1%}")
        for cls in classes:
            print(f"    {cls.__name__}: {stopwatch.seconds[cls]:.2f} s, {stopwatch.calls[cls]} times over 20 ms")


if __name__ == "__main__":
    main()
