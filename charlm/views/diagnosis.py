"""The diagnosis of a text before training, printed in sections, the most important first."""

from __future__ import annotations

import math
import sys
import unicodedata
from collections.abc import Iterator

from charlm.config.durations import duration
from charlm.errors import count
from charlm.evaluation.diagnosis import Diagnosis
from charlm.evaluation.findings import findings, percent, places_in_words
from charlm.evaluation.passages import Copies
from charlm.evaluation.survey import RARE, character_name
from charlm.evaluation.text_metrics import SPAN
from charlm.views.terminal import SPARKS
from charlm.views.text import visible, wrap

WIDTH = 100  # columns of a paragraph
SHOWN_CHARACTERS = 8  # rare characters that are listed
SHOWN = 60  # characters of a passage that are shown


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print the diagnosis of a text on standard output."""
    sections = {
        "Findings": _findings(diagnosis),
        "Start with": _start(diagnosis),
        "Text": _text(diagnosis),
        "Characters": _characters(diagnosis),
        "Copies and repeats": _copies(diagnosis),
        "Along the text": _along(diagnosis),
        "N-gram models": _ngrams(diagnosis),
    }
    for number, (title, lines) in enumerate(sections.items()):
        print(f"{chr(10) if number else ''}{title}")
        for line in lines:
            print(visible(line))


def _paragraph(text: str, first: str = "  ", rest: str = "  ") -> Iterator[str]:
    for number, line in enumerate(wrap(text, WIDTH - len(rest)).split("\n")):
        yield (rest if number else first) + line


def _findings(diagnosis: Diagnosis) -> Iterator[str]:
    found = findings(diagnosis)
    for number, sentence in enumerate(found, 1):
        yield from _paragraph(sentence, f"{number:3}. ", "     ")
    if not found:
        yield "  nothing that a training would suffer from"


def _start(diagnosis: Diagnosis) -> Iterator[str]:
    start = diagnosis.start
    model, data = start.config.model, start.config.data
    reasons = {choice.name: choice.reason for choice in start.choices}
    yield f"  {start.command}"
    yield ""
    yield from _row("unit", f"{start.unit.value}: {start.unit.reason}")
    yield from _row("tokens", f"{start.tokenizer.value}: {start.tokenizer.reason}")
    yield from _row("preset", f"{start.preset.value or 'none'}: {start.preset.reason}")
    layers = f"{count(model.layers, 'layer')} of {model.hidden} units"
    size = f"{start.parameters:,} parameters for {start.tokens:,} tokens of training text"
    yield from _row("network", f"{model.cell}, {layers}: {size}, a vocabulary of {start.vocab_size:,}")
    why = reasons.get("model.dropout", f"as in the preset {start.preset.value}")
    yield from _row("dropout", f"{model.dropout:g} ({why})")
    yield from _row("batch", f"{data.batch_size} rows of {data.seq_length} tokens")
    yield from _row("time", _time(diagnosis))
    if expected := diagnosis.expected:
        nats = [bits * math.log(2) for bits in expected]
        bits = f"{expected[0]:.2f} to {expected[1]:.2f} bits per character ({nats[0]:.2f} to {nats[1]:.2f} nats)"
        yield from _row("expect", f"{bits} on the held-out text, from the bits of a 5-gram model")
    else:
        yield from _row("expect", f"not estimated: {diagnosis.unexpected}")


def _row(name: str, text: str) -> Iterator[str]:
    yield from _paragraph(text, f"  {name:11}", " " * 13)


def _time(diagnosis: Diagnosis) -> str:
    taken, epochs = diagnosis.seconds, diagnosis.epochs
    if taken is None or epochs is None:
        return "not estimated for a GPU"
    rounded = duration(taken if taken < 120 else 60 * round(taken / 60))
    passes = f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.2g}"
    return (
        f"about {rounded} ({passes} epochs) on this machine if it does nothing else; estimated from its speed, "
        "within a factor of two"
    )


def _text(diagnosis: Diagnosis) -> Iterator[str]:
    found, read = diagnosis.survey, diagnosis.read
    ends = ", ".join(f"{name} ({number:,})" for name, number in found.line_ends.items() if number) or "none"
    marks = ", ".join(f"{name} in {count(files, 'file')}" for name, files in found.marks.items()) or "none"
    sizes = {"file": found.files, "character": found.characters, "byte": found.bytes, "word": found.words}
    yield from _row("size", ", ".join(count(number, noun) for noun, number in {**sizes, "line": found.lines}.items()))
    names = {"train": "training", "val": "validation", "test": "test"}
    splits = ", ".join(f"{names[name]} {size:,}" for name, size in diagnosis.characters.items() if size)
    yield from _row("splits", f"{splits} characters")
    if read < diagnosis.characters["train"]:
        yield from _row("sample", f"{read:,} characters along the training text; copies, n-grams and advice use these")
    yield from _row("encoding", f"{diagnosis.data.encoding}; byte-order marks: {marks}")
    yield from _row("line ends", ends)
    if found.longest_place:
        yield from _row("longest", f"a line of {count(found.longest_line, 'character')} ({found.longest_place})")
    for note in diagnosis.notes:
        yield from _row("note", note)


def _characters(diagnosis: Diagnosis) -> Iterator[str]:
    found, start = diagnosis.survey, diagnosis.start
    rare, unknown = found.rare, diagnosis.unknown
    if unknown:
        names = ", ".join(map(repr, list(unknown)[:SHOWN_CHARACTERS])) + ", ..." * (len(unknown) > SHOWN_CHARACTERS)
        yield from _paragraph(
            f"only in the validation text: {count(len(unknown), 'character')}, "
            f"{count(sum(unknown.values()), 'occurrence')} ({names}); unknown to a model of characters"
        )
    if not rare:
        yield f"  {len(found.counts):,} different ones, none rare (fewer than {RARE} times)"
        return
    occurrences = sum(found.counts[one] for one in rare)
    share = f"{percent(len(rare) / len(found.counts))} of the vocabulary for {percent(occurrences / found.characters)}"
    cost = ""
    if start.tokenizer.value == "char":
        cost = f"; they take {start.parameters_of(min(len(rare), start.vocab_size - 2)):,} parameters"
    yield from _paragraph(
        f"{len(found.counts):,} different ones; {len(rare):,} are rare (fewer than {RARE} times): {share} of the text"
        f"{cost}"
    )
    for one in rare[:SHOWN_CHARACTERS]:
        shape = one if one.isprintable() and not unicodedata.combining(one) else " "
        yield f"    {shape} U+{ord(one):04X} {character_name(one)}: {found.counts[one]} at " + places_in_words(
            found.places[one]
        )
    if len(rare) > SHOWN_CHARACTERS:
        yield f"    and {len(rare) - SHOWN_CHARACTERS:,} more"


def _copies(diagnosis: Diagnosis) -> Iterator[str]:
    lines = diagnosis.lines
    for copies, what in (
        (diagnosis.copies, "of the validation text is copied from the training text"),
        (diagnosis.repeats, "of the training text is repeated within it"),
    ):
        if copies is not None:
            yield f"  {percent(copies.fraction)} {what}, in passages of {SPAN} or more characters"
            yield from _passages(diagnosis, copies)
    least = f" of at least {lines.shortest} characters" if lines.shortest > 1 else ""
    if not lines.training:
        return
    yield f"  {count(lines.duplicates, 'line')}{least} of {lines.training:,} in the training text repeat an earlier one"
    if lines.validation:
        yield f"  {count(lines.shared, 'line')} of {lines.validation:,} such lines of the validation text are in it"
    for line, times in lines.frequent:
        yield f"    {times:,} times: {_shown(line)}"


def _passages(diagnosis: Diagnosis, copies: Copies) -> Iterator[str]:
    for passage in copies.longest:
        places = places_in_words(diagnosis.places.get(passage.text[:SPAN], []))
        yield f"    {len(passage.text):,} characters at {places}"
        yield f"      {_shown(passage.text)}"


def _shown(text: str) -> str:
    short = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return short.replace("\n", "⏎")


def _along(diagnosis: Diagnosis) -> Iterator[str]:
    along = diagnosis.drift
    if along is None:
        why = "lines are assigned to the splits at random" if diagnosis.data.unit == "line" else "the text is too short"
        yield f"  not computed: {why}"
        return
    values = [*along.training, *along.validation]
    low, high = min(values), max(values)
    marks = [_bars(part, low, high) for part in (along.training, along.validation) if part]
    yield f"  {' | '.join(marks)}"
    yield from _paragraph(
        f"bits per character of {len(values)} parts of the text, from {low:.2f} (lowest bar) to {high:.2f}, by a "
        f"5-gram model that has not read the part{'; validation after the bar |' if along.validation else ''}"
    )
    if along.validation:
        training, validation = (sum(part) / len(part) for part in (along.training, along.validation))
        yield f"  training {training:.2f}, validation {validation:.2f}: {percent(abs(along.difference))} " + (
            "harder" if along.difference > 0 else "easier"
        )


def _bars(values: list[float], low: float, high: float) -> str:
    """Draw values between `low` and `high` as a line of bars, one character for each value.

    The characters are blocks, or digits if the encoding of standard output has no blocks.
    """
    marks = SPARKS
    try:
        marks.encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        marks = "0123456789"
    return "".join(marks[round((value - low) / ((high - low) or 1) * (len(marks) - 1))] for value in values)


def _ngrams(diagnosis: Diagnosis) -> Iterator[str]:
    held_out = diagnosis.held_out
    if held_out is None:
        yield "  not computed: there is no held-out text"
        return
    what = "validation text" if held_out.what == "validation" else "last tenth of the training text"
    yield f"  bits per character of the {what} by the order of the model (characters of an n-gram)"
    yield "  order " + "".join(f"{order:7}" for order in range(1, len(held_out.bits) + 1))
    yield "  bits  " + "".join(f"{bits:7.2f}" for bits in held_out.bits)
