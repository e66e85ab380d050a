"""How good generated text is: many small measures, each beside what real text and n-gram models get.

A measure is a function of a text and of the corpus, registered here; whatever draws, prints or tests measures finds
a new one by itself. None of them alone says that a text is good: one that repeats a single sentence has only valid
words, one that copies the training text looks real by most. Together they are hard to please.
"""

from __future__ import annotations

import inspect
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from charlm.measure.ngram import NGramModel, found
from charlm.measure.writing import Alphabet, Writing, has_words, ngrams
from charlm.registry import Registry
from charlm.text.items import Unit

Better = Literal["higher", "lower", "near the held-out text"]
Need = Literal["held-out text", "words", "many tokens", "lines", "long items"]
"""What a corpus must have for a measure to make sense."""

MOST_TRAINING = 10_000_000  # characters of training text that are compared with: the first ones
MOST_HELD_OUT = 1_000_000  # characters of held-out text that are compared with
MOST_PREDICTED = 50_000  # characters of held-out text that a model of the generated text predicts
LEAST_HELD_OUT = 200  # characters: fewer are too few to compare with
PIECES = 10  # of the held-out text that is set aside: one place in it says little of the others
LEAST_TYPES = 100  # different tokens, without which there are no rare ones
LEAST_BRACKETS = 20  # opened: fewer say nothing
SPAN = 50  # characters in a row that are copied rather than met by chance
BEGINNING = 100_000  # characters of the training text that show what the corpus is like
CLOSING = 500  # characters within which a bracket is closed
PAIRS = {**dict(zip("([{“‘«‹「『《〈【（［｛〔", ")]}”’»›」』》〉】）］｝〕", strict=True)), '"': '"', "„": "“”"}
BRACKETS = re.compile(  # a straight quotation mark opens before a word and closes after one; alone it may do either
    r"""(?P<opens>(?<![\w.,!?…])"(?=\S)|[([{‘«‹「『《〈【（［｛〔„])|(?P<closes>(?<=[\w.,!?…])"|[])}”’»›」』》〉】）］｝〕])|["“]"""
)
SAMPLES = {"order-1 characters": 1, "order-5 characters": 5}  # the n-gram models whose texts are references


@dataclass(frozen=True)
class Measure:
    """A number that says something of a generated text.

    Args:
        name: In files and charts.
        label: Short words for a person.
        better: Which way is good. Most numbers of a good text are not high or low, but those of real text.
        unit: "share", "bits", "characters" or "".
        needs: What the corpus must have.
        description: What it is, and who says so.
        function: (text, corpus) to the number; None of a text that has nothing to be measured.
    """

    name: str
    label: str
    better: Better
    unit: str
    needs: tuple[Need, ...]
    description: str
    function: Callable[[Writing, Quality], float | None]

    def __call__(self, text: Writing, corpus: Quality) -> float | None:
        return self.function(text, corpus)


measures: Registry[Measure] = Registry("measure of generated text")


def measure(
    label: str,
    better: Better,
    unit: str = "",
    needs: tuple[Need, ...] = (),
    sizes: Sequence[int] = (),
) -> Callable[[Callable[..., float | None]], Callable[..., float | None]]:
    """A decorator that registers a function of (text, corpus) under its own name as a Measure.

    With `sizes` it registers one for each, of a function of (text, corpus, size); the size stands at the end of the
    name and in place of `{}` in the label and in the docstring.
    """

    def enter(function: Callable[..., float | None]) -> Callable[..., float | None]:
        text = inspect.getdoc(function) or ""
        for size in sizes or (None,):
            name = function.__name__ if size is None else f"{function.__name__}_{size}"
            sized = function if size is None else partial(function, size=size)
            filled = [words if size is None else words.replace("{}", str(size)) for words in (label, text)]
            measures.register(name)(Measure(name, filled[0], better, unit, needs, filled[1], sized))
        return function

    return enter


@measure("words of the training text", "higher", "share", ("words",))
def words_in_training_text(text: Writing, corpus: Quality) -> float | None:
    """Share of words that occur in the training text (%-IN-TEST-1 of words: Press et al., 2017)."""
    return _share([word in corpus.training.vocabulary for word in text.words])


@measure("words of held-out text", "higher", "share", ("words", "held-out text"))
def words_in_held_out_text(text: Writing, corpus: Quality) -> float | None:
    """Share of words that occur in the held-out text (Press et al., 2017)."""
    return _share([word in corpus.held_out.vocabulary for word in text.words])


