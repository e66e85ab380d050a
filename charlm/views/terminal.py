"""The terminal: a live view at the bottom while training, plain lines when piped.

Everything goes to standard error; standard output carries only what was asked for.
"""

from __future__ import annotations

import inspect
import math
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from charlm.config.settings import duration
from charlm.network.cells import Cell, formula, parameters, way
from charlm.views.reel import print_sample, visible
from charlm.watcher import Watcher

if TYPE_CHECKING:
    from charlm.measure.evaluation import Evaluation
    from charlm.run import Run, Sample

BAR = 16
"""Columns of the bar."""

SPARKS = "▁▂▃▄▅▆▇█"
SPARKLINE = 24
"""Columns of a sparkline."""

HISTORY = 1024
"""Losses that a sparkline is drawn from; of longer runs it holds means."""

PLAIN_EVERY = 10.0
"""Seconds between two lines of progress when nobody can see a bar."""

REFRESH = 0.1
"""Seconds between two pictures of the live view."""


class Terminal(Watcher):
    """Shows a run on standard error: a live view on a terminal, a line an event when piped or on a dumb terminal.

    Lines, validations and samples scroll by; below them stay how far the run is and where its losses went.

    Args:
        console: Where to write; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.live = self.console.file.isatty() and not self.console.is_dumb_terminal
        self._view: Live | None = None
        self._work = ""
        self._told = time.monotonic()
        self._drawn = -math.inf
        self._losses = History()
        self._speed: float | None = None
        self._bits: list[float] = []
        self._best: tuple[float, float] | None = None  # bits a character, epoch
        self._validation = ""
        self._sampled: int | None = None

    def say(self, line: str) -> None:
        style = "yellow" if line.startswith("warning") else ""
        self.console.print(Text(visible(line), style=style))

    def table(self, rows: list[tuple[str, str, int]]) -> None:
        table = Table(box=None, pad_edge=False, show_footer=True)
        table.add_column("layer", footer="parameters")
        table.add_column("shape")
        table.add_column("count", justify="right", footer=f"{sum(row[2] for row in rows):,}")
        for name, shape, count in rows:
            table.add_row(Text(name), Text(shape), f"{count:,}")
        self.console.print(table)

    def progress(self, what: str, done: int, total: int) -> None:
        share = done / max(1, total)
        if not self.live:
            if done < total and self._due():
                self.say(f"{what}: {share:.0%}")
            return
        if what != self._work:
            self.close()
            self._work = what
        self._show([self._bar(share, what)])
        if done >= total:
            self.close()

    def trained(
        self, share: float, step: int, epoch: float, seconds: float, loss: float | None, speed: float | None
    ) -> None:
        if loss is not None:
            self._losses.add(loss)
        self._speed = speed if speed is not None else self._speed
        left = seconds * (1 - share) / share if share > 0 else math.nan
        where = [f"epoch {epoch:.2f}", "" if math.isnan(left) else f"{duration(left)} left"]
        effort = [f"step {step:,}", "" if self._speed is None else f"{_short(self._speed)} tokens/s"]
        if self.live:
            self._show([self._bar(share, *where, *effort), self._course()])
        elif self._due():
            loss_said = "" if self._losses.last is None else f"loss {self._losses.last:.3f}"
            self.say("  ".join(filter(None, [*where, loss_said, self._validation, *effort])))

    def validated(self, step: int, epoch: float, evaluation: Evaluation, best: bool) -> None:
        self._validation = f"val {evaluation.loss:.3f}"
        self._bits.append(evaluation.bits_per_character)
        if best:
            self._best = evaluation.bits_per_character, epoch
        mark = " (best so far)" if best else ""
        self.say(
            f"epoch {epoch:.3g}: validation {evaluation.loss:.4f} nats a token, "
            f"{evaluation.bits_per_character:.4f} bits a character, "
            f"perplexity {evaluation.perplexity:.4g}{mark}"
        )

    def sampled(self, sample: Sample) -> None:
        print_sample(self.console, sample, scores=sample.step != self._sampled)
        self._sampled = sample.step

    def finished(self, run: Run) -> None:
        from charlm.views.summary import Summary

        self.close()
        judged = Summary(run).verdict
        self.console.print(Text("── verdict ──", style="bold"))
        for line in (*judged.sentences, judged.advice):
            self.console.print(Text(visible(line)), soft_wrap=not self.live)
        self.console.print(Text(f"  {visible(judged.command)}", style="bold"))

    def close(self) -> None:
        if self._view is not None:
            self._view.stop()
            self._view = None

    def _due(self) -> bool:
        """Whether it is time for another plain line of progress."""
        if time.monotonic() - self._told <= PLAIN_EVERY:
            return False
        self._told = time.monotonic()
        return True

    # -- the live view

    def _show(self, lines: Sequence[RenderableType]) -> None:
        if self._view is None:
            self._view = Live(console=self.console, transient=True, auto_refresh=False, vertical_overflow="crop")
            self._view.start()
            self._drawn = -math.inf
        if time.monotonic() - self._drawn >= REFRESH:
            self._drawn = time.monotonic()
            self._view.update(Group(*lines), refresh=True)

    def _bar(self, share: float, *parts: str) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        bar = max(4, min(BAR, self.console.width // 5))
        text = self._fitting(parts, self.console.width - bar - 7)
        grid.add_row(ProgressBar(1.0, share, width=bar), f"{share:4.0%}", Text(text, no_wrap=True, overflow="ellipsis"))
        return grid

    def _course(self) -> RenderableType:
        """Where the losses went: the newest number, and a sparkline of all so far."""
        parts = []
        if self._losses.last is not None:
            parts.append(f"loss {self._losses.last:.3f} {self._sparkline(self._losses.values)}")
        if self._bits:
            parts.append(f"bits a character {self._bits[-1]:.3f} {self._sparkline(self._bits)}")
        if self._best:
            parts.append(f"best {self._best[0]:.3f} at epoch {self._best[1]:.3g}")
        parts = [part.rstrip() for part in parts]
        return Text(self._fitting(parts, self.console.width), style="dim", no_wrap=True, overflow="ellipsis")

    def _sparkline(self, values: Sequence[float]) -> str:
        if self.console.options.ascii_only or len(values) < 2:
            return ""
        return sparkline(values, max(6, min(SPARKLINE, self.console.width // 5)))

    @staticmethod
    def _fitting(parts: Sequence[str], width: int) -> str:
        """As many parts as fit into a line; what matters least on a narrow screen stands last."""
        kept = [part for part in parts if part]
        while len(kept) > 1 and len("  ".join(kept)) > width:
            kept.pop()
        return "  ".join(kept)


class History:
    """The losses of a run from its first to its newest, at most `HISTORY` of them: of a long run, means."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.last: float | None = None
        self._each = 1  # losses in a mean
        self._sum, self._count = 0.0, 0

    def add(self, loss: float) -> None:
        """Take the newest loss; one that is not finite is left out."""
        if not math.isfinite(loss):
            return
        self.last = loss
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count == self._each:
            self.values.append(self._sum / self._each)
            self._sum, self._count = 0.0, 0
        if len(self.values) >= HISTORY:
            self.values = [(a + b) / 2 for a, b in zip(self.values[::2], self.values[1::2], strict=True)]
            self._each *= 2


