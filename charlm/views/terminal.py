"""The terminal: a live line at the bottom while training, plain lines when piped.

Everything goes to standard error; standard output carries only what was asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from charlm.config import duration
from charlm.watcher import Watcher

if TYPE_CHECKING:
    from charlm.measure.evaluation import Evaluation
    from charlm.run import Sample

BAR = 16
"""Columns of the bar."""

PLAIN_EVERY = 10.0
"""Seconds between two lines of progress when nobody can see a bar."""


class Terminal(Watcher):
    """Shows a run on standard error: a bar on a terminal, a line an event when piped or on a dumb terminal.

    Args:
        console: Where to write; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.live = self.console.file.isatty() and not self.console.is_dumb_terminal
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._work = ""
        self._told = time.monotonic()
        self._loss: float | None = None
        self._speed: float | None = None
        self._validation = ""

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
        if not self.live:
            now = time.monotonic()
            if done < total and now - self._told > PLAIN_EVERY:
                self._told = now
                self.say(f"{what}: {done / max(1, total):.0%}")
            return
        if what != self._work:
            self._stop_bar()
            self._work = what
        self._show(done / max(1, total), what)
        if done >= total:
            self._stop_bar()

    def trained(
        self, share: float, step: int, epoch: float, seconds: float, loss: float | None, speed: float | None
    ) -> None:
        self._loss = loss if loss is not None else self._loss
        self._speed = speed if speed is not None else self._speed
        left = seconds * (1 - share) / share if share > 0 else math.nan
        parts = [f"epoch {epoch:.2f}", "" if math.isnan(left) else f"{duration(left)} left"]
        parts += ["" if self._loss is None else f"loss {self._loss:.3f}", self._validation]
        parts += [f"step {step:,}", "" if self._speed is None else f"{_short(self._speed)} tokens/s"]
        parts = [part for part in parts if part]
        if self.live:
            while len(parts) > 1 and len("  ".join(parts)) > self.console.width - BAR - 7:
                parts.pop()  # what matters least on a narrow screen stands last
            self._show(share, "  ".join(parts))
        elif time.monotonic() - self._told > PLAIN_EVERY:
            self._told = time.monotonic()
            self.say("  ".join(parts))

    def validated(self, step: int, epoch: float, evaluation: Evaluation, best: bool) -> None:
        self._validation = f"val {evaluation.loss:.3f}"
        mark = " (best so far)" if best else ""
        self.say(
            f"epoch {epoch:.3g}: validation {evaluation.loss:.4f} nats a token, "
            f"{evaluation.bits_per_character:.4f} bits a character, "
            f"perplexity {evaluation.perplexity:.4g}{mark}"
        )

    def sampled(self, sample: Sample) -> None:
        _print_sample(self.console, sample)

    def close(self) -> None:
        self._stop_bar()

    def _show(self, share: float, line: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                BarColumn(BAR), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"),
                console=self.console, transient=True, refresh_per_second=4,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0)
        assert self._task is not None
        self._bar.update(self._task, completed=share, description=line)

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


def heading(sample: Sample) -> str:
    """The line above a sample."""
    when = "initialisation" if sample.step == 0 else f"epoch {sample.epoch:g}"
    prompt = f", prompt {sample.prompt!r}" if sample.prompt else ""
    return f"── {when} (step {sample.step:,}{prompt}, seed {sample.seed}, temperature {sample.temperature:g}) ──"


def print_reel(samples: Iterable[Sample], console: Console | None = None) -> None:
    """Print samples one below the other on standard output, oldest first."""
    console = console or Console(highlight=False, soft_wrap=True)
    for number, sample in enumerate(samples):
        if number:
            console.print()
        _print_sample(console, sample)


def _print_sample(console: Console, sample: Sample) -> None:
    console.print(Text(heading(sample), style="bold"))
    body = Text(visible(sample.prompt), style="dim")
    body.append(visible(sample.text), style="")
    console.print(body)


# C0 and DEL have pictures, C1 has none; a new line and a tab may act.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
_PICTURES |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}


def visible(text: str) -> str:
    """A text that cannot steer the terminal: control characters are shown (ESC as ␛) instead of obeyed."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


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


def _short(number: float) -> str:
    if number >= 999_500:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.1f}k" if number >= 1000 else f"{number:.0f}"
