"""What charlm prints in a terminal: the progress of a training, and the tables of some commands.

Standard output carries only the result of a command, so progress goes to standard error. Progress
is shown in a live display, or in plain lines if the output is piped.
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

from charlm.config.durations import duration
from charlm.errors import count
from charlm.network.cells import Cell
from charlm.reporter import Reporter
from charlm.views.samples import print_sample
from charlm.views.text import visible

if TYPE_CHECKING:
    from charlm.evaluation.likelihood import Evaluation
    from charlm.run_directory import RunDirectory, Sample

BAR = 16
"""Largest width of the progress bar, in characters."""

SPARKS = "▁▂▃▄▅▆▇█"
SPARKLINE = 24
"""Largest width of a sparkline, in characters."""

HISTORY = 1024
"""Fewer losses than this are kept for the sparkline; of a longer run, means of several losses."""

PLAIN_EVERY = 10.0
"""Seconds between two lines of progress when there is no live display."""

REFRESH = 0.1
"""Seconds between two updates of the live display."""


class Terminal(Reporter):
    """A reporter that shows the progress of a run on standard error.

    On a terminal, messages, validations and samples scroll above a live display of the progress and
    the losses. When the output is piped, or on a terminal without cursor control, the progress is
    printed as a line every `PLAIN_EVERY` seconds instead.

    Args:
        console: The console to write to; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.live = self.console.file.isatty() and not self.console.is_dumb_terminal
        self._view: Live | None = None
        self._work = ""
        self._last_line = time.monotonic()
        self._drawn = -math.inf
        self._losses = History()
        self._speed: float | None = None
        self._bits: list[float] = []
        self._best: tuple[float, float] | None = None  # bits per character, epoch
        self._validation = ""
        self._sampled: int | None = None

    def say(self, line: str) -> None:
        style = "yellow" if line.startswith("warning") else ""
        self.console.print(Text(visible(line), style=style))

    def parameter_table(self, rows: list[tuple[str, str, int]]) -> None:
        table = Table(box=None, pad_edge=False, show_footer=True)
        table.add_column("part", footer="total")
        table.add_column("shape")
        table.add_column("parameters", justify="right", footer=f"{sum(row[2] for row in rows):,}")
        for name, shape, size in rows:
            table.add_row(Text(name), Text(shape), f"{size:,}")
        self.console.print(table)

    def progress(self, what: str, done: int, total: int) -> None:
        fraction = done / max(1, total)
        if not self.live:
            if done < total and self._due():
                self.say(f"{what}: {fraction:.0%}")
            return
        if what != self._work:
            self.close()
            self._work = what
        self._show([self._bar(fraction, what)])
        if done >= total:
            self.close()

    def on_step(
        self,
        fraction: float,
        step: int,
        epoch: float,
        seconds: float,
        loss: float | None,
        tokens_per_second: float | None,
    ) -> None:
        if loss is not None:
            self._losses.add(loss)
        self._speed = tokens_per_second if tokens_per_second is not None else self._speed
        left = seconds * (1 - fraction) / fraction if fraction > 0 else math.nan
        progress = [f"epoch {epoch:.2f}", "" if math.isnan(left) else f"{duration(left)} left"]
        speed = [f"step {step:,}", "" if self._speed is None else f"{_short(self._speed)} tokens/s"]
        if self.live:
            self._show([self._bar(fraction, *progress, *speed), self._loss_line()])
        elif self._due():
            newest = "" if self._losses.last is None else f"loss {self._losses.last:.3f}"
            self.say("  ".join(filter(None, [*progress, newest, self._validation, *speed])))

    def on_validation(self, step: int, epoch: float, evaluation: Evaluation, best: bool) -> None:
        self._validation = f"val {evaluation.loss:.3f}"
        self._bits.append(evaluation.bits_per_character)
        if best:
            self._best = evaluation.bits_per_character, epoch
        mark = " (best so far)" if best else ""
        self.say(
            f"epoch {epoch:.3g}: validation {evaluation.loss:.4f} nats per token, "
            f"{evaluation.bits_per_character:.4f} bits per character, "
            f"perplexity {evaluation.perplexity:.4g}{mark}"
        )

    def on_sample(self, sample: Sample) -> None:
        print_sample(self.console, sample, scores=sample.step != self._sampled)
        self._sampled = sample.step

    def on_end(self, directory: RunDirectory) -> None:
        from charlm.views.summary import Summary

        self.close()
        judged = Summary(directory).verdict
        self.console.print(Text("── verdict ──", style="bold"))
        for line in (*judged.sentences, judged.advice.sentence):
            self.console.print(Text(visible(line)), soft_wrap=not self.live)
        self.console.print(Text(f"  {visible(judged.advice.command)}", style="bold"))

    def close(self) -> None:
        if self._view is not None:
            self._view.stop()
            self._view = None

    def _due(self) -> bool:
        """Return whether it is time to print the next plain line of progress.

        If the result is true, the next `PLAIN_EVERY` seconds are counted from this call.
        """
        if time.monotonic() - self._last_line <= PLAIN_EVERY:
            return False
        self._last_line = time.monotonic()
        return True

    # -- the live display

    def _show(self, lines: Sequence[RenderableType]) -> None:
        if self._view is None:
            self._view = Live(console=self.console, transient=True, auto_refresh=False, vertical_overflow="crop")
            self._view.start()
            self._drawn = -math.inf
        if time.monotonic() - self._drawn >= REFRESH:
            self._drawn = time.monotonic()
            self._view.update(Group(*lines), refresh=True)

    def _bar(self, fraction: float, *parts: str) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        bar = max(4, min(BAR, self.console.width // 5))
        text = self._fitting(parts, self.console.width - bar - 7)
        grid.add_row(
            ProgressBar(1.0, fraction, width=bar), f"{fraction:4.0%}", Text(text, no_wrap=True, overflow="ellipsis")
        )
        return grid

    def _loss_line(self) -> RenderableType:
        """Return the line of the live display with the newest losses and the best validation.

        The training loss and the validation each have a sparkline of all values so far.
        """
        parts = []
        if self._losses.last is not None:
            parts.append(f"loss {self._losses.last:.3f} {self._sparkline(self._losses.values)}")
        if self._bits:
            parts.append(f"bits per character {self._bits[-1]:.3f} {self._sparkline(self._bits)}")
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
        """Join parts into a line of at most `width` characters.

        As many parts at the end are left out as needed, but the first part is always kept.
        """
        kept = [part for part in parts if part]
        while len(kept) > 1 and len("  ".join(kept)) > width:
            kept.pop()
        return "  ".join(kept)


class History:
    """The training losses of a run from the first to the newest, as fewer than `HISTORY` values.

    In a long run each value is the mean of several successive losses.
    """

    def __init__(self) -> None:
        self.values: list[float] = []
        self.last: float | None = None
        self._each = 1  # losses per value
        self._sum, self._count = 0.0, 0

    def add(self, loss: float) -> None:
        """Add the newest loss; a loss that is not finite is left out."""
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
    """Draw numbers as a line of at most `width` blocks, from the lowest (▁) to the highest (█).

    Each block stands for the mean of successive numbers. The largest tenth of the means (rounded
    down) is clipped to the next lower mean, because otherwise the steep fall of a loss at the
    beginning would make the rest look flat.
    """
    parts = np.array_split(np.asarray(values, float), min(width, len(values)))
    means = np.array([part.mean() for part in parts])
    low, high = means.min(), np.sort(means)[-1 - len(means) // 10]
    if high <= low:
        return SPARKS[0] * len(means)
    levels = np.clip((means - low) / (high - low), 0, 1) * (len(SPARKS) - 1)
    return "".join(SPARKS[round(level)] for level in levels)


def print_evaluation(evaluation: Evaluation, vocab_size: int, *, items: bool = False) -> None:
    """Print on standard output how well a run predicts a text: a table, the protocol and warnings.

    Args:
        evaluation: The loss and the counts that the table is computed from.
        vocab_size: Number of tokens of the vocabulary.
        items: Whether the text consists of separate items.
    """
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
            f"{predicted.tokens:,} ({count(predicted.characters, 'character')}, {count(predicted.words, 'word')})",
        ),
        ("unknown tokens", f"{evaluation.unknown:,}"),
    ]
    for name, value in rows:
        print(f"{name:22} {value}")
    print(evaluation.protocol.describe(items))
    for sentence in cautions(evaluation, vocab_size):
        print(sentence)


def cautions(evaluation: Evaluation, vocab_size: int) -> list[str]:
    """Return warnings about an evaluation: unknown tokens, or a loss worse than that of a guess.

    Args:
        evaluation: How well the tokens of a text were predicted.
        vocab_size: Number of tokens of the vocabulary.
    """
    sentences = []
    if evaluation.unknown:
        sentences.append(
            f"{count(evaluation.unknown, 'token')} ({evaluation.unknown / evaluation.predicted.tokens:.1%}) unknown: "
            "one symbol is predicted in place of each, so the bits of how it is written are missing, and bits per "
            "character look better than they are"
        )
    if evaluation.loss > math.log(vocab_size):
        lower = "; lower dynamic.rate" if evaluation.protocol.name == "dynamic" else ""
        sentences.append(
            f"this is worse than a guess among the {vocab_size:,} tokens of the vocabulary, "
            f"{math.log2(vocab_size):.2f} bits per token{lower}"
        )
    return sentences


def print_baselines(evaluation: Evaluation, baselines: Mapping[str, Evaluation], read: str) -> None:
    """Print how well a run and some baselines predict the same text, as a table on standard output.

    The best baseline is marked.

    Args:
        evaluation: The result of the run.
        baselines: The results of the baselines, by name.
        read: A phrase that says which text the baselines have read.
    """
    best = min(baselines, key=lambda name: baselines[name].bits_per_character)
    width = max(map(len, baselines))
    heads = ["bits per character", "bits per byte", "perplexity per token", "per word"]
    print("\n" + "  ".join(["".ljust(width), *heads]).rstrip())
    for name, one in {"this run": evaluation, **baselines}.items():
        values = [f"{one.bits_per_character:.4f}", f"{one.bits_per_byte:.4f}"]
        values += [f"{one.perplexity:.4g}", f"{one.word_perplexity:.4g}"]
        cells = [value.rjust(len(head)) for value, head in zip(values, heads, strict=True)]
        print("  ".join([name.ljust(width), *cells]) + "  best baseline" * (name == best))
    print(f"the baselines have read {read}")


def print_cells(
    chosen: Mapping[str, Cell], features: int, hidden: int, speeds: Mapping[str, float] | None = None
) -> None:
    """Print a description of cells on standard output: implementation, speed, size, equations.

    Args:
        chosen: The cells by name.
        features: Width of the input of a layer, for the number of parameters.
        hidden: Number of units of a layer.
        speeds: Training speed of each of these cells and of "lstm" in tokens per second; None if
            speeds were not measured.
    """
    for number, (name, cell) in enumerate(chosen.items()):
        on_cpu, on_gpu = cell.path("cpu", hidden), cell.path("cuda", hidden)
        path = on_cpu if on_cpu == on_gpu else f"{on_cpu} on a CPU, {on_gpu} on a GPU"
        m = features if cell.gates else hidden
        sizes = f"{cell.formula()} = {cell.parameters(m, hidden):,} parameters (m = {m}, n = {hidden})"
        speed = f"  {_short(speeds[name])} tokens/s, {speeds[name] / speeds['lstm']:.2f} times lstm" if speeds else ""
        print(f"{chr(10) if number else ''}{name}  {path}{speed}\n    {sizes}\n")
        print(textwrap.indent(inspect.getdoc(cell) or "", "    "))


def _short(number: float) -> str:
    if number >= 999_500:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.1f}k" if number >= 1000 else f"{number:.0f}"
