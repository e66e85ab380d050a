"""Kinds with a flat list of known pieces: characters, graphemes and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from charlm.errors import CharlmError
from charlm.text.items import lines
from charlm.text.tokenization import (
    MOST_TOKENS,
    SURROGATE,
    UNKNOWN,
    Decoder,
    Tokenizer,
    lowercase_normalizer,
    tokenizers,
)

CHUNK = 1 << 14  # characters looked up at once: what fits the processor's cache

# A word carries the blank before it, so that decoding is joining. All else stands alone, character by character.
WORD = r" ?[^\W_]+(?:['’][^\W_]+)*| ?[^\w\s]| ?_|\s"


class Pieces(Tokenizer):
    """Kinds with a flat list of known pieces; any other piece becomes the unknown token."""

    @classmethod
    def train(cls, blocks: Iterator[str], size: int | None, min_frequency: int, lowercase: bool) -> Library:
        library = cls._pipeline(lowercase)
        reserved = cls._reserved()
        trainer = trainers.WordLevelTrainer(
            vocab_size=MOST_TOKENS + 1 if size is None else size,
            min_frequency=min_frequency,
            special_tokens=[],
            show_progress=False,
        )
        library.train_from_iterator((line for block in blocks for line in lines(block)), trainer)
        learned = library.get_vocab(with_added_tokens=False)
        frequent = sorted(learned.keys() - set(reserved), key=learned.__getitem__)
        return cls._with_vocabulary([*reserved, *frequent][:size], lowercase)

    @classmethod
    def _reserved(cls) -> list[str]:
        assert cls.unknown_token is not None
        return [cls.unknown_token]

    @classmethod
    def _pipeline(cls, lowercase: bool) -> Library:
        library = cls.empty()
        steps = lowercase_normalizer(lowercase)
        if library.normalizer is not None:
            steps.append(library.normalizer)
        if steps:
            library.normalizer = normalizers.Sequence(steps)
        return library

    @classmethod
    def _with_vocabulary(cls, names: list[str], lowercase: bool) -> Library:
        library = cls._pipeline(lowercase)
        vocabulary = {name: id for id, name in enumerate(names)}
        library.model = models.WordLevel(vocabulary, unk_token=cls.unknown_token)
        return library


@tokenizers.register("char")
class CharTokenizer(Pieces):
    """Unicode code points."""

    kind = "char"

    @classmethod
    def empty(cls) -> Library:
        library = Library(models.WordLevel({}, unk_token=UNKNOWN))
        library.pre_tokenizer = pre_tokenizers.FixedLength(1)
        library.decoder = decoders.Fuse()
        return library

    @classmethod
    def train(cls, blocks: Iterator[str], size: int | None, min_frequency: int, lowercase: bool) -> Library:
        normalizer = normalizers.Sequence(lowercase_normalizer(lowercase))
        counts = np.zeros(0x110000, np.int64)
        for block in blocks:
            if lowercase:
                block = "".join(normalizer.normalize_str(line) for line in lines(block))
            for codes in _code_points(block):
                found = np.bincount(codes)
                counts[: len(found)] += found
        counts[ord(UNKNOWN)] = 0
        known = np.flatnonzero(counts >= min_frequency)
        if size is not None:
            known = np.sort(known[np.argsort(-counts[known], kind="stable")][: size - 1])
        return cls._with_vocabulary([UNKNOWN, *map(chr, known)], lowercase)

    @cached_property
    def _table(self) -> np.ndarray:
        """Id of each code point up to one past the highest that is known; that last entry is unknown."""
        ids = {ord(name): id for name, id in self._ids_by_name.items() if len(name) == 1}
        table = np.full(max(max(ids) + 2, 128), self.unknown, np.int32)
        table[list(ids)] = list(ids.values())
        return table

    @cached_property
    def _ascii(self) -> bytes | None:
        """The table of ASCII alone, as bytes; None if an id does not fit a byte."""
        ids = self._table[:128]
        return bytes(ids.tolist()) + bytes(128) if ids.max() < 256 else None

    def encode(self, text: str) -> np.ndarray:
        text = self._normalise(text) if self.lowercase else text
        ids = np.empty(len(text), np.int32)
        for start in range(0, len(text), CHUNK):
            part = text[start : start + CHUNK]
            out = ids[start : start + CHUNK]
            if part.isascii() and self._ascii is not None:
                out[:] = np.frombuffer(part.encode("ascii").translate(self._ascii), np.uint8)
            else:
                for codes in _code_points(part):
                    np.take(self._table, codes, out=out, mode="clip")
        return ids

    def encode_items(self, items: Sequence[str]) -> list[np.ndarray]:
        return [self.encode(item) for item in items]

    def unknowns(self, text: str) -> Counter[str]:
        text = self._normalise(text) if self.lowercase else text
        return Counter({c: n for c, n in Counter(text).items() if c not in self._ids_by_name})


def _code_points(text: str) -> Iterator[np.ndarray]:
    for start in range(0, len(text), CHUNK):
        try:
            yield np.frombuffer(text[start : start + CHUNK].encode("utf-32-le"), np.uint32)
        except UnicodeEncodeError as error:
            raise CharlmError(SURROGATE) from error


@tokenizers.register("grapheme")
class GraphemeTokenizer(Pieces):
    """What a reader calls a character: a letter with its combining marks, an emoji of several code points."""

    kind = "grapheme"

    @classmethod
    def empty(cls) -> Library:
        library = Library(models.WordLevel({}, unk_token=UNKNOWN))
        library.pre_tokenizer = pre_tokenizers.Split(Regex(r"\X"), "isolated")
        library.decoder = decoders.Fuse()
        return library


@tokenizers.register("word")
class WordTokenizer(Pieces):
    """Words with the blank before them, punctuation and white space: joined again they are the text."""

    kind = "word"
    default_size = 50_000
    default_min_frequency = 2

    @classmethod
    def empty(cls) -> Library:
        library = Library(models.WordLevel({}, unk_token=UNKNOWN))
        library.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "isolated")
        library.decoder = decoders.Fuse()
        return library

    def prompt(self, text: str) -> str:
        """A blank at the end belongs to the word to come; a line's first word may be known only with one before it."""
        starts = (
            f" {line}" if self.unknowns(f" {line}").total() < self.unknowns(line).total() else line
            for line in lines(text.removesuffix(" "))
        )
        return "".join(starts)


