"""Metrics of a generated text, compared with those of real text and of text by n-gram models.

Each metric is a number that a function of this module computes from a text and a corpus; the
decorator `metric` registers the function. A metric that is added here appears wherever metrics are
printed, drawn or tested, without further changes.

No single metric shows that a text is good. A text that repeats one sentence has only valid words,
and a text that copies the training text looks real by most metrics. But it is hard to reach good
values of all metrics together.
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

from charlm.evaluation.ngram import NGramCounts, NGramModel, ranks
from charlm.evaluation.text_statistics import MOST_COUNTED, Alphabet, TextStatistics, has_words, ngrams
from charlm.registry import Registry
from charlm.text.items import Unit

REFERENCE = "held-out text"
"""The name of real text that the model has not seen: a perfect model would score like it."""

BASELINE, WEAK_BASELINE = "5-gram model", "1-gram model"
"""The names of the texts by n-gram models of 5 characters and of 1 character."""

COMPARED = (REFERENCE, BASELINE, WEAK_BASELINE)
"""The texts that generated text is compared with, the best first."""

Better = Literal["higher", "lower", "near the held-out text"]
Need = Literal["held-out text", "words", "many tokens", "lines", "long items"]
"""What a corpus must have for a metric to make sense."""

MOST_TRAINING = 10_000_000  # characters of training text that are used: the first ones
MOST_HELD_OUT = 1_000_000  # characters of held-out text that are used: the first ones
MOST_PREDICTED = 50_000  # characters of held-out text that a model of the generated text predicts
LEAST_HELD_OUT = 200  # characters: a shorter held-out text is not used
PIECES = 10  # places of the held-out text from which text is set aside: a single one may be unusual
LEAST_TYPES = 100  # different tokens: with fewer, none is rare
LEAST_BRACKETS = 20  # opened brackets: with fewer, their fraction is noise
SPAN = 50  # characters in a row: such a long match is a copy and no coincidence
BEGINNING = 100_000  # characters of the training text from which the kind of corpus is inferred
CLOSING = 500  # characters within which a bracket must be closed
PAIRS = {**dict(zip("([{“‘«‹「『《〈【（［｛〔", ")]}”’»›」』》〉】）］｝〕", strict=True)), '"': '"', "„": "“”"}
BRACKETS = re.compile(  # a straight quotation mark opens before a word and closes after one; alone it may do either
    r"""(?P<opens>(?<![\w.,!?…])"(?=\S)|[([{‘«‹「『《〈【（［｛〔„])|(?P<closes>(?<=[\w.,!?…])"|[])}”’»›」』》〉】）］｝〕])|["“]"""
)
BASELINE_ORDERS = {WEAK_BASELINE: 1, BASELINE: 5}  # orders of the n-gram models whose texts are the baselines


@dataclass(frozen=True)
class Metric:
    """A metric: a number that describes one aspect of a generated text.

    Args:
        name: The name of the metric in files.
        label: The name of the metric for people.
        better: Which values are good. For most metrics a good value is neither high nor low, but
            near that of real text.
        unit: "fraction", "bits", "characters" or "".
        needs: What the corpus must have for the metric to make sense.
        description: The definition of the metric and its source.
        function: A function of (text, corpus) that returns the number, or None for a text to which
            the metric does not apply.
    """

    name: str
    label: str
    better: Better
    unit: str
    needs: tuple[Need, ...]
    description: str
    function: Callable[[TextStatistics, TextMetrics], float | None]

    def __call__(self, text: TextStatistics, corpus: TextMetrics) -> float | None:
        return self.function(text, corpus)


metrics: Registry[Metric] = Registry("text metric")


def metric(
    label: str,
    better: Better,
    unit: str = "",
    needs: tuple[Need, ...] = (),
    sizes: Sequence[int] = (),
) -> Callable[[Callable[..., float | None]], Callable[..., float | None]]:
    """Return a decorator that registers a function of (text, corpus) as a metric.

    The docstring of the function becomes the description of the metric. With `sizes`, a function of
    (text, corpus, size) becomes one metric for each size: the size is appended to the name of the
    function, and replaces `{}` in the label and in the docstring.
    """

    def enter(function: Callable[..., float | None]) -> Callable[..., float | None]:
        description = inspect.getdoc(function) or ""
        if not sizes:
            name = function.__name__
            metrics.register(name)(Metric(name, label, better, unit, needs, description, function))
        for size in sizes:
            name, words = f"{function.__name__}_{size}", [one.replace("{}", str(size)) for one in (label, description)]
            sized = partial(function, size=size)
            metrics.register(name)(Metric(name, words[0], better, unit, needs, words[1], sized))
        return function

    return enter


