"""Tokenizers of UTF-8 bytes or frequent sequences of bytes, which can encode every text."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import Self

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from charlm.errors import CharlmError
from charlm.text.items import lines
from charlm.text.tokenization import SURROGATE, BackwardDecoder, Decoder, Tokenizer, tokenizer_kinds


def _byte_alphabet() -> dict[str, int]:
    """Return a mapping from characters to bytes: each byte has one character that represents it.

    The `tokenizers` library writes bytes as these characters in its vocabulary (GPT-2's table).
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


BYTES = _byte_alphabet()


class _BytesDecoder(Decoder):
    def __init__(self, tokenizer: _ByteLevel) -> None:
        super().__init__(tokenizer)
        self.pieces = tokenizer.pieces
        self.utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def copy(self) -> Self:
        new = super().copy()
        new.utf8 = copy(self.utf8)
        return new

    @property
    def state(self) -> bytes:
        """The bytes that do not yet complete a character."""
        return self.utf8.getstate()[0]

    @state.setter
    def state(self, value: bytes) -> None:
        self.utf8.setstate((value, 0))

    def push(self, id: int) -> str:
        return self.utf8.decode(self.pieces[id])

    def extend(self, ids: Iterable[int]) -> str:
        return self.utf8.decode(b"".join(map(self.pieces.__getitem__, ids)))

    def flush(self) -> str:
        return self.utf8.decode(b"", final=True)


class _BackwardBytesDecoder(BackwardDecoder):
    def __init__(self, tokenizer: _ByteLevel) -> None:
        super().__init__(tokenizer)
        self.pieces = tokenizer.pieces
        self.rest = b""  # continuation bytes of a character whose first byte is still to come

    def push(self, id: int) -> str:
        found = self.pieces[id] + self.rest
        begin = next((place for place, byte in enumerate(found) if byte & 0xC0 != 0x80), len(found))
        self.rest = found[:begin]
        return found[begin:].decode("utf-8", "replace")[::-1]

    def flush(self) -> str:
        rest, self.rest = self.rest, b""
        return rest.decode("utf-8", "replace")


class _ByteLevel(Tokenizer):
    """A tokenizer whose tokens are sequences of one or more bytes."""

    unknown_token = None
    line_end = "Ċ"  # how the library writes the byte 10
    document_end = "ĊĊ"
    use_regex = True  # split text into words by GPT-2's rule before bytes are merged
    pieces: list[bytes]

    def _texts(self, names: list[str]) -> list[str]:
        self.pieces = [bytes(BYTES[c] for c in name) for name in names]
        return [piece.decode("utf-8", "backslashreplace") for piece in self.pieces]

    @cached_property
    def spellings(self) -> list[bytes]:
        return self.pieces

    def decoder(self) -> Decoder:
        return _BytesDecoder(self)

    def backward_decoder(self) -> Decoder:
        return _BackwardBytesDecoder(self)

    def first(self, text: str) -> tuple[int, int]:
        piece = self.pieces[self.encode(lines(text)[0])[0]]
        return len(piece.decode("utf-8", "ignore")), len(piece)

    def last(self, text: str) -> tuple[int, int]:
        piece = self.pieces[self.encode(lines(text)[-1])[-1]]
        return len(piece.decode("utf-8", "ignore")), len(piece)

    @classmethod
    def _finish(cls, library: Library) -> Library:
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cls.use_regex)
        library.decoder = decoders.ByteLevel()
        return library


@tokenizer_kinds.register("byte")
class ByteTokenizer(_ByteLevel):
    """A tokenizer with one token per byte of UTF-8; the id is the byte, and nothing is learned."""

    kind = "byte"
    use_regex = False

    @classmethod
    def empty(cls) -> Library:
        return cls._finish(Library(models.BPE(vocab=BYTES, merges=[])))

    @classmethod
    def train(cls, blocks: Iterator[str], size: int | None, min_frequency: int, lowercase: bool) -> Library:
        library = cls.empty()
        if lowercase:
            library.normalizer = normalizers.Lowercase()
        return library

    def encode(self, text: str) -> np.ndarray:
        text = self._normalise(text) if self.lowercase else text
        try:
            return np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        except UnicodeEncodeError as error:
            raise CharlmError(SURROGATE) from error

    def encode_items(self, items: Sequence[str]) -> list[np.ndarray]:
        return [self.encode(item) for item in items]


class _Learned(_ByteLevel):
    """A tokenizer that learns frequent sequences of bytes, besides the 256 single bytes."""

    default_size = 4096
    default_min_frequency = 2
    smallest_size = len(BYTES) + 1

    @classmethod
    def train(cls, blocks: Iterator[str], size: int | None, min_frequency: int, lowercase: bool) -> Library:
        assert size is not None
        library = cls.empty()
        if lowercase:
            library.normalizer = normalizers.Lowercase()
        trainer = cls._trainer(size, min_frequency)
        library.train_from_iterator((line for block in blocks for line in lines(block)), trainer)
        return library

    @classmethod
    def _trainer(cls, size: int, min_frequency: int) -> trainers.Trainer:
        raise NotImplementedError


@tokenizer_kinds.register("bpe")
class BpeTokenizer(_Learned):
    """Byte-pair encoding: repeatedly, the most frequent pair of tokens is merged into a new token.

    R. Sennrich, B. Haddow, A. Birch: Neural machine translation of rare words with subword units,
    2016; over bytes as in GPT-2 (Radford et al., 2019).
    """

    kind = "bpe"

    @classmethod
    def empty(cls) -> Library:
        return cls._finish(Library(models.BPE()))

    @classmethod
    def _trainer(cls, size: int, min_frequency: int) -> trainers.Trainer:
        return trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=min_frequency,
            special_tokens=[],
            initial_alphabet=list(BYTES),
            show_progress=False,
        )


@tokenizer_kinds.register("unigram")
class UnigramTokenizer(_Learned):
    """Unigram: text is split into its most probable tokens under a model of independent tokens.

    T. Kudo: Subword regularization, 2018. Learning is not deterministic: two vocabularies learned
    from the same text may differ.
    """

    kind = "unigram"

    @classmethod
    def empty(cls) -> Library:
        return cls._finish(Library(models.Unigram()))

    @classmethod
    def _trainer(cls, size: int, min_frequency: int) -> trainers.Trainer:
        return trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=[],
            initial_alphabet=list(BYTES),
            show_progress=False,
        )
