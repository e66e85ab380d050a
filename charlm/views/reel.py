"""The reel: what a run wrote while it learnt, one below the other or side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from charlm.run import Sample

COLUMN = 34
"""Narrowest column in which a sample can be read."""

HEADLINES = (
    "words_in_training_text", "word_ngrams_in_held_out_text_2", "word_ngrams_in_held_out_text_3",
    "character_divergence_4", "copied_characters", "lines_in_training_text",
    "ngram_bits", "compression_ratio",
)  # fmt: skip
"""The measures that tell the story; others stand behind them."""

# C0 and DEL have pictures, C1 has none; a new line and a tab may act.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
_PICTURES |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}


def visible(text: str) -> str:
    """A text that cannot steer the terminal: control characters are shown (ESC as ␛) instead of obeyed."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


def point_name(epoch: float, step: int) -> str:
    """How a point of the reel is called."""
    return "initialisation" if step == 0 else f"epoch {epoch:.4g}"


def heading(sample: Sample) -> str:
    """The line above a sample."""
    prompt = f", prompt {sample.prompt!r}" if sample.prompt else ""
    name = point_name(sample.epoch, sample.step)
    return f"── {name} (step {sample.step:,}{prompt}, seed {sample.seed}, temperature {sample.temperature:g}) ──"


def headlines(scores: dict[str, float]) -> list[str]:
    """The few scores that tell most, each with its name."""
    from charlm.measure.comparison import in_words, label  # here, for `charlm generate` has no time for it

    names = [name for name in HEADLINES if name in scores]
    return [f"{label(name)} {in_words(name, scores[name])}" for name in names[:4]]


def print_sample(console: Console, sample: Sample, *, scores: bool = True) -> None:
    """Print a sample below its heading, with the scores of the text it stands for."""
    console.print(Text(heading(sample), style="bold"))
    if scores and sample.scores:
        console.print(Text(", ".join(headlines(sample.scores)), style="dim"))
    console.print(_body(sample))


def print_reel(samples: Iterable[Sample], console: Console | None = None) -> None:
    """Print samples one below the other on standard output, oldest first."""
    console = console or Console(highlight=False, soft_wrap=True)
    step = None
    for number, sample in enumerate(samples):
        if number:
            console.print()
        print_sample(console, sample, scores=sample.step != step)
        step = sample.step


def print_side_by_side(samples: Sequence[Sample], console: Console | None = None) -> None:
    """Print samples of the same prompt and seed side by side on standard output, as many as are wide enough."""
    console = console or Console(highlight=False)
    rows: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        rows.setdefault((sample.prompt, sample.seed), []).append(sample)
    fit = max(1, console.width // COLUMN)
    for number, ((prompt, seed), row) in enumerate(rows.items()):
        if number:
            console.print()
        said = f"prompt {prompt!r}, seed {seed}" if prompt else f"seed {seed}"
        console.print(Text(f"── {said}, temperature {row[0].temperature:g} ──", style="bold"))
        for start in range(0, len(row), fit):
            console.print(_columns(row[start : start + fit], scores=not number))


def _columns(samples: Sequence[Sample], *, scores: bool) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, header_style="")
    for sample in samples:
        head = Text(f"{point_name(sample.epoch, sample.step)}, step {sample.step:,}", style="bold")
        for line in headlines(sample.scores) if scores else []:
            head.append(f"\n{line}", style="dim not bold")
        table.add_column(head, ratio=1, overflow="fold", vertical="top")
    table.add_row()
    table.add_row(*(_body(sample) for sample in samples))
    return table


def _body(sample: Sample) -> Text:
    body = Text(visible(sample.prompt), style="dim")
    body.append(visible(sample.text), style="")
    return body