@metric("words that occur in the training text", "higher", "fraction", ("words",))
def words_in_training_text(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Fraction of words that occur in the training text (like %-IN-TEST-1: Press et al., 2017)."""
    return _fraction([word in corpus.training.vocabulary for word in text.words])


@metric("words that occur in held-out text", "higher", "fraction", ("words", "held-out text"))
def words_in_held_out_text(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Fraction of words that occur in the held-out text (Press et al., 2017)."""
    return _fraction([word in corpus.held_out.vocabulary for word in text.words])


@metric("word {}-grams that occur in held-out text", "higher", "fraction", ("words", "held-out text"), sizes=(2, 3, 4))
def word_ngrams_in_held_out_text(text: TextStatistics, corpus: TextMetrics, size: int) -> float | None:
    """Fraction of word {}-grams that occur in held-out text (%-IN-TEST-{}: Press et al., 2017)."""
    known = corpus.held_out.word_ngrams(size)
    return _fraction([ngram in known for ngram in ngrams(text.words, size)])


@metric("divergence of character {}-grams", "lower", "bits", ("held-out text",), sizes=(1, 2, 3, 4))
def character_divergence(text: TextStatistics, corpus: TextMetrics, size: int) -> float | None:
    """Jensen-Shannon divergence between the character {}-grams of the text and of held-out text.

    It is 0 bits if all are equally frequent in both texts, and 1 bit if none occurs in both (Lin,
    1991; for generated text: Gulrajani et al., 2017). It falls with the length of the texts, so
    compare only texts of equal length.
    """
    codes, counts = text.character_ngrams(size)
    real_codes, real_counts = corpus.held_out.character_ngrams(size)
    if not len(codes) or not len(real_codes):
        return None
    rank = ranks(real_codes, codes)
    p, q = counts / counts.sum(), np.where(rank < 0, 0, real_counts[rank]) / real_counts.sum()
    both = p * np.log2(2 * p / (p + q)) + q * np.log2(np.where(rank < 0, 1, 2 * q / (p + q)))
    return float(both.sum() + 1 - q.sum()) / 2  # n-grams that only real text has add their whole probability


@metric("new sequences of {} characters", "near the held-out text", "fraction", ("long items",), sizes=(10, 20))
def novel_substrings(text: TextStatistics, corpus: TextMetrics, size: int) -> float | None:
    """Fraction of sequences of {} characters that do not occur in the training text (torch-rnn: Johnson, 2016)."""
    return _fraction(~text.overlap(corpus.training).substrings(size))


@metric("longest copied span", "near the held-out text", "characters", ("long items",))
def longest_copy(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Length in characters of the longest span that occurs in the training text (McCoy et al., 2023)."""
    return float(text.overlap(corpus.training).longest()) if text.text else None


@metric(f"characters in copied spans of {SPAN}", "near the held-out text", "fraction", ("long items",))
def copied_characters(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Fraction of characters inside spans of 50 or more that occur in the training text (McCoy et al., 2023)."""
    return _fraction(text.overlap(corpus.training).characters(SPAN))


@metric("lines that occur in the training text", "near the held-out text", "fraction", ("lines",))
def lines_in_training_text(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Fraction of lines that are also lines of the training text; more than in held-out text means copying."""
    return _fraction([line in corpus.training.different_lines for line in text.lines])


@metric("different lines", "near the held-out text", "fraction", ("lines",))
def distinct_lines(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Number of different lines divided by the number of lines."""
    return len(text.different_lines) / len(text.lines) if text.lines else None


@metric("bits per character by a 6-gram model", "near the held-out text", "bits")
def ngram_bits(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Bits per character of the text under a 6-gram model of the training text.

    More bits than for held-out text mean that the text is unlike real text; fewer bits mean that it
    is more predictable than real text (Cífka et al., 2018, who use a network instead of an n-gram
    model).
    """
    return corpus.training.model.cross_entropy(text.characters) / math.log(2) if text.text else None


@metric("6-gram of the text on held-out text, bits per character", "lower", "bits", ("held-out text",))
def reverse_ngram_bits(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Bits per character of held-out text under a 6-gram model of the generated text.

    Many bits mean that the generated text lacks much of what real text has, for example because it has little variety
    (reverse perplexity: Zhao et al., 2018). The number falls with the length of the generated text, so compare only
    texts of equal length.
    """
    return text.model.cross_entropy(corpus.held_out.characters[:MOST_PREDICTED]) / math.log(2) if text.text else None


@metric("different {}-grams", "near the held-out text", "fraction", ("many tokens",), sizes=(1, 2))
def distinct_ngrams(text: TextStatistics, corpus: TextMetrics, size: int) -> float | None:
    """Number of different {}-grams divided by the number of all {}-grams (Li et al., 2016).

    The n-grams consist of words. They consist of characters if the training text has no spaces
    between words, or if its items are lines and most of these are single words.
    """
    runs = ngrams(corpus.tokens(text), size)
    return len(set(runs)) / len(runs) if runs else None


@metric("repeated {}-grams", "near the held-out text", "fraction", ("many tokens",), sizes=(4,))
def repeated_ngrams(text: TextStatistics, corpus: TextMetrics, size: int) -> float | None:
    """Fraction of {}-grams that occurred before in the text (Welleck et al., 2020).

    The n-grams consist of words. They consist of characters if the training text has no spaces
    between words, or if its items are lines and most of these are single words.
    """
    runs = ngrams(corpus.tokens(text), size)
    return 1 - len(set(runs)) / len(runs) if runs else None


@metric("compression ratio", "near the held-out text")
def compression_ratio(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Bytes of the text divided by its bytes after compression by DEFLATE (Shaib et al., 2024).

    Repetition raises the ratio.
    """
    data = text.text.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, 9)) if data else None


@metric("Zipf's exponent", "near the held-out text", "", ("many tokens",))
def zipf_exponent(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """The exponent s of Zipf's law for the words of the text: frequency ~ rank ** -s.

    Characters count as words if the training text has no spaces between words, or if its items are
    lines and most of these are single words. The exponent is estimated by maximum likelihood (Zipf,
    1949; for texts by recurrent networks: Takahashi and Tanaka-Ishii, 2017).
    """
    frequencies = np.array(sorted(Counter(corpus.tokens(text)).values(), reverse=True))
    if len(frequencies) < 2:
        return None
    logarithms = np.log(np.arange(1, len(frequencies) + 1))
    mean = float(frequencies @ logarithms) / int(frequencies.sum())
    low, high = 0.0, 20.0
    for _ in range(40):  # the mean logarithm of the rank falls with s; at the likeliest s it is the one observed
        middle = (low + high) / 2
        weights = np.exp(-middle * logarithms)
        low, high = (middle, high) if weights @ logarithms / weights.sum() > mean else (low, middle)
    return (low + high) / 2


@metric("Heaps' exponent", "near the held-out text", "", ("many tokens",))
def heaps_exponent(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """The exponent b of Heaps' law: n words contain about n ** b different ones, up to a factor.

    Characters count as words if the training text has no spaces between words, or if its items are
    lines and most of these are single words. The exponent is estimated by a least-squares fit of
    the logarithms for the whole text and its first 1/2, 1/4, ... 1/32 (Heaps, 1978; for texts by
    recurrent networks: Takahashi and Tanaka-Ishii, 2017).
    """
    tokens = corpus.tokens(text)
    lengths = [len(tokens) >> halvings for halvings in range(6)]
    if lengths[-1] < 1:
        return None
    seen = [len(set(tokens[:length])) for length in lengths]
    return float(np.polyfit(np.log(lengths), np.log(seen), 1)[0])


@metric("brackets and quotes that are closed", "higher", "fraction")
def closed_brackets(text: TextStatistics, corpus: TextMetrics) -> float | None:
    """Fraction of brackets and quotation marks that are closed in order within 500 characters.

    A network must remember what it has opened; single units can learn this (Karpathy et al., 2015).
    """
    opened = closed = 0
    waiting: list[tuple[str, int]] = []  # of each open bracket: what closes it, and its position
    for bracket in BRACKETS.finditer(text.text):
        character, position = bracket.group(), bracket.start()
        waiting = [one for one in waiting if position - one[1] <= CLOSING]
        partners = [level for level, (closing, _) in enumerate(waiting) if character in closing]
        if partners and bracket.lastgroup != "opens":
            closed += 1
            del waiting[partners[-1] :]
        elif bracket.lastgroup != "closes":
            opened += 1
            waiting.append((PAIRS[character], position))
    return closed / opened if opened >= LEAST_BRACKETS else None


def _fraction(flags: Sequence[bool] | NDArray[np.bool_]) -> float | None:
    return float(np.mean(flags)) if len(flags) else None


class TextMetrics:
    """Computes all metrics of texts that models of one corpus generate.

    Everything that does not depend on the generated text is computed only once.

    Every text is scored on its first `size` characters, because most metrics depend on the length.
    As many characters of the held-out text are set aside and scored like generated text. They are
    the reference: a perfect model would reach their scores. No metric compares a text with the
    characters that are set aside. They come from `PIECES` places of the held-out text; if its items
    are lines, the lines are shuffled first.

    If the held-out text is shorter than twice `size`, half of it is set aside and `size` is lowered
    to this length. If it has fewer than `LEAST_HELD_OUT` characters, it is not used, and the
    metrics that need it are left out.

    Args:
        train_text: The text on which the model was trained. Only its first `MOST_TRAINING`
            characters are used.
        held_out_text: Text that the model has not seen. Only its first `MOST_HELD_OUT` characters
            are used.
        unit: What the texts consist of: one stream, lines or documents. Between items stands a
            separator.
        seed: Seed for the text of the n-gram models (baselines) and for the order of lines.
        size: How many characters of a text are scored.

    Attributes:
        size: How many characters of a text are scored. If held-out text is used, this is at most
            half of its length.
        references: The scores of each text in `COMPARED`, by the name of the text and of the
            metric. The scores of the reference are empty without held-out text.
        left_out: The metrics that make no sense for this corpus, each with the reason.
        alphabet: Ids of the characters of the training text and the held-out text.
        training: The training text with which generated text is compared.
        held_out: The held-out text with which generated text is compared, without the characters
            that are set aside.
    """

    def __init__(
        self, train_text: str, held_out_text: str, *, unit: Unit = "stream", seed: int = 1, size: int = 10_000
    ) -> None:
        if not train_text or size < 1:
            raise ValueError("text metrics need a training text and a size of at least 1")
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
        self.training = TextStatistics(train_text, self.alphabet)
        self.held_out = TextStatistics(held_out_text, self.alphabet)
        self._missing = _missing(self.training, self.held_out, unit)
        self.left_out = {
            name: next(self._missing[need] for need in metric.needs if need in self._missing)
            for name, metric in metrics.items()
            if self._missing.keys() & metric.needs
        }
        real = self.score(excerpt)
        if excerpt:
            reason = "they do not apply to the held-out text"
            self.left_out |= {name: reason for name in metrics if name not in self.left_out and name not in real}
        self.references = {REFERENCE: real}
        characters, highest = self.training.characters[:MOST_COUNTED], max(BASELINE_ORDERS.values())
        counts = NGramCounts(characters, highest, len(self.alphabet.known))
        for name, order in BASELINE_ORDERS.items():
            sample = NGramModel(counts, order).sample(self.size, seed)
            self.references[name] = self.score(self.alphabet.decode(sample))

    def score(self, text: str) -> dict[str, float]:
        """Return the scores of a generated text by the name of the metric.

        Metrics that are left out for this corpus, or that do not apply to this text, are missing.
        """
        statistics = TextStatistics(text[: self.size], self.alphabet)
        values = {name: metric(statistics, self) for name, metric in metrics.items() if name not in self.left_out}
        return {name: value for name, value in values.items() if value is not None}

    def tokens(self, text: TextStatistics) -> Sequence[str]:
        """Return the words of a text, or its characters if the corpus has no words.

        A corpus has no words if spaces do not separate them, or if its items are lines, most of
        which are single words.
        """
        return text.text if "words" in self._missing else text.words


def _set_aside(text: str, size: int) -> tuple[str, str]:
    """Divide a text into two parts: `size` characters from `PIECES` places of it, and the rest.

    Args:
        text: The text.
        size: Number of characters, at most half of the text.
    """
    excerpt, rest = [], []
    for piece in range(PIECES):
        block = text[len(text) * piece // PIECES : len(text) * (piece + 1) // PIECES]
        length = size * (piece + 1) // PIECES - size * piece // PIECES
        space = re.compile(r"\s").search(block, 0, len(block) - length)  # words stay whole where possible
        start = space.start() if space else 0
        excerpt.append(block[start : start + length])
        rest += [block[:start], block[start + length :]]
    return "".join(excerpt), "".join(rest)


def _missing(training: TextStatistics, held_out: TextStatistics, unit: Unit) -> dict[Need, str]:
    """Return which needs of metrics the corpus does not fulfil, each with the reason.

    Args:
        training, held_out: The two texts of the corpus.
        unit: What the texts consist of.
    """
    missing: dict[Need, str] = {}
    if not held_out.text:
        missing["held-out text"] = f"the held-out text has fewer than {LEAST_HELD_OUT} characters"
    start = TextStatistics(training.text[:BEGINNING], training.alphabet)
    if not has_words(start.text):
        missing["words"] = "spaces do not separate words in this text"
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
