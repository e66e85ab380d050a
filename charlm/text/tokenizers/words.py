"""Tokenizers that split text by fixed rules and merge nothing: characters, graphemes and words."""

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
    BackwardDecoder,
    Decoder,
    Tokenizer,
    lowercase_normalizer,
    tokenizer_kinds,
)

CHUNK = 1 << 14  # characters that are looked up at once: few enough to stay in the processor's cache

# Words and punctuation marks include the space before them, so that decoding is concatenation.
WORD = r" ?[^\W_]+(?:['’][^\W_]+)*| ?[^\w\s]| ?_|\s"


class Pieces(Tokenizer):
    """A tokenizer that splits text into pieces by a fixed rule.

    A piece that is not in the vocabulary is encoded as the unknown token.
    """

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


@tokenizer_kinds.register("char")
class CharTokenizer(Pieces):
    """A tokenizer with one token per Unicode code point."""

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
        """The id of each code point, int32.

        The last entry is the id of the unknown token, and is used for all higher code points, too.
        """
        ids = {ord(name): id for name, id in self._ids_by_name.items() if len(name) == 1}
        table = np.full(max(max(ids) + 2, 128), self.unknown, np.int32)
        table[list(ids)] = list(ids.values())
        return table

    @cached_property
    def _ascii(self) -> bytes | None:
        """The ids of the ASCII characters as bytes, for `bytes.translate`.

        It is None if an id does not fit into a byte.
        """
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


@tokenizer_kinds.register("grapheme")
class GraphemeTokenizer(Pieces):
    """A tokenizer with one token per grapheme cluster.

    A grapheme cluster is what readers see as one character, accents included.
    """

    kind = "grapheme"

    @classmethod
    def empty(cls) -> Library:
        library = Library(models.WordLevel({}, unk_token=UNKNOWN))
        library.pre_tokenizer = pre_tokenizers.Split(Regex(r"\X"), "isolated")
        library.decoder = decoders.Fuse()
        return library


@tokenizer_kinds.register("word")
class WordTokenizer(Pieces):
    """A tokenizer of words and punctuation marks, each with the space before it.

    Other white space is a token by itself.
    """

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
        """Adapt a prompt to a vocabulary in which each word includes the space before it.

        A space at the end of the prompt is removed, because the model generates it with the next
        word. A space is put before a line if fewer words are unknown with it, because the
        vocabulary may have the first word of the line only with a space.
        """
        starts = (
            f" {line}" if self.unknowns(f" {line}").total() < self.unknowns(line).total() else line
            for line in lines(text.removesuffix(" "))
        )
        return "".join(starts)


class _ClassicDecoder(Decoder):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.state = True  # whether a line starts, where no space stands before a word

    def push(self, id: int) -> str:
        token = self.tokens[id]
        blank, self.state = "" if self.state or token.isspace() else " ", token.isspace()
        return blank + token


class _BackwardClassicDecoder(BackwardDecoder):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.at_end = True  # of a line, where no space stands after a word

    def push(self, id: int) -> str:
        token = self.tokens[id]
        blank, self.at_end = "" if self.at_end or token.isspace() else " ", token.isspace()
        return blank + token[::-1]


@tokenizer_kinds.register("classic")
class ClassicTokenizer(Pieces):
    """A tokenizer of words separated by white space, and of line ends.

    Results on Penn Treebank (Mikolov et al., 2010) and WikiText (Merity et al., 2016) are reported with these tokens.
    A literal `<unk>` in the text is the unknown token, as in those corpora. The white space between words is not
    kept, so decoding does not restore the text exactly.
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

    def _texts(self, names: list[str]) -> list[str]:
        return ["\n" if name == self.line_end else name for name in names]

    @cached_property
    def spellings(self) -> list[bytes]:
        """The bytes of each token with the space that stands before it except at the start of a line."""
        return [token.encode() if token.isspace() else f" {token}".encode() for token in self.tokens]

    def decoder(self) -> Decoder:
        return _ClassicDecoder(self)

    def backward_decoder(self) -> Decoder:
        return _BackwardClassicDecoder(self)
