"""Properties of a text that matter before a model is trained on it.

`diagnose` reads the text and computes these properties; `charlm.evaluation.findings` turns the
important ones into sentences.
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
MOST_VALIDATION = 1_000_000  # characters of the validation text that are read
LONG_LINE = 30  # characters; equal lines of running text that are so long are no coincidence
LEAST = 50  # characters of the training text below which nothing can be said
RANDOM = 0.98  # a text whose n-gram models need more of the bits of character frequencies is random
EXCERPT = 300  # characters by which the place of a jump is found in the files


@dataclass(frozen=True)
class HeldOut:
    """How well n-gram models of the training text predict a text that they have not read.

    Attributes:
        what: The text that is predicted: "validation" for the validation text, or "training" for
            the last tenth of the training text, which the models then do not read.
        bits: Bits per character under the models of order 1 to 8 (Kneser-Ney smoothing).
    """

    what: str
    bits: list[float]


@dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`: the properties of a text, and settings for a first training.

    Attributes:
        data: The settings by which the text was read. If the encoding that the user set was wrong,
            they hold the encoding that was used instead.
        wrong_encoding: What was wrong with the encoding that the user set; "" if nothing was.
        notes: Remarks on how the text was read, one sentence each; training prints the same ones.
        characters: Number of characters of each split, by the name of the split.
        read: Number of characters of the training text that were analysed; `survey` covers all
            characters of all files.
        survey: What the files contain, for example how many characters, words and lines.
        unknown: Characters of the validation text that the training text lacks, with how often each
            occurs in the validation text.
        copies: Passages of the validation text that also occur in the training text; None if there
            is no validation text or the text consists of separate lines.
        repeats: Passages that occur more than once in the training text; None for separate lines.
        places: Where the passages of `copies` and `repeats` begin in the files, by the first `SPAN`
            characters of the passage.
        lines: How many lines of the training text and the validation text are duplicates.
        drift: Bits per character of consecutive blocks of the text; None if the text is too short,
            or consists of separate lines, which are assigned to the splits at random.
        jump_place: Where the text becomes harder or easier to predict; None if there is no such
            place, or if it was not found in the files.
        held_out: Bits per character of held-out text under n-gram models; None if the held-out text
            has fewer than two characters.
        start: The recommended settings for a first training.
        start_held_out: The same as `held_out`, for the splits that the settings of `start` make.
        seconds, epochs: The estimated duration of the training that `start` describes, on the CPU
            of this machine; None for a GPU.
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
        """The range of bits per character to expect of the recommended run.

        It is None if it cannot be estimated, for the reason that `unexpected` names.
        """
        return None if self.start_held_out is None or self.unexpected else expected_bits(self.start_held_out.bits)

    @property
    def unexpected(self) -> str:
        """The reason why `expected` is None, in a few words; empty if `expected` is a range."""
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
        """Whether each character of the text seems to be independent of those before it.

        N-gram models of order 2 and above then predict held-out text hardly better than the model
        of order 1, which knows only the frequencies of characters.
        """
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
        """Return the diagnosis as dictionaries, lists, numbers and strings, for JSON."""
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
    """Read a text, compute its properties, and recommend settings for a first training.

    Args:
        data: Which text to read, and how to read and split it.
        gpu: Whether a model will be trained on a GPU.
        progress: A function that is told how many bytes have been read, and then which step of the
            analysis begins.

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
    """Return the number of processor cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _read(data: DataConfig, progress: Progress) -> tuple[Corpus, DataConfig, str]:
    """Read a corpus; if its encoding is wrong, read it again with the most likely one.

    Returns:
        The corpus; the settings by which it was read; and what was wrong with the encoding in
        `data`, "" if nothing was.

    Raises:
        WrongEncodingError: the encoding is wrong, and no other one could be used: none is likely,
            or the likely one does not fit all files, or some text comes from standard input, which
            cannot be read again.
        CharlmError: the text cannot be read for another reason (see `read_corpus`).
    """
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
    """Return the training text and the validation text, each as a list of blocks in their order.

    Both lists together have at most `BLOCKS` blocks, fewer for a short text. If the training text
    is longer than `MOST_TRAINING` characters, the blocks do not cover it: it is divided into equal
    parts, and each block is only the beginning of its part. The same holds for a validation text
    longer than `MOST_VALIDATION` characters.
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
    """Yield `length` characters of a text from each of several positions.

    Args:
        blocks: The text in consecutive blocks.
        starts: The positions in ascending order, at least `length` apart.
        length: Characters from each position.
    """
    position, text = 0, ""
    for start in starts:
        while position + len(text) < start + length and (block := next(blocks, "")):
            skipped = max(0, min(len(text), start - position))
            position, text = position + skipped, text[skipped:] + block
        yield text[start - position :][:length]


def _held_out(text: str, validation: str) -> HeldOut | None:
    """Return how well n-gram models of the training text predict held-out text.

    The held-out text is `validation`. If this is empty, it is the last tenth of `text`, and the
    models read only the rest. Returns None if the held-out text has fewer than two characters.
    """
    what = "validation" if validation else "training"
    if not validation:
        text, validation = text[: -(len(text) // 10)], text[-(len(text) // 10) :]
    if len(validation) < 2:
        return None
    return HeldOut(what, held_out_bits(text, validation, Alphabet(text, validation)))


def _held_out_of_start(data: DataConfig, start: Recommendation, held_out: HeldOut | None) -> HeldOut | None:
    """Return what `_held_out` returns for the splits that the recommended settings make.

    These splits can differ from those of `data`, for which the result is `held_out`. If they do,
    the text is read again. If it is standard input, which cannot be read again, the function
    returns `held_out`.
    """
    used = start.config.data
    if (used.unit, used.val_fraction) == (data.unit, data.val_fraction) or "-" in data.text:
        return held_out
    training, validation = samples(read_corpus(replace(data, unit=used.unit, val_fraction=used.val_fraction)))
    return _held_out("".join(training), "".join(validation))