@measure("{} words in a row of held-out text", "higher", "share", ("words", "held-out text"), sizes=(2, 3, 4))
def word_ngrams_in_held_out_text(text: Writing, corpus: Quality, size: int) -> float | None:
    """Share of {} words in a row that occur in the held-out text (%-IN-TEST-{}: Press et al., 2017)."""
    known = corpus.held_out.word_ngrams(size)
    return _share([ngram in known for ngram in ngrams(text.words, size)])


@measure("divergence of {} characters", "lower", "bits", ("held-out text",), sizes=(1, 2, 3, 4))
def character_divergence(text: Writing, corpus: Quality, size: int) -> float | None:
    """Jensen-Shannon divergence of the frequencies of {} characters in a row from those of the held-out text.

    0 if they are the same, 1 bit if no run is in both (Lin, 1991; of generated text: Gulrajani et al., 2017). It
    falls with the length of the texts, so only those of equal length are to be compared.
    """
    codes, counts = text.character_ngrams(size)
    real_codes, real_counts = corpus.held_out.character_ngrams(size)
    if not len(codes) or not len(real_codes):
        return None
    place, known = found(real_codes, codes)
    p, q = counts / counts.sum(), np.where(known, real_counts[place], 0) / real_counts.sum()
    both = p * np.log2(2 * p / (p + q)) + q * np.log2(np.where(known, 2 * q / (p + q), 1))
    return float(both.sum() + 1 - q.sum()) / 2  # a run that only real text has adds all of its share


@measure("new runs of {} characters", "near the held-out text", "share", ("long items",), sizes=(10, 20))
def novel_substrings(text: Writing, corpus: Quality, size: int) -> float | None:
    """Share of runs of {} characters that do not occur in the training text (torch-rnn, Johnson, 2016)."""
    return _share(~text.copies(corpus.training).substrings(size))


@measure("longest copy", "near the held-out text", "characters", ("long items",))
def longest_copy(text: Writing, corpus: Quality) -> float | None:
    """Characters of the longest substring that occurs in the training text (McCoy et al., 2023)."""
    return float(text.copies(corpus.training).longest()) if text.text else None


@measure(f"in copies of {SPAN} characters", "near the held-out text", "share", ("long items",))
def copied_characters(text: Writing, corpus: Quality) -> float | None:
    """Share of characters inside substrings of 50 or more that occur in the training text (McCoy et al., 2023)."""
    return _share(text.copies(corpus.training).characters(SPAN))


@measure("lines of the training text", "near the held-out text", "share", ("lines",))
def lines_in_training_text(text: Writing, corpus: Quality) -> float | None:
    """Share of lines that are a line of the training text: copied, if there are more of them than in real text."""
    return _share([line in corpus.training.different_lines for line in text.lines])


@measure("different lines", "near the held-out text", "share", ("lines",))
def distinct_lines(text: Writing, corpus: Quality) -> float | None:
    """Different lines over all lines."""
    return len(text.different_lines) / len(text.lines) if text.lines else None


@measure("bits a character by an n-gram model", "near the held-out text", "bits")
def ngram_bits(text: Writing, corpus: Quality) -> float | None:
    """Bits a character of the text under a model of 6-grams of the training text.

    Above real text it is less likely than real text, below it is duller (Cífka et al., 2018, with a neural model).
    """
    return corpus.training.model.cross_entropy(text.characters) / math.log(2) if text.text else None


@measure("bits a character of held-out text by a model of this text", "lower", "bits", ("held-out text",))
def reverse_ngram_bits(text: Writing, corpus: Quality) -> float | None:
    """Bits a character of held-out text under a model of 6-grams of the text: high, if the text lacks variety.

    The reverse score of Zhao et al. (2018) and Cífka et al. (2018). It falls with the length of the text, so only
    texts of equal length are to be compared.
    """
    return text.model.cross_entropy(corpus.held_out.characters[:MOST_PREDICTED]) / math.log(2) if text.text else None


@measure("different {}-grams", "near the held-out text", "share", ("many tokens",), sizes=(1, 2))
def distinct_ngrams(text: Writing, corpus: Quality, size: int) -> float | None:
    """Different runs of {} words (characters, where blanks do not part words) over all of them (Li et al., 2016)."""
    runs = ngrams(corpus.tokens(text), size)
    return len(set(runs)) / len(runs) if runs else None