def sparkline(values: Sequence[float], width: int) -> str:
    """Numbers as a line of blocks, at most `width` wide, from the lowest (▁) to the highest (█).

    A loss falls so steeply at first that all after it would look flat; so the highest tenth of many numbers is drawn
    as high as the highest of the others.
    """
    parts = np.array_split(np.asarray(values, float), min(width, len(values)))
    means = np.array([part.mean() for part in parts])
    low, high = means.min(), np.sort(means)[-1 - len(means) // 10]
    if high <= low:
        return SPARKS[0] * len(means)
    levels = np.clip((means - low) / (high - low), 0, 1) * (len(SPARKS) - 1)
    return "".join(SPARKS[round(level)] for level in levels)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the measures of a text as a small table on standard output."""
    how = (
        "exact: the text was read once, the state carried through"
        if evaluation.exact
        else f"an approximation: {evaluation.lanes} lanes, each but the first starting without its past"
    )
    predicted = evaluation.predicted
    rows = [
        ("nats per token", f"{evaluation.loss:.4f}"),
        ("bits per token", f"{evaluation.bits_per_token:.4f}"),
        ("bits per character", f"{evaluation.bits_per_character:.4f}"),
        ("bits per byte", f"{evaluation.bits_per_byte:.4f}"),
        ("perplexity per token", f"{evaluation.perplexity:.4f}"),
        ("perplexity per word", f"{evaluation.word_perplexity:.4g}"),
        (
            "tokens predicted",
            f"{predicted.tokens:,} ({predicted.characters:,} characters, {predicted.words:,} words)",
        ),
        ("unknown tokens", f"{evaluation.unknown:,}"),
    ]
    for name, value in rows:
        print(f"{name:22} {value}")
    print(how)


def print_cells(
    chosen: Mapping[str, type[Cell]], features: int, hidden: int, speeds: Mapping[str, float] | None = None
) -> None:
    """Print cells on standard output: parameters, the way through a window, speed over `lstm`, equations.

    Args:
        chosen: Cells by name.
        features: Width of the layer's input.
        hidden: Units of the layer.
        speeds: Tokens a second of each, and of "lstm", if they were measured.
    """
    for number, (name, cell) in enumerate(chosen.items()):
        on_cpu, on_gpu = way(cell, "cpu", hidden), way(cell, "cuda", hidden)
        ways = on_cpu if on_cpu == on_gpu else f"{on_cpu} on a CPU, {on_gpu} on a GPU"
        m = features if cell.gates else hidden
        count = f"{formula(cell)} = {parameters(cell, m, hidden):,} parameters (m = {m}, n = {hidden})"
        speed = f"  {_short(speeds[name])} tokens/s, {speeds[name] / speeds['lstm']:.2f} of lstm" if speeds else ""
        print(f"{chr(10) if number else ''}{name}  {ways}{speed}\n    {count}\n")
        print(textwrap.indent(inspect.getdoc(cell) or "", "    "))


def _short(number: float) -> str:
    if number >= 999_500:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.1f}k" if number >= 1000 else f"{number:.0f}"
