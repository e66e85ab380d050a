"""Sentences about the properties of a text that matter for training, the most important first."""

from __future__ import annotations

import math
from collections.abc import Iterator

from charlm.errors import count
from charlm.evaluation.diagnosis import Diagnosis
from charlm.evaluation.passages import COPIED, CommonLines, Passage
from charlm.evaluation.survey import Place
from charlm.evaluation.text_metrics import SPAN

SMALL = 20_000  # characters of training text below which a network learns little more than frequent words
DIFFERENT = 0.05  # smallest relative difference of validation and training text that is reported
REPEATED = 0.2  # smallest repeated fraction of the training text that is reported
MANY_UNKNOWN = 0.001  # fraction of the validation text; more unknown characters are reported
MUCH_RARE = 0.1  # fraction of the different characters; if more of them are rare, this is reported


def findings(diagnosis: Diagnosis) -> list[str]:
    """Return a sentence or two for each property of a text that deserves attention before training.

    The list is empty if there is no such property.
    """
    parts = (_encoding, _random, _size, _copies, _difference, _signs, _unknown, _rare, _repeats)
    return [sentence for part in parts for sentence in part(diagnosis)]


def _encoding(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.wrong_encoding:
        yield (
            f"{diagnosis.wrong_encoding}. Here it was read as {diagnosis.data.encoding}; look at the characters below, "
            "and set `data.encoding`, or save the text as UTF-8."
        )
    yield from (f"{note.removeprefix('warning: ')}." for note in diagnosis.notes if note.startswith("warning: "))


def _random(diagnosis: Diagnosis) -> Iterator[str]:
    held_out = diagnosis.held_out
    if held_out is not None and diagnosis.is_random:
        yield (
            "The characters before the next one say nothing about it: n-gram models need "
            f"{min(held_out.bits[1:]):.2f} bits per character with them and {held_out.bits[0]:.2f} without. "
            "Compressed, encrypted or random data look so; no network can learn to predict them."
        )


def _size(diagnosis: Diagnosis) -> Iterator[str]:
    size = diagnosis.characters["train"]
    if size < SMALL:
        yield (
            f"The training text has only {size:,} characters: a network will learn some frequent words and then "
            "repeat parts of the text. More text helps more than any setting."
        )
    if not diagnosis.characters["val"]:
        yield (
            "There is no validation text, so over-fitting cannot be seen; set `data.val_fraction` or name a text with "
            "`data.val`."
        )


def _copies(diagnosis: Diagnosis) -> Iterator[str]:
    consequence = "The validation loss will look better than the model is"
    lines, copies = diagnosis.lines, diagnosis.copies
    if copies is not None and copies.fraction > COPIED:
        longest = copies.longest[0]
        yield (
            f"{percent(copies.fraction)} of the validation text is copied from the training text, in passages of "
            f"{SPAN} or more characters; the longest has {len(longest.text):,} ({_places(diagnosis, longest)}). "
            f"{consequence}: remove the copies, or name another text with `data.val`."
        )
    elif lines.validation and lines.shared > COPIED * lines.validation:
        yield (
            f"{percent(lines.shared / lines.validation)} of the validation lines{_counted(lines)} are in the training "
            f"text as well. {consequence}: remove duplicate lines."
        )


def _difference(diagnosis: Diagnosis) -> Iterator[str]:
    along = diagnosis.drift
    if along is None:
        return
    jump, place, harder = along.jump, diagnosis.jump_place, along.difference
    at = f"in line {place.line:,} of {place.file}" if place else "in an unknown place"
    if not math.isnan(harder) and abs(harder) > max(DIFFERENT, along.spread):
        means = [sum(part) / len(part) for part in (along.validation, along.training)]
        sentence = (
            f"The validation text is {percent(abs(harder))} {'harder' if harder > 0 else 'easier'} to predict than "
            f"held-out parts of the training text ({means[0]:.2f} and {means[1]:.2f} bits per character; the parts of "
            f"the training text vary by {percent(along.spread)})"
        )
        if jump:
            sentence += f", and the text becomes {'harder' if jump.after > jump.before else 'easier'} {at}"
        effect = "above the training loss even without over-fitting" if harder > 0 else "too low to show over-fitting"
        yield f"{sentence}. The validation loss will be {effect}. {_other_split(diagnosis)}"
    elif jump:
        yield (
            f"The text becomes {'harder' if jump.after > jump.before else 'easier'} to predict {at}: from "
            f"{jump.before:.2f} to {jump.after:.2f} bits per character. Is it another kind of text from there on?"
        )


def _other_split(diagnosis: Diagnosis) -> str:
    if diagnosis.start.unit.value == "line":
        return "With `data.unit` line, the lines are assigned to the splits at random."
    return "To measure on text like the rest, name such a text with `data.val`."


def _unknown(diagnosis: Diagnosis) -> Iterator[str]:
    unknown, size = diagnosis.unknown, diagnosis.characters["val"]
    if sum(unknown.values()) > MANY_UNKNOWN * size:
        names = ", ".join(map(repr, list(unknown)[:5])) + (", ..." if len(unknown) > 5 else "")
        yield (
            f"{count(len(unknown), 'character')} of the validation text {'is' if len(unknown) == 1 else 'are'} not in "
            f"the training text ({names}), {count(sum(unknown.values()), 'occurrence')}: unknown to a model of "
            "characters."
        )


def _signs(diagnosis: Diagnosis) -> Iterator[str]:
    found = diagnosis.survey
    kinds = {name: ends for name, ends in found.line_ends.items() if ends}
    if len(kinds) > 1:
        numbers = ", ".join(f"{name} {ends:,}" for name, ends in kinds.items())
        lone = " A CR that stands alone stays a character of its own." if "CR" in kinds else ""
        yield f"The line ends are mixed ({numbers}); CR LF becomes LF unless `data.newlines` is keep.{lone}"
    elif "CR" in kinds:
        yield "All line ends are CR, as in old Macintosh files: the text counts as one line; convert them to LF."
    if controls := found.controls:
        numbers = ", ".join(f"U+{ord(one):04X} {times:,}" for one, times in list(controls.items())[:5])
        yield f"The text has {count(sum(controls.values()), 'control character')} ({numbers}): is it plain text?"


def _rare(diagnosis: Diagnosis) -> Iterator[str]:
    rare, different = diagnosis.survey.rare, len(diagnosis.survey.counts)
    if len(rare) > MUCH_RARE * different:
        yield (
            f"{len(rare):,} of the {different:,} different characters occur fewer than 5 times: a model cannot learn "
            "them. With `tokenizer.min_frequency` 5 they become the unknown token."
        )


def _repeats(diagnosis: Diagnosis) -> Iterator[str]:
    repeats, lines = diagnosis.repeats, diagnosis.lines
    if repeats is not None and repeats.fraction > REPEATED:
        longest = repeats.longest[0]
        yield (
            f"{percent(repeats.fraction)} of the training text is in passages of {SPAN} or more characters that it has "
            f"more than once; the longest has {len(longest.text):,} ({_places(diagnosis, longest)}). The model has "
            "less to learn from than the size of the text says, and will learn these passages by heart."
        )
    elif lines.training and lines.duplicates > REPEATED * lines.training:
        yield (
            f"{percent(lines.duplicates / lines.training)} of the training lines{_counted(lines)} are duplicates of "
            "others: the model will learn them by heart; remove them."
        )


def _counted(lines: CommonLines) -> str:
    """Return which lines are counted, as words to put after "lines"; empty if all lines are."""
    return f" of at least {lines.shortest} characters" if lines.shortest > 1 else ""


def _places(diagnosis: Diagnosis, passage: Passage) -> str:
    return places_in_words(diagnosis.places.get(passage.text[:SPAN], []))


def places_in_words(places: list[Place]) -> str:
    """Return places in files as text, separated by commas."""
    return ", ".join(map(str, places)) or "in no single place of a file"


def percent(fraction: float) -> str:
    """Return a fraction in per cent as text, with one digit after the point below 10 %.

    The fraction 0 becomes "0 %", and any other one below 0.05 % "less than 0.1 %".
    """
    if 0 < fraction < 0.0005:
        return "less than 0.1 %"
    return f"{100 * fraction:.1f} %" if 0 < fraction < 0.1 else f"{100 * fraction:.0f} %"
