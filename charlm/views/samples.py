"""The printing of samples in a terminal, one below the other or side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from charlm.run_directory import Sample
from charlm.views.text import visible

COLUMN = 34
"""Narrowest column of samples side by side, in characters."""

HEADLINES = (
    "words_in_training_text", "word_ngrams_in_held_out_text_2", "word_ngrams_in_held_out_text_3",
    "character_divergence_4", "copied_characters", "lines_in_training_text",
    "ngram_bits", "compression_ratio",
)  # fmt: skip
"""The most informative text metrics; views show them first."""


def point_name(epoch: float, step: int) -> str:
    """Return the name of a training step, such as "epoch 3"; that of step 0 is "initialisation".

    The name is used for a step at which samples were generated.
    """
    return "initialisation" if step == 0 else f"epoch {epoch:.4g}"


def heading(sample: Sample) -> str:
    """Return the line above a sample, with its epoch, step, prompt, seed and temperature."""
    prompt = f", prompt {sample.prompt!r}" if sample.prompt else ""
    name = point_name(sample.epoch, sample.step)
    return f"── {name} (step {sample.step:,}{prompt}, seed {sample.seed}, temperature {sample.temperature:g}) ──"


def in_a_sentence(scores: dict[str, float]) -> str:
    """Return a sentence that says which fraction of the generated words occur in the training text.

    `scores` has the scores of samples by the name of the text metric. If the score for words is
    missing, the sentence is about lines. If that for lines is missing too, the sentence is empty.
    """
    for name, parts in (("words_in_training_text", "words"), ("lines_in_training_text", "lines")):
        if name in scores:
            return f"{scores[name]:.0%} of the generated {parts} occur in the training text."
    return ""


def print_sample(console: Console, sample: Sample, *, scores: bool = True) -> None:
    """Print a sample below its heading.

    If `scores` is true, the sentence of `in_a_sentence` follows the heading, unless it is empty.
    """
    console.print(Text(heading(sample), style="bold"))
    if scores and (sentence := in_a_sentence(sample.scores)):
        console.print(Text(sentence, style="dim"))
    console.print(_body(sample))


def print_sample_history(samples: Iterable[Sample], console: Console | None = None) -> None:
    """Print samples one below the other in the given order, on standard output by default."""
    console = console or Console(highlight=False, soft_wrap=True)
    step = None
    for number, sample in enumerate(samples):
        if number:
            console.print()
        print_sample(console, sample, scores=sample.step != step)
        step = sample.step


def print_side_by_side(samples: Sequence[Sample], console: Console | None = None) -> None:
    """Print samples with the same prompt and seed side by side, on standard output by default.

    Each sample is a column of at least `COLUMN` characters. Samples that do not fit the width of
    the terminal follow in further rows.
    """
    console = console or Console(highlight=False)
    rows: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        rows.setdefault((sample.prompt, sample.seed), []).append(sample)
    fit = max(1, console.width // COLUMN)
    for number, ((prompt, seed), row) in enumerate(rows.items()):
        if number:
            console.print()
        title = f"prompt {prompt!r}, seed {seed}" if prompt else f"seed {seed}"
        console.print(Text(f"── {title}, temperature {row[0].temperature:g} ──", style="bold"))
        for start in range(0, len(row), fit):
            console.print(_columns(row[start : start + fit], scores=not number))


def _columns(samples: Sequence[Sample], *, scores: bool) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, header_style="")
    for sample in samples:
        head = Text(f"{point_name(sample.epoch, sample.step)}, step {sample.step:,}", style="bold")
        if scores and (sentence := in_a_sentence(sample.scores)):
            head.append(f"\n{sentence}", style="dim not bold")
        table.add_column(head, ratio=1, overflow="fold", vertical="top")
    table.add_row()
    table.add_row(*(_body(sample) for sample in samples))
    return table


def _body(sample: Sample) -> Text:
    prompt = Text(visible(sample.prompt), style="dim")
    text = Text(visible(sample.text)) if sample.text else Text("(empty)", style="dim")
    return Text.assemble(*((prompt, text) if sample.direction == "forward" else (text, prompt)))
