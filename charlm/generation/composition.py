"""`Composition`: a text that a person and a network write together, token by token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.config.fields import Probability
from charlm.config.plain import checked
from charlm.errors import CharlmError, nearest
from charlm.generation.processors import generation_settings, processors
from charlm.generation.sampling import Sampler
from charlm.generation.spelling import Spelling
from charlm.generation.stepper import Stepper
from charlm.generation.text_tree import MEMORY, Node, Reader, Reading

if TYPE_CHECKING:
    from charlm.text.tokenization import Tokenizer


class Guess(NamedTuple):
    """A token that the network proposes.

    Attributes:
        id: The token.
        text: What the token adds to the text; for a part of a character its bytes, such as `\\\\xf0`.
        probability: Its probability after the logits processors.
    """

    id: int
    text: str
    probability: float


class Version(NamedTuple):
    """The text at one moment.

    Attributes:
        node: The last token.
        pending: The end of the typed text that is not yet a token: the beginning of a word.
    """

    node: Node
    pending: str = ""


class Composition:
    """A text that a person types and a network continues, with all its earlier versions.

    What was typed after the last token of the network is encoded as a whole whenever it changes,
    from the last line end on, because a further character may change the tokens before it. If the
    vocabulary lacks the last piece, but has tokens that begin with it, the piece is pending: it
    belongs to the text, but the network has not read it, and proposes only tokens that begin with
    it. The same holds for a space at the end, if the vocabulary has words that include the space
    before them. Any other unknown piece stays in the text, and the network reads the unknown token
    for it.

    Each change starts a new step of `undo`, except that the characters of a word are one step.
    Tokens are drawn with random numbers that depend on the seed and on how many tokens have been
    drawn before. So the same calls give the same text, but a continuation after `undo` is a new one.

    Args:
        stepper: The network.
        tokenizer: Its vocabulary.
        seed: The seed of the random numbers.
        memory: How many bytes of logits and states are kept; see `Reader`.
        values: Values of logits processors and their parameters by name.

    Attributes:
        bookmarks: Versions of the text by name; see `bookmark`.
        initial: The values of the logits processors at the beginning.
    """

    def __init__(
        self, stepper: Stepper, tokenizer: Tokenizer, *, seed: int = 1, memory: int = MEMORY, **values: Any
    ) -> None:
        self.tokenizer, self.seed = tokenizer, seed
        self._spelling = Spelling(tokenizer)
        self._reader = Reader(stepper, tokenizer.boundary, memory)
        self._version = Version(Node(None, tokenizer.start(), ""))
        self._path: list[Node] = []
        self._position: int | None = None  # None: at the end
        self._earlier: list[Version] = []
        self._later: list[Version] = []
        self._action: object = None  # the last one, if it can be extended
        self._drawn = 0
        self.bookmarks: dict[str, Version] = {}
        self._values: dict[str, Any] = {}
        self.change(**values)
        self.initial = self.values

    # What the text is.

    @property
    def path(self) -> list[Node]:
        """The tokens of the text, without the start token. The list is used again: copy it to keep it."""
        missing, node = [], self._version.node
        while node.parent is not None and self._path[node.depth - 1 : node.depth] != [node]:
            missing.append(node)
            node = node.parent
        self._path[node.depth :] = reversed(missing)
        return self._path

    @property
    def pending(self) -> str:
        """The end of the typed text that is not yet a token."""
        return self._version.pending

    @property
    def text(self) -> str:
        """The whole text; bytes at its end that are no character are U+FFFD."""
        return "".join(node.text for node in self.path) + self.unfinished + self.pending

    @property
    def unfinished(self) -> str:
        """U+FFFD if the last tokens are bytes of a character that is not complete, else nothing."""
        return self._spelling.unfinished(self._version.node)

    @property
    def position(self) -> int:
        """Number of tokens before the cursor."""
        return self._version.node.depth if self._position is None else self._position

    @property
    def at_end(self) -> bool:
        """Whether the cursor is at the end of the text."""
        return self._position is None

    @property
    def values(self) -> dict[str, Any]:
        """The values of the logits processors and their parameters that are not the defaults."""
        return dict(self._values)

    @property
    def reading(self) -> Reading:
        """The logits and the state at the cursor."""
        return self._reader.read(self._here.node)

    # The place that the next change belongs to.

    def move_to(self, position: int | None) -> None:
        """Move the cursor behind so many tokens; None: to the end. What follows the cursor is replaced by a change."""
        end = self._version.node.depth + bool(self.pending)
        self._position = None if position is None or position >= end else max(0, position)
        self._action = None

    @property
    def _here(self) -> Version:
        if self._position is None:
            return self._version
        node = self._version.node
        if self._position < node.depth:
            node = self.path[self._position].parent or node
        return Version(node)

    # What a person does.

    def type(self, text: str) -> list[str]:
        """Add typed text at the cursor, and return the new pieces that the vocabulary lacks.

        Raises:
            CharlmError: the text is no Unicode text; nothing changes.
        """
        here = self._here
        if (here.pending or here.node.text)[-1:].isspace() and not text.isspace():
            self._action = None  # a new word
        node, typed = self._typed(here)
        return self._retype(node, typed + text, "type")

    def delete(self) -> None:
        """Remove the character before the cursor; what is left of a token of several characters counts as typed."""
        here = self._here
        if here.pending:
            before, left = here.node, here.pending[:-1]
        elif here.node.parent is None:
            return
        else:
            before, last = here.node.parent, here.node.text if here.node.typed is None else here.node.typed
            while len(last) < 2 and before.parent is not None and not before.text:  # other bytes of the character
                before = before.parent
            left = last[:-1]
        node, text = self._typed(Version(before))
        self._retype(node, text + left, "delete")

    def choose(self, rank: int) -> None:
        """Add one of the guesses at the cursor; rank 1 is the most probable one.

        Raises:
            CharlmError: there are fewer guesses.
        """
        guesses = self.guesses(rank) if rank > 0 else []
        if not guesses or len(guesses) < rank:
            raise CharlmError(f"there is no guess {rank}; choose a number that is shown")
        self._set(Version(self._child(self._here, guesses[-1].id)))

    def generate(self, tokens: int) -> Iterator[str]:
        """Let the network write at the cursor, and yield the text that each token adds.

        It ends after so many tokens, or earlier at the end of a line or document, for a model of
        such items. All tokens are one step of `undo`.

        Raises:
            CharlmError: the logits processors exclude every token, or the logits are not finite.
        """
        action = object()
        for _ in range(tokens):
            here = self._here
            logits, sampler = self._prepared(here)
            id = int(sampler(logits)[0])
            self._drawn += 1
            node = self._child(here, id)
            self._set(Version(node), action)
            yield node.text
            if id == self.tokenizer.boundary:
                return

    def guesses(self, count: int) -> list[Guess]:
        """Return the tokens that are most probable at the cursor, in falling order, at most so many."""
        logits, sampler = self._prepared(self._here)
        weights = sampler.weights(logits)[0]
        weights /= weights.sum()
        count = min(count, int(np.count_nonzero(weights)))
        top = np.flatnonzero(weights >= np.partition(weights, -count)[-count])
        top = top[np.lexsort((top, -weights[top]))][:count]
        return [Guess(int(id), self.tokenizer.tokens[id], float(weights[id])) for id in top]

    def read(self, tokens: int) -> int:
        """Let the network read at most so many tokens before the cursor, and return how many are still unread.

        Every other method reads what it needs; this one allows to read a long text in parts.
        """
        path, end = self.path, self.position
        first = bisect_left(path, True, 0, end, key=lambda node: node.bits is None)
        upto = min(first + tokens, end)
        self._reader.read(path[upto - 1] if upto else self._here.node)
        return end - upto

    def undo(self) -> bool:
        """Return to the version before the last change; the result is False if there is none."""
        return self._back(self._earlier, self._later)

    def redo(self) -> bool:
        """Return to the version before the last `undo`; the result is False if there is none."""
        return self._back(self._later, self._earlier)

    # Versions of the text, and their states.

    def bookmark(self, name: str) -> None:
        """Give a name to the text up to the cursor."""
        self.bookmarks[name] = self._here

    def go_to(self, name: str) -> None:
        """Replace the text by that of a bookmark."""
        self._set(self._bookmarked(name))

    def mix(self, first: str, second: str, weight: float = 0.5) -> None:
        """Replace the state at the cursor by the interpolation of the states at two bookmarks.

        The text stays as it is. The new state is (1 - weight) s1 + weight s2, for the states s1 at
        the first and s2 at the second bookmark; the logits of the next token are interpolated in
        the same way.

        Args:
            first, second: Names of bookmarks.
            weight: The share of the second, from 0 to 1.

        Raises:
            CharlmError: there is no such bookmark, or the weight is out of range.
        """
        share = checked("weight", Probability, weight)
        one, other = (self._reader.read(self._bookmarked(name).node) for name in (first, second))
        here = self._here
        self._reader.read(here.node)  # the new node has its bits
        mixed = Reading((1 - share) * one.logits + share * other.logits, (1 - share) * one.state + share * other.state)
        self._set(Version(here.node.with_reading(mixed), here.pending))

    def change(self, **values: Any) -> None:
        """Give new values to logits processors or their parameters.

        Raises:
            CharlmError: an unknown name or a value out of its range; nothing changes.
        """
        every = generation_settings()
        for name in values:
            if name not in every:
                raise CharlmError(f"there is no logits processor {name!r}{nearest(name, every)}")
        parsed = self._values | {name: every[name].parse(value) for name, value in values.items()}
        parsed = {name: value for name, value in parsed.items() if value != every[name].default}
        Sampler(self.seed, 1, self.tokenizer, **parsed)  # raises the error
        self._values = parsed

    # How it is done.

    def _bookmarked(self, name: str) -> Version:
        if name not in self.bookmarks:
            known = f"the bookmarks are {', '.join(self.bookmarks)}" if self.bookmarks else "there are none yet"
            raise CharlmError(f"there is no bookmark {name!r}; {known}")
        return self.bookmarks[name]

    def _set(self, version: Version, action: object = None) -> None:
        """Make a version the current one, as a new step of `undo` unless it extends the last action."""
        if version == self._version and self._position is None:
            return
        if action is None or action != self._action:
            self._earlier.append(self._version)
        self._later.clear()
        self._version, self._position, self._action = version, None, action

    def _back(self, source: list[Version], target: list[Version]) -> bool:
        if not source:
            return False
        target.append(self._version)
        self._version, self._position, self._action = source.pop(), None, None
        return True

    def _typed(self, version: Version) -> tuple[Node, str]:
        """Return what was typed last, up to the line end before it, and the node that it follows."""
        node, parts = version.node, [version.pending]
        while node.parent is not None and node.typed is not None and node.mixed is None:
            if node.typed.endswith("\n"):
                break
            parts.append(node.typed)
            node = node.parent
        return node, "".join(reversed(parts))

    def _retype(self, node: Node, text: str, action: str) -> list[str]:
        """Let the text go on with typed text after a node, and return its new pieces that the vocabulary lacks."""
        parts, pending = self._spelling.split(text)
        lacking, path = [], self.path
        for number, (id, part) in enumerate(parts):
            same = path[node.depth] if node.depth < len(path) else None
            if same is not None and (same.parent, same.id, same.typed, same.mixed) == (node, id, part, None):
                node = same
                continue
            node = Node(node, id, part if number else self._spelling.typed(node, id, part), part)
            if id == self.tokenizer.unknown:
                lacking.append(part)
        self._set(Version(node, pending), action)
        return lacking

    def _child(self, version: Version, id: int) -> Node:
        """Return a node for a token that the network writes after a version of the text."""
        return Node(version.node, id, self._spelling.added(version.node, id, version.pending))

    def _prepared(self, version: Version) -> tuple[NDArray[Any], Sampler]:
        """Return the logits of the next token, (1, vocab_size), and a sampler that has read the text.

        The random numbers of the sampler belong to the next token that is drawn, so that `guesses`
        sees the same ones as `generate`.
        """
        logits = self._reader.read(version.node).logits[None]
        if version.pending:
            fitting = self._spelling.beginning_with(version.pending)
            if fitting.any():  # else it is white space that no token encodes
                logits = np.where(fitting, logits, -np.inf)
        seed = np.random.SeedSequence([self.seed, self._drawn]).generate_state(1, np.uint64)[0]
        sampler = Sampler(int(seed >> np.uint64(1)), 1, self.tokenizer, **self._values)
        if any({"ids", "bits", "step"} & {*processors[name].needs} for name in self._values if name in processors):
            before = self.path[: version.node.depth]
            bits = [node.bits for node in before if node.typed is None]
            ids = [self.tokenizer.start(), *(node.id for node in before)]
            sampler.start(np.array([ids]), np.array([bits], np.float64))
        return logits, sampler
