"""Convert text to token ids and back.

1. `learn` makes a vocabulary from the training text and returns a `Tokenizer`.
2. `Tokenizer.encode` turns text into ids; `decode` turns ids back into text, and so does a
   `Decoder`, one id at a time.
3. `save` and `load` keep a `Tokenizer` as one file, `tokenizer.json`, in the format of the
   `tokenizers` library.

A `Tokenizer` wraps a tokenizer of that library. The format of `tokenizer.json` has no field for the
class of the tokenizer; `load` recognises it by the entries `model` and `pre_tokenizer`. The
format has no field for the boundary token between items, either: the entry `post_processor` has
this token.

To add a tokenizer, write a subclass of `Tokenizer` in a new file of the package
`charlm.text.tokenizers`, and register it with `@tokenizer_kinds.register(NAME)`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import normalizers

from charlm.config import TokenizerConfig
from charlm.errors import CharlmError
from charlm.files import atomic
from charlm.interruptible import interruptible
from charlm.registry import Registry
from charlm.text.items import Unit, batched, lines

UNKNOWN = "\ufffd"  # U+FFFD, the replacement character: a visible sign for text that is not in the vocabulary
MOST_TOKENS = 1_000_000
BATCH = 1 << 18  # characters passed to the library at once; it needs some hundred bytes of memory for each
DECODED = 1 << 16  # ids that are decoded at once
SURROGATE = "the text holds half of a surrogate pair, which is not a character; remove it"

tokenizer_kinds: Registry[type[Tokenizer]]


class Decoder:
    """A converter of ids into text, one id at a time, for text that is shown as it is generated.

    Attributes:
        state: What the text of the next id depends on, besides the id. It is hashable, and can be
            set to an earlier value.
    """

    state: Any = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokens = tokenizer.tokens

    def copy(self) -> Self:
        """Return a decoder that goes on from here on its own."""
        return copy(self)

    def push(self, id: int) -> str:
        """Return the text that this id completes; empty while a character is still incomplete."""
        return self.tokens[id]

    def extend(self, ids: Iterable[int]) -> str:
        """Return the text that several ids complete."""
        return "".join(map(self.push, ids))

    def flush(self) -> str:
        """Return the rest of the text after the last id.

        It is U+FFFD for bytes that did not become a character, and otherwise empty.
        """
        return ""


class BackwardDecoder(Decoder):
    """A converter of ids that come from the end of a text into the text written backward.

    All that it returns, joined and reversed, is the text. Its pieces can therefore be joined like
    those of a `Decoder`.
    """

    def push(self, id: int) -> str:
        """Return the reverse of the text that this id completes; see `Decoder.push`."""
        return self.tokens[id][::-1]


class Tokenizer:
    """A converter of text into ids and back, made by `learn` or `Tokenizer.load`.

    Attributes:
        kind: Name of the class in the registry `tokenizer_kinds`, such as char.
        reversible: Whether `decode(encode(text)) == text` if `lowercase` is false, for every text
            that the vocabulary covers.
        default_size: Largest number of tokens of the vocabulary if the setting `tokenizer.size` is
            0; None: no limit.
        default_min_frequency: How often a token must occur in the training text if the setting
            `tokenizer.min_frequency` is 0.
        smallest_size: The smallest value of `tokenizer.size` except 0.
        tokens: The text of each id (a byte that is not a character by itself is written like
            `\\xe4`).
        unknown: Id of every piece of text that is not in the vocabulary; None for a tokenizer that
            can encode every text.
        boundary: Id of the token before and after each item; None for a text that is one stream.
        lowercase: Whether text is converted to lower case before it is encoded.
    """

    kind: ClassVar[str]
    reversible: ClassVar[bool] = True
    unknown_token: ClassVar[str | None] = UNKNOWN
    line_end: ClassVar[str] = "\n"  # the end of a line as it is written in the vocabulary
    document_end: ClassVar[str] = "\n\n"  # never in encoded text: the pre-tokenizer splits it
    default_size: ClassVar[int | None] = None
    default_min_frequency: ClassVar[int] = 1
    smallest_size: ClassVar[int] = 1

    def __init__(self, definition: str) -> None:
        """Make a tokenizer from the text of a `tokenizer.json` that fits this class.

        `from_definition` finds the class for such a text.
        """
        self._definition = definition
        state = json.loads(definition)
        names = _vocabulary(state["model"])
        self._ids_by_name = {name: id for id, name in enumerate(names)}
        self.tokens: list[str] = self._texts(names)
        self.unknown = None if self.unknown_token is None else self._ids_by_name[self.unknown_token]
        self.boundary = _boundary(state)
        self.lowercase = "Lowercase" in json.dumps(state["normalizer"])

    # What each kind defines.

    @classmethod
    def empty(cls) -> Library:
        """Return the library's tokenizer of this class before a vocabulary is learned.

        It only says how text is split into tokens and how tokens are joined.
        """
        raise NotImplementedError

    @classmethod
    def train(cls, blocks: Iterator[str], size: int | None, min_frequency: int, lowercase: bool) -> Library:
        """Return the library's tokenizer of this class with a vocabulary learned from a text.

        Args:
            blocks: The text in blocks.
            size: Largest number of tokens of the vocabulary; None: no limit.
            min_frequency: How often a token must occur in the text.
            lowercase: Whether text is converted to lower case.
        """
        raise NotImplementedError

    def _texts(self, names: list[str]) -> list[str]:
        """Return the texts of tokens, given their names in the library's vocabulary."""
        return names

    def decoder(self) -> Decoder:
        """Return a new `Decoder`, which converts one id at a time."""
        return Decoder(self)

    def backward_decoder(self) -> Decoder:
        """Return a new `BackwardDecoder`, which converts one id at a time from the end of a text."""
        return BackwardDecoder(self)

    # What all kinds have in common.

    @cached_property
    def spellings(self) -> list[bytes]:
        """The UTF-8 bytes of each token; they may be a part of a character."""
        return [token.encode() for token in self.tokens]

    @cached_property
    def library(self) -> Library:
        """The tokenizer of the `tokenizers` library that this tokenizer wraps."""
        return Library.from_str(self._definition)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text, `(tokens,)` int32.

        Lines are encoded one by one, so a text can be encoded in blocks of lines with the same result.

        Raises:
            CharlmError: the text holds a lone surrogate.
        """
        return _concatenated(self._encode_lines(lines(text)))

    def encode_items(self, items: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each item as `encode` gives them, without boundary tokens."""
        parts = [lines(item) for item in items]
        encoded = self._encode_lines([line for part in parts for line in part])
        return [_concatenated(next(encoded) for _ in part) for part in parts]

    def _encode_lines(self, texts: Sequence[str]) -> Iterator[list[int]]:
        for batch in batched(texts, BATCH):
            try:
                yield from (e.ids for e in self.library.encode_batch_fast(batch, add_special_tokens=False))
            except TypeError as error:
                raise CharlmError(SURROGATE) from error

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of a sequence of ids."""
        decoder = self.decoder()
        return "".join(map(decoder.extend, _in_blocks(ids))) + decoder.flush()

    def unknowns(self, text: str) -> Counter[str]:
        """Return the pieces of a text that are not in the vocabulary, with their counts."""
        return Counter(self.unknown_pieces(text))

    def unknown_pieces(self, text: str) -> Iterator[str]:
        """Yield the pieces of a text that are not in the vocabulary, in their order.

        A piece that occurs several times is yielded each time.
        """
        if self.unknown is None:
            return
        part = self.library.pre_tokenizer.pre_tokenize_str
        for line in lines(text):
            yield from (piece for piece, _ in part(self._normalise(line)) if piece not in self._ids_by_name)

    def spelled(self, ids: Iterable[int], text: str) -> list[str]:
        """Return the text of each token; for an unknown token, the piece of text that it encodes.

        Args:
            ids: The ids of a text.
            text: The text itself. If it has more or fewer unknown pieces than there are unknown
                ids, no piece is assigned, and an unknown token has its own text, such as U+FFFD.
        """
        found, pieces = list(ids), list(self.unknown_pieces(text))
        if self.unknown is None or len(pieces) != found.count(self.unknown):
            return [self.tokens[id] for id in found]
        unknown = iter(self._texts(pieces))
        return [next(unknown) if id == self.unknown else self.tokens[id] for id in found]

    def parts(self, text: str) -> tuple[list[tuple[int, str]], str]:
        """Return the ids of a text, each with the part of the text that it encodes, and the rest.

        The ids are those of `encode`. Joined, the parts and the rest are the text. If several
        tokens encode one character, the last of them has it and the parts of the others are empty.
        White space that no token encodes belongs to the part of the next token; at the end of the
        text it is the rest.

        Raises:
            CharlmError: the text holds a lone surrogate.
        """
        found: list[tuple[int, str]] = []
        rest = ""
        for line in lines(text):
            try:
                encoding = self.library.encode(line, add_special_tokens=False)
            except TypeError as error:
                raise CharlmError(SURROGATE) from error
            covered, following = 0, [*(start for start, _ in encoding.offsets), len(line)][1:]
            for id, (_, end), next_start in zip(encoding.ids, encoding.offsets, following, strict=True):
                upto = max(covered, min(end, next_start))
                found.append((id, rest + line[covered:upto]))
                covered, rest = upto, ""
            rest += line[covered:]
        return found, rest

    def replace_unknowns(self, text: str, replacements: Mapping[str, str]) -> str:
        """Return a text in which each piece that is not in the vocabulary is replaced.

        The text is also normalised as for encoding, for example converted to lower case.

        Args:
            text: The text.
            replacements: The replacement of each key of `unknowns(text)`.
        """
        found: list[str] = []
        for line in map(self._normalise, lines(text)):
            end = 0
            for piece, (start, stop) in self.library.pre_tokenizer.pre_tokenize_str(line):
                known = piece in self._ids_by_name
                found += [line[end:start], self.tokens[self._ids_by_name[piece]] if known else replacements[piece]]
                end = stop
            found.append(line[end:])
        return "".join(found)

    def _normalise(self, text: str) -> str:
        normalizer = self.library.normalizer
        if normalizer is None:
            return text
        try:
            return "".join(normalizer.normalize_str(line) for line in lines(text))
        except TypeError as error:
            raise CharlmError(SURROGATE) from error

    def prompt(self, text: str) -> str:
        """Adapt a prompt to the vocabulary.

        Only tokenizers whose words include spaces change the prompt.
        """
        return text

    def start(self) -> int:
        """Return the id that the network reads first when it generates a text without a prompt.

        It is the boundary token, else a line end, else the first token that is not the unknown
        token.
        """
        if self.boundary is not None:
            return self.boundary
        first = 0 if self.unknown is None else min(1, len(self) - 1)
        return self._ids_by_name.get(self.line_end, first)

    def first(self, text: str) -> tuple[int, int]:
        """Return how many characters and how many bytes of a text its first token encodes."""
        end: int = self.library.encode(lines(text)[0], add_special_tokens=False).offsets[0][1]
        return end, len(text[:end].encode())

    def last(self, text: str) -> tuple[int, int]:
        """Return how many characters and how many bytes of a text its last token encodes."""
        end = len(text)
        for line in reversed(lines(text)):
            end -= len(line)
            if offsets := self.library.encode(line, add_special_tokens=False).offsets:
                end += offsets[-1][0]
                break
        return len(text) - end, len(text[end:].encode())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file `tokenizer.json`, which `load` and the `tokenizers` library can read."""
        with atomic(path) as file:
            file.write(self._definition)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Read a `tokenizer.json` written by `save`.

        Raises:
            CharlmError: the file is missing or damaged, or fits no registered class.
        """
        try:
            return from_definition(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CharlmError(f"cannot read the vocabulary {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise CharlmError(f"{path} is damaged or was not written by charlm; copy it again from its run") from error

    def definition(self) -> str:
        """Return the text of `tokenizer.json`."""
        return self._definition


def from_definition(definition: str) -> Tokenizer:
    """Return the tokenizer that the text of a `tokenizer.json` defines.

    Raises:
        ValueError, KeyError: the text fits none of the registered classes.
    """
    state = json.loads(definition)
    for kind in tokenizer_kinds.values():
        empty = json.loads(kind.empty().to_str())
        same_model = state["model"]["type"] == empty["model"]["type"]
        if same_model and state["pre_tokenizer"] == empty["pre_tokenizer"]:
            return kind(definition)
    raise ValueError("no kind of tokenizer has this model and pre-tokenizer")


def learn(config: TokenizerConfig, blocks: Iterable[str], *, unit: Unit = "stream") -> Tokenizer:
    """Learn a vocabulary from a text and return its tokenizer.

    Args:
        config: The name of the tokenizer's class and the limits of the vocabulary; a limit of 0 is
            the default of the class.
        blocks: The training text, cut as `items.blocks` cuts it.
        unit: What the text consists of; for lines and documents the vocabulary has a boundary
            token.

    Raises:
        CharlmError: the class does not exist, the size is out of range, or the text has fewer than
            two different tokens, or too many.
    """
    kind = tokenizer_kinds[config.kind]
    size = kind.default_size if config.size == 0 else config.size
    min_frequency = kind.default_min_frequency if config.min_frequency == 0 else config.min_frequency
    if size is not None:
        if size < kind.smallest_size:
            raise CharlmError(f"`tokenizer.size` must be at least {kind.smallest_size} for {kind.kind}, not {size}")
        if size > MOST_TOKENS:
            raise CharlmError(f"`tokenizer.size` must be at most {MOST_TOKENS:,}, not {size:,}")
        if unit == "document":
            size -= 1  # for the boundary
    library = interruptible(lambda: kind.train(iter(blocks), size, min_frequency, config.lowercase))
    state = json.loads(library.to_str())
    if unit != "stream":
        _add_boundary(state, kind.line_end if unit == "line" else kind.document_end)
    tokenizer = kind(json.dumps(state, ensure_ascii=False))
    if len(tokenizer) > MOST_TOKENS:
        raise CharlmError(
            f"the text has more than {MOST_TOKENS:,} different tokens ({kind.kind}); set `tokenizer.size`"
        )
    if len(set(tokenizer.tokens) - {kind.unknown_token}) < 2:
        raise CharlmError(
            "the training text has fewer than two different tokens; give a longer text "
            "or lower `tokenizer.min_frequency`"
        )
    return tokenizer


def _vocabulary(model: dict[str, Any]) -> list[str]:
    """Return the names of the tokens in the order of their ids.

    Args:
        model: The entry `model` of a `tokenizer.json`.
    """
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # unigram: pairs of name and log probability
        return [name for name, _ in vocabulary]
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    if [vocabulary[name] for name in names] != list(range(len(names))):
        raise ValueError("the ids are not 0, 1, 2, ...")
    return names


def _add_boundary(state: dict[str, Any], name: str) -> None:
    """Add the boundary token to the vocabulary, if it is missing, and to the post-processor.

    With it in the post-processor, the library can put a boundary token at both ends of an item.

    Args:
        state: The content of a `tokenizer.json`, which is changed in place.
        name: The name of the boundary token in the vocabulary.
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


def _in_blocks(ids: Iterable[int]) -> Iterator[list[int]]:
    """Yield ids as lists.

    An array becomes several lists, because a single list needs many times the memory of the array.
    """
    if isinstance(ids, np.ndarray):
        for start in range(0, len(ids), DECODED):
            yield ids[start : start + DECODED].tolist()
    else:
        yield [int(id) for id in ids]


def _concatenated(parts: Iterable[list[int]]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int32), *(np.asarray(part, np.int32) for part in parts)])


def lowercase_normalizer(lowercase: bool) -> list[normalizers.Normalizer]:
    """Return the library's lower-case normaliser in a list, which is empty if `lowercase` is false.

    The normaliser converts each character by itself; `str.lower` treats a final sigma differently.
    """
    return [normalizers.Lowercase()] if lowercase else []


tokenizer_kinds = Registry("tokenizer", "charlm.text.tokenizers")