@measure("repeated {}-grams", "near the held-out text", "share", ("many tokens",), sizes=(4,))
def repeated_ngrams(text: Writing, corpus: Quality, size: int) -> float | None:
    """Share of runs of {} words (characters, where blanks do not part words) seen before (Welleck et al., 2020)."""
    runs = ngrams(corpus.tokens(text), size)
    return 1 - len(set(runs)) / len(runs) if runs else None


@measure("compression ratio", "near the held-out text")
def compression_ratio(text: Writing, corpus: Quality) -> float | None:
    """Bytes of the text over its bytes compressed by DEFLATE: high, if it repeats itself (Shaib et al., 2024)."""
    data = text.text.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, 9)) if data else None


@measure("Zipf's exponent", "near the held-out text", "", ("many tokens",))
def zipf_exponent(text: Writing, corpus: Quality) -> float | None:
    """The s by which frequencies fall as rank ** -s of words (characters, where blanks do not part words).

    The likeliest one (Zipf, 1949; of texts by recurrent networks: Takahashi and Tanaka-Ishii, 2017).
    """
    frequencies = np.array(sorted(Counter(corpus.tokens(text)).values(), reverse=True))
    if len(frequencies) < 2:
        return None
    ranks = np.log(np.arange(1, len(frequencies) + 1))
    mean = float(frequencies @ ranks) / int(frequencies.sum())
    low, high = 0.0, 20.0
    for _ in range(40):  # the mean logarithm of the rank falls with s; at the likeliest s it is the one observed
        middle = (low + high) / 2
        weights = np.exp(-middle * ranks)
        low, high = (middle, high) if weights @ ranks / weights.sum() > mean else (low, middle)
    return (low + high) / 2


@measure("Heaps' exponent", "near the held-out text", "", ("many tokens",))
def heaps_exponent(text: Writing, corpus: Quality) -> float | None:
    """The b by which n words (characters, where blanks do not part words) hold about n ** b different ones.

    By least squares on both logarithms, at every doubling of n from the whole text down (Heaps, 1978; of texts by
    recurrent networks: Takahashi and Tanaka-Ishii, 2017).
    """
    tokens = corpus.tokens(text)
    lengths = [len(tokens) >> halvings for halvings in range(6)]
    if lengths[-1] < 1:
        return None
    seen = [len(set(tokens[:length])) for length in lengths]
    return float(np.polyfit(np.log(lengths), np.log(seen), 1)[0])


@measure("closed brackets and quotes", "higher", "share", ("held-out text",))
def closed_brackets(text: Writing, corpus: Quality) -> float | None:
    """Share of opened brackets and quotation marks closed by their partner, inner ones first, within 500 characters.

    What some cells of a character network are seen to keep track of (Karpathy et al., 2015).
    """
    opened = closed = 0
    waiting: list[tuple[str, int]] = []  # what closes it, and where it was opened
    for bracket in BRACKETS.finditer(text.text):
        character, place = bracket.group(), bracket.start()
        waiting = [one for one in waiting if place - one[1] <= CLOSING]
        partners = [level for level, (closing, _) in enumerate(waiting) if character in closing]
        if partners and bracket.lastgroup != "opens":
            closed += 1
            del waiting[partners[-1] :]
        elif bracket.lastgroup != "closes":
            opened += 1
            waiting.append((PAIRS[character], place))
    return closed / opened if opened >= LEAST_BRACKETS else None


def _share(flags: Sequence[bool] | NDArray[np.bool_]) -> float | None:
    return float(np.mean(flags)) if len(flags) else None


