"""Text becomes ids and ids become text.

A `Tokenizer` is a thin face over a tokenizer of the `tokenizers` library and is saved as its one
`tokenizer.json`. What the library's format has no field for is derived from what it has: the kind from the
model and the pre-tokenizer, the boundary of items from the post-processor.

To add a kind, write a subclass of `Tokenizer` in a new file of the package `kinds`; the registry finds it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import normalizers

from charlm.config import TokenizerConfig
from charlm.errors import CharlmError
from charlm.files import atomic
from charlm.registry import Registry
from charlm.text.items import Unit, batched, lines

UNKNOWN = "\ufffd"  # the replacement character: one visible sign for whatever a vocabulary lacks
MOST_TOKENS = 1_000_000
BATCH = 1 << 18  # characters handed to the library at once: it needs some hundred bytes for each
SURROGATE = "the text holds half of a surrogate pair, which is no character; remove it"

tokenizers: Registry[type[Tokenizer]]


class Decoder:
    """Turns ids into text one at a time, so that text can be shown while it is being made."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokens = tokenizer.tokens

    def push(self, id: int) -> str:
        """The text that this id completes; empty while a character is still incomplete."""
        return self.tokens[id]

    def flush(self) -> str:
        """What is left at the end: U+FFFD for bytes that never became a character, else nothing."""
        return ""


