"""The facts that are worth knowing about a text before a model is trained on it.

`diagnose` reads the text and computes them; `charlm.evaluation.findings` says which of them matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from charlm.config import DataConfig
from charlm.errors import CharlmError
from charlm.evaluation.drift import BLOCKS, Drift, cut, drift, held_out_bits
from charlm.evaluation.passages import COPIED, CommonLines, Copies, common_lines, copied_passages, repeated_passages
from charlm.evaluation.recommendation import (
    Recommendation,
    expected_bits,
    product_speed,
    recommend,
    recommend_unit,
    training_time,
)
from charlm.evaluation.survey import Place, Survey, character_name, find_passages, survey
from charlm.evaluation.text_metrics import SPAN
from charlm.evaluation.text_statistics import Alphabet, TextStatistics
from charlm.text.corpus import Corpus, Progress, no_progress, read_corpus
from charlm.text.sources import WrongEncodingError

MOST_TRAINING = 5_000_000  # characters of the training text that are read for all but the survey
MOST_VALIDATION = 1_000_000  # the same of the validation text
LONG_LINE = 30  # characters from which equal lines of running text are no coincidence
LEAST = 50  # characters of the training text below which nothing can be said
RANDOM = 0.98  # bits of the best n-gram model over those of character frequencies from which a text is random
EXCERPT = 300  # characters by which the place of a jump is found in the files


@dataclass(frozen=True)
class HeldOut:
    """How well n-gram models of the training text predict a text that they have not read.

    Attributes:
        what: Which text that is: "validation", or "training" for the last tenth of the training text.
        bits: Bits per character of models of order 1 to 8 (Kneser-Ney).
    """

    what: str
    bits: list[float]


@dataclass(frozen=True)
class Diagnosis:
    """The facts about a text.

    Attributes:
        data: The settings by which it was read; its encoding is another than the one that was set if that was wrong.
        wrong_encoding: What was wrong with the encoding that was set; "" if nothing was.
        notes: How the text was read, as training says it.
        characters: Characters of each split.
        read: Characters of the training text that all but the survey is computed from.
        survey: What the files consist of.
        unknown: Characters of the validation text that the training text lacks, and how often they occur there.
        copies: What of the validation text is in the training text; None without a validation text, and for lines.
        repeats: What of the training text it has more than once; None for lines.
        places: Where passages of `copies` and `repeats` begin in the files, by their first `SPAN` characters.
        lines: Duplicate lines.
        drift: Bits per character along the text; None if it is too short, and for lines, which are split at random.
        jump_place: Where the text becomes harder or easier to predict; None if nowhere.
        held_out: The n-gram models; None if there is nothing to hold out.
        start: What to start with.
        start_held_out: The n-gram models on the split that `start` uses.
        seconds, epochs: How long `start` takes on this machine; None where that is not estimated.
    """

    data: DataConfig
    wrong_encoding: str
    notes: list[str]
    characters: dict[str, int]
    read: int
    survey: Survey
    unknown: dict[str, int]
    copies: Copies | None
    repeats: Copies | None
    places: dict[str, list[Place]]
    lines: CommonLines
    drift: Drift | None
    jump_place: Place | None
    held_out: HeldOut | None
    start: Recommendation
    start_held_out: HeldOut | None
    seconds: float | None
    epochs: float | None

    @property
    def expected(self) -> tuple[float, float] | None:
        """The range of bits per character to expect of the recommended run; None if they cannot be estimated."""
        return None if self.start_held_out is None or self.unexpected else expected_bits(self.start_held_out.bits)

    @property
    def unexpected(self) -> str:
        """Why the bits per character of the recommended run cannot be estimated, in a few words; "" if they can."""
        if self.start_held_out is None:
            return "there is no held-out text"
        if not self.start.is_calibrated:
            return "the rule was measured on characters, fewer than 1,000 different ones"
        if self.is_random:
            return "the characters before the next one say nothing about it"
        if self.copies is not None and self.copies.fraction > COPIED:
            return "the validation text is copied from the training text"
        return ""

    @property
    def is_random(self) -> bool:
        """Whether n-gram models predict a character no better from those before it than from its frequency alone."""
        return self.held_out is not None and min(self.held_out.bits[1:]) > RANDOM * self.held_out.bits[0]

    def _rare_characters(self) -> list[dict[str, Any]]:
        found = self.survey
        return [
            {
                "character": one,
                "code_point": f"U+{ord(one):04X}",
                "name": character_name(one),
                "count": found.counts[one],
                "places": found.places[one],
            }
            for one in found.rare
        ]

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain values, for JSON."""
        found, start, along = self.survey, self.start, self.drift
        copies = {"copied": self.copies, "repeated": self.repeats}
        passages = {
            name: None
            if one is None
            else {
                "fraction": one.fraction,
                "longest": [
                    {"text": p.text, "characters": len(p.text), "places": self.places.get(p.text[:SPAN], [])}
                    for p in one.longest
                ],
            }
            for name, one in copies.items()
        }
        return {
            "encoding": self.data.encoding,
            "wrong_encoding": self.wrong_encoding,
            "notes": self.notes,
            **{name: getattr(found, name) for name in ("files", "bytes", "characters", "words", "lines")},
            "byte_order_marks": found.marks,
            "line_ends": found.line_ends,
            "longest_line": {"characters": found.longest_line, "place": found.longest_place},
            "control_characters": found.controls,
            "splits": self.characters,
            "training_characters_read": self.read,
            "different_characters": len(found.counts),
            "rare_characters": self._rare_characters(),
            "unknown_in_validation": self.unknown,
            **passages,
            "lines_in_common": asdict(self.lines),
            "drift": along
            and {
                "training_bits": along.training,
                "validation_bits": along.validation,
                "difference": along.difference if along.validation else None,
                "jump": along.jump and {**asdict(along.jump), "place": self.jump_place},
            },
            "ngram_bits": self.held_out and asdict(self.held_out),
            "start": {
                "command": start.command,
                **{name: asdict(getattr(start, name)) for name in ("unit", "tokenizer", "preset")},
                "settings": start.config.to_dict(),
                "reasons": {choice.name: choice.reason for choice in start.choices},
                "parameters": start.parameters,
                "tokens": start.tokens,
                "vocabulary": start.vocab_size,
                "seconds": self.seconds,
                "epochs": self.epochs,
                "expected_bits_per_character": self.expected,
            },
        }