class Quality:
    """Scores generated texts of one corpus; all that does not depend on the text is worked out once.

    Every text is scored on its first `size` characters, for many measures depend on how much there is. An excerpt
    of the held-out text that long is set aside and scored as if it had been generated: no measure compares with it,
    so it shows what the best of texts would get. It is the beginning of the held-out text, or as many of its lines,
    drawn by `seed`, where items are lines. A held-out text shorter than twice `size` lends its half, and `size` is
    lowered to that; of one below `LEAST_HELD_OUT` characters nothing is said.

    Args:
        train_text: What the model has learnt from; its first `MOST_TRAINING` characters are compared with.
        held_out_text: What it has not seen. After the excerpt, `MOST_HELD_OUT` characters are compared with.
        unit: What the corpus is made of; items stand one after the other with what parts them.
        seed: Of the texts of n-gram models.
        size: Characters of a text that are scored.

    Attributes:
        size: Characters that are scored.
        references: The scores of real text and of texts by n-gram models, by the names "held-out text" (without
            scores, if there is too little of it), "order-1 characters" and "order-5 characters".
        left_out: Measures that make no sense for the corpus, each with the reason.
        training: The training text that is compared with.
        held_out: The held-out text that is compared with.
    """

    def __init__(
        self, train_text: str, held_out_text: str, *, unit: Unit = "stream", seed: int = 1, size: int = 10_000
    ) -> None:
        if not train_text or size < 1:
            raise ValueError("there is nothing to measure without a training text and a size of at least 1")
        train_text = train_text[:MOST_TRAINING]
        if unit == "line":
            lines = held_out_text.split("\n")
            random.Random(seed).shuffle(lines)
            held_out_text = "\n".join(lines)
        held_out_text = held_out_text[:MOST_HELD_OUT]
        if len(held_out_text) < LEAST_HELD_OUT:
            held_out_text = ""
        self.size = min(size, len(held_out_text) // 2 or size)
        excerpt, held_out_text = _set_aside(held_out_text, self.size if held_out_text else 0)
        self.alphabet = Alphabet(train_text, held_out_text)
        self.training = Writing(train_text, self.alphabet)
        self.held_out = Writing(held_out_text, self.alphabet)
        self._missing = _missing(self.training, self.held_out, unit)
        self.left_out = {
            name: next(self._missing[need] for need in measure.needs if need in self._missing)
            for name, measure in measures.items()
            if self._missing.keys() & measure.needs
        }
        real = self.score(excerpt)
        if excerpt:
            nothing = "the held-out text has too little of what it measures"
            self.left_out |= {name: nothing for name in measures if name not in self.left_out and name not in real}
        self.references = {"held-out text": real}
        for name, order in SAMPLES.items():
            model = NGramModel(order, len(self.alphabet.known)).fit(self.training.characters)
            self.references[name] = self.score(self.alphabet.decode(model.sample(self.size, seed)))

    def score(self, text: str) -> dict[str, float]:
        """The measures of a generated text by name, without those that are left out or find nothing to measure."""
        writing = Writing(text[: self.size], self.alphabet)
        values = {name: measure(writing, self) for name, measure in measures.items() if name not in self.left_out}
        return {name: value for name, value in values.items() if value is not None}

    def tokens(self, text: Writing) -> Sequence[str]:
        """What repeats itself in a text: its words, or its characters if the corpus has no words."""
        return text.text if "words" in self._missing else text.words


def _set_aside(text: str, size: int) -> tuple[str, str]:
    """So many characters of a text, at most half of it, in pieces from all over it, and the rest."""
    excerpt, rest = [], []
    for piece in range(PIECES):
        block = text[len(text) * piece // PIECES : len(text) * (piece + 1) // PIECES]
        length = size * (piece + 1) // PIECES - size * piece // PIECES
        blank = re.compile(r"\s").search(block, 0, len(block) - length)  # no word is cut that need not be
        start = blank.start() if blank else 0
        excerpt.append(block[start : start + length])
        rest += [block[:start], block[start + length :]]
    return "".join(excerpt), "".join(rest)


def _missing(training: Writing, held_out: Writing, unit: Unit) -> dict[Need, str]:
    """What measures may need and the corpus lacks, each with a sentence that says so."""
    missing: dict[Need, str] = {}
    if not held_out.text:
        missing["held-out text"] = f"the held-out text has fewer than {LEAST_HELD_OUT} characters"
    start = Writing(training.text[:BEGINNING], training.alphabet)
    if not has_words(start.text):
        missing["words"] = "blanks do not part words in this text"
    if unit != "line":
        missing["lines"] = "the items of this text are not lines"
    else:
        if len(start.words) < 1.5 * len(start.lines):
            missing["words"] = "the lines of this text are single words"
        if len(start.text) < SPAN * len(start.lines):
            missing["long items"] = f"the lines of this text have fewer than {SPAN} characters"
    tokens, kind = (start.text, "characters") if "words" in missing else (start.words, "words")
    if len(set(tokens)) < LEAST_TYPES:
        missing["many tokens"] = f"this text has fewer than {LEAST_TYPES} different {kind}"
    return missing
