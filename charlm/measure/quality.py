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

from charlm.measure.ngram import NGramModel, ranks
from charlm.measure.writing import Alphabet, Writing, has_words, ngrams
from charlm.registry import Registry
from charlm.text.items import Unit

Better = Literal["higher", "lower", "near the held-out text"]
Need = Literal["held-out text", "words", "many tokens", "lines", "long items"]
"""What a corpus must have for a measure to make sense."""

MOST_TRAINING = 10_000_000  # characters of training text that are compared with: the first ones
MOST_COUNTED = 3_000_000  # characters of training text that the n-gram models of the references learn
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

    With `sizes` it registers one for each, of a function of (text, corpus, size): the size stands at the end of the
    name, and in place of `{}` in the label and in the docstring.
    """

    def enter(function: Callable[..., float | None]) -> Callable[..., float | None]:
        description = inspect.getdoc(function) or ""
        if not sizes:
            name = function.__name__
            measures.register(name)(Measure(name, label, better, unit, needs, description, function))
        for size in sizes:
            name, words = f"{function.__name__}_{size}", [one.replace("{}", str(size)) for one in (label, description)]
            sized = partial(function, size=size)
            measures.register(name)(Measure(name, words[0], better, unit, needs, words[1], sized))
        return function

    return enter


@measure("words that occur in the training text", "higher", "share", ("words",))
def words_in_training_text(text: Writing, corpus: Quality) -> float | None:
    """Share of words that occur in the training text (%-IN-TEST-1 of words: Press et al., 2017)."""
    return _share([word in corpus.training.vocabulary for word in text.words])


@measure("words that occur in held-out text", "higher", "share", ("words", "held-out text"))
def words_in_held_out_text(text: Writing, corpus: Quality) -> float | None:
    """Share of words that occur in the held-out text (Press et al., 2017)."""
    return _share([word in corpus.held_out.vocabulary for word in text.words])


@measure("word {}-grams that occur in held-out text", "higher", "share", ("words", "held-out text"), sizes=(2, 3, 4))
def word_ngrams_in_held_out_text(text: Writing, corpus: Quality, size: int) -> float | None:
    """Share of {} words in a row that occur so in the held-out text (%-IN-TEST-{}: Press et al., 2017)."""
    known = corpus.held_out.word_ngrams(size)
    return _share([ngram in known for ngram in ngrams(text.words, size)])


@measure("divergence of character {}-grams", "lower", "bits", ("held-out text",), sizes=(1, 2, 3, 4))
def character_divergence(text: Writing, corpus: Quality, size: int) -> float | None:
    """Jensen-Shannon divergence between the character {}-grams of the text and of the held-out text.

    0 if all are as frequent in both, 1 bit if none is in both (Lin, 1991; of generated text: Gulrajani et al.,
    2017). It falls with the length of the texts, so only those of equal length are to be compared.
    """
    codes, counts = text.character_ngrams(size)
    real_codes, real_counts = corpus.held_out.character_ngrams(size)
    if not len(codes) or not len(real_codes):
        return None
    rank = ranks(real_codes, codes)
    p, q = counts / counts.sum(), np.where(rank < 0, 0, real_counts[rank]) / real_counts.sum()
    both = p * np.log2(2 * p / (p + q)) + q * np.log2(np.where(rank < 0, 1, 2 * q / (p + q)))
    return float(both.sum() + 1 - q.sum()) / 2  # a run that only real text has adds all of its share


@measure("runs of {} characters that are new", "near the held-out text", "share", ("long items",), sizes=(10, 20))
def novel_substrings(text: Writing, corpus: Quality, size: int) -> float | None:
    """Share of runs of {} characters that do not occur in the training text (torch-rnn: Johnson, 2016)."""
    return _share(~text.copies(corpus.training).substrings(size))


@measure("longest copied span", "near the held-out text", "characters", ("long items",))
def longest_copy(text: Writing, corpus: Quality) -> float | None:
    """Characters of the longest span that occurs in the training text (McCoy et al., 2023)."""
    return float(text.copies(corpus.training).longest()) if text.text else None


@measure(f"characters in copied spans of {SPAN}", "near the held-out text", "share", ("long items",))
def copied_characters(text: Writing, corpus: Quality) -> float | None:
    """Share of characters inside spans of 50 or more that occur in the training text (McCoy et al., 2023)."""
    return _share(text.copies(corpus.training).characters(SPAN))


@measure("lines that occur in the training text", "near the held-out text", "share", ("lines",))
def lines_in_training_text(text: Writing, corpus: Quality) -> float | None:
    """Share of lines that are a line of the training text: copied, if there are more of them than in real text."""
    return _share([line in corpus.training.different_lines for line in text.lines])


@measure("different lines", "near the held-out text", "share", ("lines",))
def distinct_lines(text: Writing, corpus: Quality) -> float | None:
    """Different lines over all lines."""
    return len(text.different_lines) / len(text.lines) if text.lines else None


@measure("bits a character by a 6-gram model", "near the held-out text", "bits")
def ngram_bits(text: Writing, corpus: Quality) -> float | None:
    """Bits a character of the text under a 6-gram model of the training text (as Cífka et al., 2018, with a network).

    More than real text: it does not look like it. Fewer: it is duller.
    """
    return corpus.training.model.cross_entropy(text.characters) / math.log(2) if text.text else None


@measure("bits a character of held-out text by a 6-gram model of this", "lower", "bits", ("held-out text",))
def reverse_ngram_bits(text: Writing, corpus: Quality) -> float | None:
    """Bits a character of held-out text under a 6-gram model of the text: many, if the text lacks what it has.

    A text without variety fails here (reverse perplexity: Zhao et al., 2018). It falls with the length of the text,
    so only texts of equal length are to be compared.
    """
    return text.model.cross_entropy(corpus.held_out.characters[:MOST_PREDICTED]) / math.log(2) if text.text else None


@measure("different {}-grams", "near the held-out text", "share", ("many tokens",), sizes=(1, 2))
def distinct_ngrams(text: Writing, corpus: Quality, size: int) -> float | None:
    """Different {}-grams of words (characters, where blanks do not part words) over all of them (Li et al., 2016)."""
    runs = ngrams(corpus.tokens(text), size)
    return len(set(runs)) / len(runs) if runs else None


@measure("repeated {}-grams", "near the held-out text", "share", ("many tokens",), sizes=(4,))
def repeated_ngrams(text: Writing, corpus: Quality, size: int) -> float | None:
    """Share of {}-grams of words (characters, where blanks do not part words) seen before (Welleck et al., 2020)."""
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
    logarithms = np.log(np.arange(1, len(frequencies) + 1))
    mean = float(frequencies @ logarithms) / int(frequencies.sum())
    low, high = 0.0, 20.0
    for _ in range(40):  # the mean logarithm of the rank falls with s; at the likeliest s it is the one observed
        middle = (low + high) / 2
        weights = np.exp(-middle * logarithms)
        low, high = (middle, high) if weights @ logarithms / weights.sum() > mean else (low, middle)
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


@measure("brackets and quotes that are closed", "higher", "share")
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

    Every text is scored on its first `size` characters, for most measures depend on how much there is. As much is
    set aside from the held-out text and scored as if it had been generated: what no measure compares with shows what
    the best of texts would get. It is taken in `PIECES` from all over the held-out text (of lines: in an order drawn
    by `seed`). A held-out text shorter than twice `size` lends its half, and `size` is lowered to that; one of fewer
    than `LEAST_HELD_OUT` characters is left alone, with all measures that need it.

    Args:
        train_text: What the model has learnt from. Only its first `MOST_TRAINING` characters are compared with.
        held_out_text: What the model has not seen. Only its first `MOST_HELD_OUT` characters are used.
        unit: What the texts are made of; items stand one after the other, with what parts them in between.
        seed: Of what is drawn.
        size: Characters of a text that are scored.

    Attributes:
        size: The same, or half of what is held out.
        references: Scores by measure of real text and of texts by n-gram models of the training text, all of `size`
            characters: "held-out text" (empty without one), "order-1 characters" and "order-5 characters".
        left_out: The measures that make no sense for this corpus, each with the reason.
        alphabet: Ids of the characters of both texts.
        training: The training text, as far as it is compared with.
        held_out: The held-out text without what was set aside.
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
            model = NGramModel(order, len(self.alphabet.known)).fit(self.training.characters[:MOST_COUNTED])
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