class Tokenizer:
    """Turns text into ids and back; made by `learn` or `Tokenizer.load`.

    Attributes:
        kind: Name in the registry.
        reversible: Whether `decode(encode(text)) == text` as long as the vocabulary lacks nothing.
        tokens: What each id stands for, as text (a byte that is no character alone is written `\\xe4`).
        unknown: Id for whatever the vocabulary lacks; None where nothing can be lacking.
        boundary: Id of the token at both ends of an item; None for a text that is one stream.
        lowercase: Whether text is put in lower case before it is encoded.
    """

    kind: ClassVar[str]
    reversible: ClassVar[bool] = True
    unknown_token: ClassVar[str | None] = UNKNOWN
    line_end: ClassVar[str] = "\n"  # how the vocabulary spells the end of a line
    document_end: ClassVar[str] = "\n\n"  # an entry that text never becomes, for the pre-tokenizer parts it
    default_size: ClassVar[int | None] = None
    default_min_frequency: ClassVar[int] = 1

    def __init__(self, definition: str) -> None:
        """A tokenizer from the library's JSON; `load` picks the class that fits."""
        self._definition = definition
        state = json.loads(definition)
        names = _vocabulary(state["model"])
        self._ids_by_name = {name: id for id, name in enumerate(names)}
        self.tokens: list[str] = self._spell(names)
        self.unknown = None if self.unknown_token is None else self._ids_by_name[self.unknown_token]
        self.boundary = _boundary(state)
        self.lowercase = "Lowercase" in json.dumps(state["normalizer"])

    # What a kind defines.

    @classmethod
    def empty(cls) -> Library:
        """The library's tokenizer of this kind without a vocabulary; it says how text is parted and joined."""
        raise NotImplementedError

    @classmethod
    def train(cls, blocks: Iterator[str], size: int | None, min_frequency: int, lowercase: bool) -> Library:
        """The library's tokenizer with a vocabulary learned from the blocks of a text."""
        raise NotImplementedError

    def _spell(self, names: list[str]) -> list[str]:
        return names

    def decoder(self) -> Decoder:
        """A fresh incremental decoder."""
        return Decoder(self)

    # What all kinds share.

    @cached_property
    def library(self) -> Library:
        """The tokenizer of the `tokenizers` library behind this one."""
        return Library.from_str(self._definition)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, `(tokens,)` int32; lines are encoded one by one, so blocks of lines add up.

        Raises:
            CharlmError: the text holds a lone surrogate.
        """
        return _joined(self._encode_lines(lines(text)))

    def encode_items(self, items: Sequence[str]) -> list[np.ndarray]:
        """The ids of each of many items, without boundaries: each as `encode` gives it."""
        parts = [lines(item) for item in items]
        encoded = self._encode_lines([line for part in parts for line in part])
        return [_joined(next(encoded) for _ in part) for part in parts]

    def _encode_lines(self, texts: Sequence[str]) -> Iterator[list[int]]:
        for batch in batched(texts, BATCH):
            try:
                yield from (e.ids for e in self.library.encode_batch_fast(batch, add_special_tokens=False))
            except TypeError as error:
                raise CharlmError(SURROGATE) from error

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ids stand for."""
        decoder = self.decoder()
        return "".join(decoder.push(int(id)) for id in ids) + decoder.flush()

    def unknowns(self, text: str) -> Counter[str]:
        """The pieces of a text that the vocabulary lacks and how often each occurs."""
        if self.unknown is None:
            return Counter()
        part = self.library.pre_tokenizer.pre_tokenize_str
        return Counter(
            piece for line in lines(text) for piece, _ in part(self._normalise(line)) if piece not in self._ids_by_name
        )

    def _normalise(self, text: str) -> str:
        normalizer = self.library.normalizer
        if normalizer is None:
            return text
        try:
            return "".join(normalizer.normalize_str(line) for line in lines(text))
        except TypeError as error:
            raise CharlmError(SURROGATE) from error

    def prompt(self, text: str) -> str:
        """A text in the form in which this kind goes on with it; kinds whose tokens carry blanks may move one."""
        return text

    def start(self) -> int:
        """The id fed before a text that has no prompt: the boundary, else a line end, else the first token."""
        if self.boundary is not None:
            return self.boundary
        first = 0 if self.unknown is None else min(1, len(self) - 1)
        return self._ids_by_name.get(self.line_end, first)

    def first(self, text: str) -> tuple[int, int]:
        """How many characters and bytes of a text its first token stands for."""
        end: int = self.library.encode(lines(text)[0], add_special_tokens=False).offsets[0][1]
        return end, len(text[:end].encode())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `tokenizer.json` that `load` and the `tokenizers` library read."""
        with atomic(path) as file:
            file.write(self._definition)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Read a `tokenizer.json` written by `save`.

        Raises:
            CharlmError: the file is missing, damaged, or of a kind that is not known here.
        """
        try:
            return from_definition(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CharlmError(f"cannot read the vocabulary {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise CharlmError(f"{path} is damaged or was not written by charlm; copy it anew from its run") from error

    def definition(self) -> str:
        """The text of `tokenizer.json`."""
        return self._definition


def from_definition(definition: str) -> Tokenizer:
    """The tokenizer that a `tokenizer.json` defines; ValueError or KeyError if it defines none of our kinds."""
    state = json.loads(definition)
    for kind in tokenizers.values():
        empty = json.loads(kind.empty().to_str())
        same_model = state["model"]["type"] == empty["model"]["type"]
        if same_model and state["pre_tokenizer"] == empty["pre_tokenizer"]:
            return kind(definition)
    raise ValueError("no kind of tokenizer fits")


def learn(config: TokenizerConfig, blocks: Iterable[str], *, unit: Unit = "stream") -> Tokenizer:
    """Learn a vocabulary from a text.

    Args:
        config: The kind and the limits of the vocabulary.
        blocks: The training text, cut as `items.blocks` cuts it.
        unit: What the text is made of; items of a line or document get a boundary token.

    Raises:
        CharlmError: the kind is unknown, the size is out of reach, or the text has fewer than two tokens.
    """
    kind = tokenizers[config.kind]
    size = config.size or kind.default_size
    if size is not None and unit == "document":
        size -= 1  # for the boundary
    if (size or 0) > MOST_TOKENS:
        raise CharlmError(f"--tokenizer.size must be at most {MOST_TOKENS:,}, not {size:,}")
    min_frequency = config.min_frequency or kind.default_min_frequency
    library = kind.train(iter(blocks), size, min_frequency, config.lowercase)
    state = json.loads(library.to_str())
    if unit != "stream":
        _add_boundary(state, kind.line_end if unit == "line" else kind.document_end)
    made = kind(json.dumps(state, ensure_ascii=False))
    if len(made) > MOST_TOKENS:
        raise CharlmError(
            f"the text has more than {MOST_TOKENS:,} different tokens ({kind.kind}); set --tokenizer.size"
        )
    if len(set(made.tokens) - {kind.unknown_token}) < 2:
        raise CharlmError(
            "the training text has fewer than two different tokens; give a longer text "
            "or lower --tokenizer.min_frequency"
        )
    return made


def _vocabulary(model: dict[str, Any]) -> list[str]:
    """Names of the tokens in the order of their ids."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # unigram: pairs of name and log probability
        return [name for name, _ in vocabulary]
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    if [vocabulary[name] for name in names] != list(range(len(names))):
        raise ValueError("ids must count from zero without a gap")
    return names


def _add_boundary(state: dict[str, Any], name: str) -> None:
    """Enter the boundary into the vocabulary if it is not there, and say that items stand between two of it.

    The library's post-processor says so in its own words: encoding with special tokens gives whole items.
    """
    vocabulary = state["model"]["vocab"]
    names = _vocabulary(state["model"])
    if name not in names:
        if isinstance(vocabulary, list):
            vocabulary.append([name, -100.0])
        else:
            vocabulary[name] = len(names)
        names.append(name)
    boundary = {"SpecialToken": {"id": "boundary", "type_id": 0}}
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [boundary, {"Sequence": {"id": "A", "type_id": 0}}, boundary],
        "pair": [boundary, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"boundary": {"id": "boundary", "ids": [names.index(name)], "tokens": [name]}},
    }


def _boundary(state: dict[str, Any]) -> int | None:
    template = state["post_processor"]
    if template is None or template["type"] != "TemplateProcessing":
        return None
    return int(template["special_tokens"]["boundary"]["ids"][0])


def _joined(parts: Iterable[list[int]]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int32), *(np.asarray(part, np.int32) for part in parts)])


def lowercase_normalizer(lowercase: bool) -> list[normalizers.Normalizer]:
    """Lower case as the library does it: character by character, unlike `str.lower` (a final sigma differs)."""
    return [normalizers.Lowercase()] if lowercase else []


tokenizers = Registry("tokenizer", "charlm.text.kinds")