def diagnose(data: DataConfig, *, gpu: bool = False, progress: Progress = no_progress) -> Diagnosis:
    """Read a text and compute the facts about it.

    Args:
        data: Which text, and how it is read and split.
        gpu: Whether a model will be trained on a GPU.
        progress: Told what is being done.

    Raises:
        CharlmError: the text cannot be read, or is too short or too uniform to predict anything.
    """
    corpus, data, wrong_encoding = _read(data, progress)
    training, validation = samples(corpus)
    text, validation_text = "".join(training), "".join(validation)
    _check_enough(text)
    steps = iter(range(1, 100))

    def begin(what: str) -> None:
        progress(what, next(steps), 7)

    begin("counting characters")
    surveyed = survey(corpus)
    alphabet = Alphabet(text, validation_text)
    source, target = TextStatistics(text, alphabet), TextStatistics(validation_text, alphabet)
    running = data.unit != "line"  # separate lines have no order, and passages and lines are the same
    begin("looking for copies")
    copies = copied_passages(target, source) if running and validation else None
    begin("looking for repeats")
    repeats = repeated_passages(source) if running else None
    begin("fitting n-gram models along the text")
    along = drift(training, validation, alphabet) if running else None
    begin("fitting n-gram models of every order")
    held_out = _held_out(text, validation_text)
    begin("learning a vocabulary")
    unit = recommend_unit(data, text)
    start = recommend(data, text, validation_text, corpus.characters["train"], unit, gpu=gpu)
    begin("finding places")
    beginnings = [one.text[:SPAN] for group in (copies, repeats) if group for one in group.longest]
    excerpts = [[*training, *validation][along.jump.block][:EXCERPT]] if along and along.jump else []
    places = find_passages(corpus, [*beginnings, *excerpts])
    taken, epochs = (None, None) if gpu else training_time(start, product_speed(), cores())
    return Diagnosis(
        data=data,
        wrong_encoding=wrong_encoding,
        notes=corpus.notes,
        characters=corpus.characters,
        read=len(text),
        survey=surveyed,
        unknown={one: validation_text.count(one) for one in sorted(set(validation_text) - set(text))},
        copies=copies,
        repeats=repeats,
        places=dict(zip(beginnings, places, strict=False)),
        lines=common_lines(text.split("\n"), validation_text.split("\n"), LONG_LINE if running else 1),
        drift=along,
        jump_place=next(iter(places[-1]), None) if excerpts else None,
        held_out=held_out,
        start=start,
        start_held_out=_held_out_of_start(data, start, held_out),
        seconds=taken,
        epochs=epochs,
    )


