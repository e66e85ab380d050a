"""A tree of tokens in which every path from the root is a text, and the network's states at its nodes."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.generation.processors import log_probabilities
from charlm.generation.stepper import Stepper

MEMORY = 128 * 2**20
"""Bytes of the logits and states that a `Reader` keeps."""


class Reading(NamedTuple):
    """What a network knows after it has read a text.

    Attributes:
        logits: The logits of the next token, (vocab_size,).
        state: The state, (layers, states, 1, hidden).
    """

    logits: NDArray[Any]
    state: Any


@dataclass(eq=False, slots=True, repr=False)
class Node:
    """A token of a text. The text is the path from the root, the token before the text, to this node.

    Texts that begin alike share nodes. A node never changes its place, so every earlier version of
    a text stays reachable by its last node.

    Args:
        parent: The token before this one; None for the root.
        id: The token.
        text: What the token adds to the text as it is shown; empty while a character is incomplete.
        typed: The part of the typed text that the token encodes; None if the model wrote it.
        mixed: What takes the place of the network's own logits and state after this token, if its
            state was set by hand; see `Composition.mix`.

    Attributes:
        depth: Number of tokens before this one; 0 for the root.
        bits: -log2 of the probability that the network gave to the token; None until it is read.
        typed_characters: Number of typed characters up to this node.
        typed_bits: Sum of the bits of the typed tokens up to this node, once it is read.
    """

    parent: Node | None
    id: int
    text: str
    typed: str | None = None
    mixed: Reading | None = None
    depth: int = field(init=False, default=0)
    bits: float | None = field(init=False, default=None)
    typed_characters: int = field(init=False, default=0)
    typed_bits: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.depth = self.parent.depth + 1
            self.typed_characters = self.parent.typed_characters + len(self.typed or "")
        else:
            self.bits = 0.0

    @property
    def character_bits(self) -> float | None:
        """The bits of the node together with those of the tokens before it that began its first character.

        None until the node is read.
        """
        if self.bits is None:
            return None
        bits, node = self.bits, self.parent
        while node is not None and not node.text:
            bits, node = bits + (node.bits or 0.0), node.parent
        return bits

    def with_reading(self, reading: Reading) -> Node:
        """Return a node with the same place and token, after which the logits and the state are given."""
        copy = Node(self.parent, self.id, self.text, self.typed, reading)
        copy.bits, copy.typed_bits = self.bits, self.typed_bits
        return copy


class Reader:
    """A network that reads the texts of a tree, token by token.

    The logits and states of the nodes that were visited last are kept, and those of some earlier
    nodes at regular distances. All others are computed again from the nearest node before them,
    with the same result, bit for bit.

    Args:
        stepper: The network.
        boundary: The token before which the state is reset, if there is one.
        memory: How many bytes of logits and states are kept; half of it for the last nodes.
    """

    def __init__(self, stepper: Stepper, boundary: int | None = None, memory: int = MEMORY) -> None:
        self._stepper, self._boundary, self._memory = stepper, boundary, memory
        self._last: OrderedDict[Node, Reading] = OrderedDict()
        self._spaced: dict[Node, Reading] = {}
        self._spacing = 64  # between the nodes in `_spaced`; doubled when they need too much memory

    def read(self, node: Node) -> Reading:
        """Return the logits and the state after a node; bits of the tokens on its path are filled in."""
        unread = []
        while (reading := self._kept(node)) is None:
            unread.append(node)
            if node.parent is None:
                break
            node = node.parent
        for node in reversed(unread):
            if reading is not None and node.bits is None:
                self._judge(node, reading.logits)
            state = None if reading is None or node.id == self._boundary else reading.state
            logits, state = self._stepper.step(
                np.array([node.id]), self._stepper.initial_state(1) if state is None else state
            )
            reading = Reading(logits[0], state)
            self._keep(node, reading)
        assert reading is not None
        return reading

    def _judge(self, node: Node, logits: NDArray[Any]) -> None:
        """Set the bits of a node, given the logits after its parent."""
        assert node.parent is not None
        node.bits = -float(log_probabilities(logits[None].astype(np.float64))[0, node.id]) / math.log(2)
        node.typed_bits = node.parent.typed_bits + (0.0 if node.typed is None else node.bits)

    def _kept(self, node: Node) -> Reading | None:
        if node.mixed is not None:
            return node.mixed
        if node in self._last:
            self._last.move_to_end(node)
            return self._last[node]
        return self._spaced.get(node)

    def _keep(self, node: Node, reading: Reading) -> None:
        most = max(2, self._memory // (2 * (reading.logits.nbytes + reading.state.nbytes)))
        self._last[node] = reading
        if len(self._last) > most:
            self._last.popitem(last=False)
        if node.depth % self._spacing == 0:
            self._spaced[node] = reading
            while len(self._spaced) > most:
                self._spacing *= 2
                self._spaced = {old: one for old, one in self._spaced.items() if old.depth % self._spacing == 0}