class _ClassicDecoder(Decoder):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.opening = True  # at the start of a line no blank stands before a word

    def push(self, id: int) -> str:
        token = self.tokens[id]
        blank, self.opening = "" if self.opening or token.isspace() else " ", token.isspace()
        return blank + token


@tokenizers.register("classic")
class ClassicTokenizer(Pieces):
    r"""Words parted by white space and one token for the end of a line.

    This is how Penn Treebank (Mikolov et al., 2010) and WikiText (Merity et al., 2016) are scored. A literal
    `<unk>` in the text is the unknown token, as those texts mean it. Spacing is lost, so it is not reversible.
    """

    kind = "classic"
    reversible = False
    unknown_token = "<unk>"
    line_end = "<eos>"
    default_size = 50_000

    @classmethod
    def empty(cls) -> Library:
        library = Library(models.WordLevel({}, unk_token=cls.unknown_token))
        library.normalizer = normalizers.Replace(Regex(r" *\n"), f" {cls.line_end} ")
        library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return library

    @classmethod
    def _reserved(cls) -> list[str]:
        return [cls.unknown_token, cls.line_end]

    def _spell(self, names: list[str]) -> list[str]:
        return ["\n" if name == self.line_end else name for name in names]

    def decoder(self) -> Decoder:
        return _ClassicDecoder(self)