def _check_enough(text: str) -> None:
    if len(text) < LEAST or len(set(text)) < 2:
        what = f"{len(text)} characters" if len(text) < LEAST else f"only one different character ({text[0]!r})"
        raise CharlmError(f"the training text has {what}, too little to judge; give a longer text")


def cores() -> int:
    """Processor cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _read(data: DataConfig, progress: Progress) -> tuple[Corpus, DataConfig, str]:
    """The corpus, the settings with the encoding in which it can be read, and what was wrong with the one set."""
    try:
        return read_corpus(data, progress), data, ""
    except WrongEncodingError as error:
        if error.likely is None or "-" in data.text:  # standard input cannot be read again
            raise
        other = replace(data, encoding=error.likely)
        try:
            return read_corpus(other, progress), other, str(error).partition("; ")[0]
        except WrongEncodingError:  # no encoding fits all files: the first error says which one differs
            raise error from None


def samples(corpus: Corpus) -> tuple[list[str], list[str]]:
    """The training and the validation text in consecutive blocks, about `BLOCKS` in all; of long texts, parts of them.

    Of a text that is longer than what is read, each block is the first part of a longer one.
    """
    sizes = corpus.characters["train"], corpus.characters["val"]
    validation = min(BLOCKS // 2, max(1, round(BLOCKS * sizes[1] / sum(sizes)))) if sizes[1] else 0
    training = _blocks(corpus, "train", BLOCKS - validation, MOST_TRAINING)
    return training, _blocks(corpus, "val", validation, MOST_VALIDATION) if validation else []


def _blocks(corpus: Corpus, split: str, count: int, most: int) -> list[str]:
    size = corpus.characters[split]
    if size <= most:
        return cut("".join(corpus.blocks(split)), count)
    return list(_beginnings(corpus.blocks(split), [size * number // count for number in range(count)], most // count))


def _beginnings(blocks: Iterator[str], starts: list[int], length: int) -> Iterator[str]:
    """The `length` characters of a text from each of some ascending positions, which are at least as far apart."""
    position, text = 0, ""
    for start in starts:
        while position + len(text) < start + length and (block := next(blocks, "")):
            skipped = max(0, min(len(text), start - position))
            position, text = position + skipped, text[skipped:] + block
        yield text[start - position :][:length]


def _held_out(text: str, validation: str) -> HeldOut | None:
    """N-gram models on the validation text, or without one on the last tenth of the training text."""
    what = "validation" if validation else "training"
    if not validation:
        text, validation = text[: -(len(text) // 10)], text[-(len(text) // 10) :]
    if len(validation) < 2:
        return None
    return HeldOut(what, held_out_bits(text, validation, Alphabet(text, validation)))


def _held_out_of_start(data: DataConfig, start: Recommendation, held_out: HeldOut | None) -> HeldOut | None:
    """The n-gram models on the split that the recommended run uses."""
    used = start.config.data
    if (used.unit, used.val_fraction) == (data.unit, data.val_fraction) or "-" in data.text:
        return held_out
    training, validation = samples(read_corpus(replace(data, unit=used.unit, val_fraction=used.val_fraction)))
    return _held_out("".join(training), "".join(validation))
