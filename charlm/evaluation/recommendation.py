"""Recommended settings for a first training on a text, with the expected time and loss.

The network is chosen by the same rules as in training: those of `charlm.config.resolve` and of the
presets. This module decides only what `charlm train` does not decide by itself: the unit (one
stream, lines or documents), the tokenizer and the preset.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charlm.config import Config, DataConfig
from charlm.config.durations import seconds
from charlm.config.plain import merge
from charlm.config.presets import presets
from charlm.config.resolve import WORD_LEVEL, Choice, Facts, resolve
from charlm.config.shell import command
from charlm.evaluation.text_statistics import has_words
from charlm.network.cells import cells
from charlm.network.summary import parameter_count
from charlm.text.items import Unit, blocks, items
from charlm.text.tokenization import Tokenizer, learn

LINES = 100  # smallest number of lines or documents in a text that is taken for a list of items
SHORT_LINE, SHORT_WORDS = 40, 4  # characters and words that nearly every line of a list has at most
MOST = 0.95  # fraction of the lines that must be so short
SAME_BEGINNING = 0.8  # fraction of the documents that must begin with the same characters
LONGEST_DOCUMENT = 4_000  # characters; longer ones are not separate items for a network

WORDS_FROM = 4_000_000  # characters of training text from which words are seen often enough to be tokens
MOST_UNKNOWN = 0.05  # largest fraction of unknown words with which words are recommended as tokens
ENCODED = 1_000_000  # characters that are encoded to learn how many tokens a text has

CHAR_FROM, CHAR_TO = 600_000, 6_000_000  # tokens of a text that the preset `char` is made for
EXPECTED_ORDER = 5  # order of the n-gram model from which the expected loss is derived
EXPECTED = (0.93, 1.02)  # bits of a network / bits of that model: see docs/guide/doctor.md
TRAINING_SPEED = 1.5  # speed of training / `product_speed`: see docs/guide/doctor.md
MOST_CORES = 4  # more cores do not make the training of small networks faster


@dataclass(frozen=True)
class Reasoned:
    """A recommended value and the reason for it."""

    value: str
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """The recommended settings for a first training on a text.

    Attributes:
        unit, tokenizer, preset: The recommended values and the reasons; the preset is "" if none
            fits.
        config: All settings with which the training will then run.
        choices: The settings that `resolve` chose, with the reasons.
        tokens: Tokens of the training text; an estimate if the tokens are not characters.
        vocab_size: Tokens of the vocabulary.
        command: The shell command that starts the training.
    """

    unit: Reasoned
    tokenizer: Reasoned
    preset: Reasoned
    config: Config
    choices: list[Choice]
    tokens: int
    vocab_size: int
    command: str

    @property
    def parameters(self) -> int:
        """The number of parameters of the network."""
        return parameter_count(self.config.model, self.vocab_size)

    @property
    def is_calibrated(self) -> bool:
        """Whether `expected_bits` was calibrated for this kind of tokens.

        It was calibrated for texts of fewer than 1,000 different characters, each of them a token.
        """
        return self.tokenizer.value == "char" and self.vocab_size < WORD_LEVEL

    def parameters_of(self, tokens: int) -> int:
        """Return how many parameters of the network belong to `tokens` tokens of its vocabulary."""
        return self.parameters - parameter_count(self.config.model, self.vocab_size - tokens)


def recommend_unit(data: DataConfig, text: str) -> Reasoned:
    """Recommend the unit of a text: "line", "document" or "stream".

    If the user has set lines or documents, this is the recommendation. Otherwise it is "line" for a
    list of short items, "document" for items of a common form, and "stream" for any other text.

    Args:
        data: The settings of the user.
        text: The training text, or a sample of it.
    """
    if data.unit != "stream":
        return Reasoned(data.unit, "as set")
    lines = [line for line in text.split("\n") if line.strip()]
    short = sum(len(line) <= SHORT_LINE and len(line.split()) <= SHORT_WORDS for line in lines)
    documents = list(items([text], "document")) if max(map(len, lines), default=0) <= LONGEST_DOCUMENT else []
    if len(lines) >= LINES and short >= MOST * len(lines) and len(documents) * 10 < len(lines):
        mean = statistics.mean(map(len, lines))
        return Reasoned("line", f"the lines are short (mean {mean:.0f} characters): a list of separate items")
    if len(documents) >= LINES and statistics.median(map(len, documents)) <= LONGEST_DOCUMENT:
        beginning, count = Counter(document[:2] for document in documents).most_common(1)[0]
        elsewhere = sum(line.startswith(beginning) for line in lines)
        if count >= SAME_BEGINNING * len(documents) and elsewhere <= 2 * count:
            reason = f"{count / len(documents):.0%} of the parts between blank lines begin with {beginning!r}"
            return Reasoned("document", f"{reason}: separate items of one form")
    return Reasoned("stream", "running text: what a line is about depends on the lines before it")


def recommend_tokenizer(text: str, held_out: str, characters: int) -> tuple[Reasoned, Tokenizer]:
    """Recommend a kind of tokens for a text, and learn a tokenizer of this kind.

    Args:
        text: The training text, or a sample of it.
        held_out: The validation text, or a sample of it; it may be empty.
        characters: Number of characters of the whole training text.
    """
    char = _learned("char", text)
    if len(char) >= WORD_LEVEL:
        return Reasoned("char", f"{len(char):,} different characters: a character carries as much as a word"), char
    if not has_words(text):
        return Reasoned("char", "spaces do not separate its words"), char
    if characters < WORDS_FROM:
        reason = f"below {WORDS_FROM / 1e6:g} million characters most words occur too rarely to be learned"
        return Reasoned("char", reason), char
    word = _learned("word", text)
    tested = held_out[:ENCODED] or text[-ENCODED:]
    ids = word.encode(tested)
    unknown = float(np.mean(ids == word.unknown)) if len(ids) else 0.0
    if unknown <= MOST_UNKNOWN:
        reason = f"a long text with few rare words ({unknown:.1%} of held-out tokens are unknown)"
        return Reasoned("word", reason), word
    reason = f"a long text with many rare words ({unknown:.0%} of held-out words would be unknown)"
    return Reasoned("bpe", f"{reason}: parts of words"), _learned("bpe", text)


def _learned(kind: str, text: str) -> Tokenizer:
    settings = presets()["word"].settings if kind == "word" else {"tokenizer": {"kind": kind}}
    return learn(Config.from_dict({"tokenizer": settings["tokenizer"]}).tokenizer, blocks([text]))


def recommend_preset(unit: str, tokenizer: str, tokens: int, vocab_size: int, gpu: bool) -> Reasoned:
    """Recommend a preset; "" if none fits, so that `charlm train` chooses the settings by itself.

    Args:
        unit: The unit of the text.
        tokenizer: The kind of tokens.
        tokens: Tokens of the training text.
        vocab_size: Tokens of the vocabulary.
        gpu: Whether a model will be trained on a GPU.
    """
    if gpu:
        return Reasoned("", "the presets are made for a CPU; the settings are chosen by the size of the text")
    if unit == "line":
        return Reasoned("names", "made for short lines")
    if unit == "stream" and tokenizer == "word":
        return Reasoned("word", "made for words of a running text")
    if unit == "stream" and vocab_size < WORD_LEVEL and CHAR_FROM <= tokens <= CHAR_TO:
        return Reasoned("char", "made for the characters of a running text of this size")
    return Reasoned("", "none is made for such a text; the settings are chosen by its size")


def recommend(
    data: DataConfig, text: str, held_out: str, characters: int, unit: Reasoned, *, gpu: bool = False
) -> Recommendation:
    """Recommend settings for a first training on a text.

    Args:
        data: The settings of the user for reading the text. Those that differ from the defaults
            become part of the recommended command.
        text: The training text, or a sample of it.
        held_out: The validation text, or a sample of it; it may be empty.
        characters: Number of characters of the whole training text.
        unit: The unit that `recommend_unit` recommended.
        gpu: Whether the model will be trained on a GPU.
    """
    kind, tokenizer = recommend_tokenizer(text, held_out, characters)
    sample = text[:ENCODED]
    tokens = characters
    if kind.value != "char":
        tokens = max(1, round(characters * len(tokenizer.encode(sample)) / len(sample)))
    preset = recommend_preset(unit.value, kind.value, tokens, len(tokenizer), gpu)
    own = _named(data) | ({"unit": unit.value} if unit.value != data.unit else {})
    values: dict[str, Any] = {"data": own} if own else {}
    if kind.value != "char" and not preset.value:
        values = merge(values, {"tokenizer": {"kind": kind.value}})
    base = presets()[preset.value].settings if preset.value else {}
    options = {"config": preset.value} if preset.value else {}
    for group, settings in values.items():
        for name, value in settings.items():
            if base.get(group, {}).get(name) != value:
                options[f"{group}__{name}"] = str(value)
    config = Config.from_dict(merge(merge(base, values), {"data": {"text": list(data.text)}}))
    facts = _facts(config, text, tokens, len(tokenizer), characters, gpu)
    resolved, choices = resolve(config, facts)
    line = command("train", *data.text, **options) + (" < TEXT" if "-" in data.text else "")
    return Recommendation(unit, kind, preset, resolved, choices, tokens, len(tokenizer), line)


def _named(data: DataConfig) -> dict[str, Any]:
    """Return all settings of `data` that differ from the defaults, except the text itself."""
    default = DataConfig()
    return {
        one.name: getattr(data, one.name)
        for one in dataclasses.fields(data)
        if one.name != "text" and getattr(data, one.name) != getattr(default, one.name)
    }


def _facts(config: Config, text: str, tokens: int, vocab_size: int, characters: int, gpu: bool) -> Facts:
    cell = cells[config.model.cell]
    count = None
    if config.data.unit != "stream":
        count = max(1, round(sum(1 for _ in _items(text, config.data.unit)) * characters / len(text)))
    return Facts(
        tokens=tokens,
        vocab_size=vocab_size,
        items=count,
        gpu=gpu,
        raw_input=cell.raw_input,
        gated=cell.gated,
        context=cell.context,
    )


def _items(text: str, unit: Unit) -> Iterator[str]:
    return items([text], unit)


# -- how long it takes, and what to expect


def product_speed(rounds: int = 50) -> float:
    """Measure how fast one processor core multiplies small float32 matrices with numpy.

    The result is in floating-point operations per second. It is that of the fastest round, and only
    the processor time of this thread counts, so other programs that run at the same time change the
    result little.

    Args:
        rounds: Number of measurements, each of a few hundred microseconds.
    """
    size, products = 64, 20  # larger products would run on several threads
    matrix = np.random.default_rng(1).standard_normal((size, size), np.float32)
    result = np.empty_like(matrix)
    best = float("inf")
    for _ in range(rounds):
        start = time.thread_time()
        for _ in range(products):
            np.matmul(matrix, matrix, out=result)
        best = min(best, time.thread_time() - start)
    return 2 * size**3 * products / max(best, 1e-9)


def training_time(start: Recommendation, speed: float, cores: int) -> tuple[float, float]:
    """Estimate the duration of a training on a CPU, in seconds and in epochs.

    The estimate assumes six operations per weight for each token: two for the prediction and four
    for the gradients. If the training has a time limit, the duration in seconds is this limit.

    Args:
        start: The settings of the training.
        speed: The result of `product_speed`.
        cores: Number of processor cores for the training.
    """
    rows = 0 if start.config.model.tie else start.vocab_size * start.config.model.embedding  # looked up, no product
    rate = TRAINING_SPEED * speed * min(cores, MOST_CORES) / (6 * (start.parameters - rows))  # tokens per second
    trainer = start.config.trainer
    if trainer.max_time:
        taken = seconds(trainer.max_time)
        return taken, taken * rate / start.tokens
    return trainer.max_epochs * start.tokens / rate, trainer.max_epochs


def expected_bits(ngram_bits: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest bits per character to expect of the recommended run.

    Args:
        ngram_bits: Bits per character of the held-out text under n-gram models of order 1, 2, ...
    """
    low, high = EXPECTED
    bits = ngram_bits[EXPECTED_ORDER - 1]
    return low * bits, high * bits
