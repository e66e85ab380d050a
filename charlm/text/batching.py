"""Make batches of a stream of ids: windows of parallel lanes, or items of similar length.

1. `batches` takes a stream and returns `Lanes` (one long text) or `ItemBatches` (lines, documents).
2. Each iteration over such an object is one epoch of `Batch`es. A batch has the rows that this
   process reads, as tensors `(lanes, time)`.
3. An epoch can be stopped after any batch and resumed there by `state_dict` and `load_state_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.text.stream import TokenStream

IGNORED = -100  # the target where nothing is to be predicted; the default `ignore_index` of torch's cross-entropy
POOL = 64  # batches of items that are sorted by length together
RESIDENT = 64 << 20  # bytes of a memory-mapped stream that may be resident before they are released
PAGE = 1 << 12  # bytes that become resident when the next byte of a lane is read
READ_AROUND = 1 << 16  # bytes that become resident when a byte at a random place is read


@dataclass
class Batch:
    """Inputs and targets of one step of training or evaluation, for the rows of this process.

    Attributes:
        inputs: The ids that the network reads, `(lanes, time)` int64.
        targets: The ids that the network predicts, `(lanes, time)` int64: the inputs one token
            later, and `IGNORED` where nothing is to be predicted.
        reset_mask: `(lanes,)` bool, true for the lanes whose state is set to zero before this
            window.
        targets_per_process: Number of targets of this step in all processes, divided by the number
            of processes. With `loss = sum over this process's targets / targets_per_process`, the
            mean over processes of the gradients equals the gradient that one process with all lanes
            would compute.
    """

    inputs: Tensor
    targets: Tensor
    reset_mask: Tensor
    targets_per_process: float

    def enter(self, state: Tensor | None) -> Tensor | None:
        """Return the state at the start of this window: zero for the lanes in `reset_mask`.

        Args:
            state: The state after the previous window, `(layers, states, lanes, hidden)`, or None
                before the first window, for which the result is None, too.
        """
        return None if state is None else state.masked_fill(self.reset_mask[:, None], 0.0)


class _ResumableBatches:
    """The base of `Lanes` and `ItemBatches`: epochs of batches that can be stopped and resumed."""

    def __init__(
        self, stream: TokenStream, batch_size: int, seq_length: int, rank: int, world_size: int, training: bool
    ) -> None:
        if batch_size % world_size:
            raise CharlmError(
                f"`data.batch_size` {batch_size} cannot be shared by {world_size} devices; "
                f"take a multiple of {world_size}"
            )
        if len(stream) < 2:
            raise CharlmError(f"a text of {len(stream)} tokens holds nothing to predict; give a longer text")
        self.stream = stream
        self.batch_size = batch_size
        self.seq_length = seq_length
        self.world_size = world_size
        self.training = training
        rows = batch_size // world_size
        self.rows = slice(rank * rows, (rank + 1) * rows)  # rows of this process in a batch
        self.epoch = 0
        self.position = 0  # the batch that comes next
        self._next_start: int | None = 0  # the batch at which the next pass starts; None: at the first of a new epoch
        self._resident = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch, which is the same in every epoch."""
        raise NotImplementedError

    def _batches_from(self, position: int) -> Iterator[Batch]:
        """Yield the batches of this epoch, starting with batch number `position`."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Batch]:
        start, self._next_start = self._next_start, None
        if start is None or start >= len(self):
            start, self.epoch = 0, self.epoch + 1
        self.position = start
        for batch in self._batches_from(start):
            # Counted before the batch is yielded, so that a checkpoint made after the step on this
            # batch does not repeat the batch.
            self.position += 1
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch that the next iteration reads.

        The iteration starts at the first batch, unless `load_state_dict` has just resumed this
        epoch.
        """
        if epoch != self.epoch or self._next_start is None:
            self.epoch, self._next_start = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position to resume from: the epoch and the number of the next batch."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume at a position that `state_dict` returned for the same text."""
        self.epoch = state["epoch"]
        self.position = self._next_start = state["position"]

    def _release_after(self, size: int) -> None:
        """Count `size` more bytes of the stream as resident in memory.

        If the count exceeds `RESIDENT`, release the stream's memory and start to count again.
        """
        self._resident += size
        if self._resident > RESIDENT:
            self._resident = 0
            self.stream.release()


class Lanes(_ResumableBatches):
    """A stream cut into lanes of equal length, read side by side: a batch is one window of each.

    With 3 lanes and windows of 2 tokens, the text `abcdefghijklmnopqrs` is read like this:

        lane 0   a b | c d | e f      inputs   a b    targets   b c
        lane 1   g h | i j | k l               g h              h i
        lane 2   m n | o p | q r               m n              n o     (s is a target only)

    The next batch is `c d`, `i j`, `o p`: each lane continues where its last window ended, so the final state of one
    window is the initial state of the next. Gradients stop at the edge of a window (truncated back-propagation
    through time); the state does not:

        state 0 -> [a b] -> state -> [c d] -> state -> [e f]
                    <---              <---              <---   gradients

    Args:
        stream: The ids of the text.
        batch_size: Number of lanes of all processes together.
        seq_length: Number of tokens of a window; the last window of an epoch may be shorter.
        rank: Number of this process; its first lane is `rank * batch_size / world_size`.
        world_size: Number of processes that share the lanes.
        training: True: all lanes have the same length, so up to `batch_size - 1` tokens at the end
            of the stream are left out. False (evaluation): every token but the first is predicted;
            the last lanes may be shorter, and their targets are padded with `IGNORED`.
        state_reset: Probability that the state of a lane is reset before a window. Without resets
            the network sees a zero state only once per epoch, and predicts the beginning of a
            text badly (Melis et al. 2018 use 0.01).
        seed: Seed of the random resets, which otherwise depend only on the epoch and the window.

    Raises:
        CharlmError: the text is too short for so many lanes, or the processes cannot share them equally.
    """

    def __init__(
        self,
        stream: TokenStream,
        batch_size: int,
        seq_length: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        training: bool = True,
        state_reset: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(stream, batch_size, seq_length, rank, world_size, training)
        self.state_reset = state_reset
        self.seed = seed
        targets = len(stream) - 1
        self.length = targets // batch_size if training else -(-targets // batch_size)
        if not self.length:
            raise CharlmError(
                f"a text of {len(stream)} tokens is too short for {batch_size} lanes; "
                f"lower `data.batch_size` to {targets} or less"
            )

    def __len__(self) -> int:
        return -(-self.length // self.seq_length)

    def _batches_from(self, position: int) -> Iterator[Batch]:
        ids = np.asarray(self.stream.ids)  # the same mapped memory, but a plain array is sliced faster
        starts = np.arange(self.batch_size) * self.length
        # Targets of each lane: only in evaluation do the last lanes have fewer than the others.
        lengths = np.clip(len(ids) - 1 - starts, 0, self.length)
        for number in range(position, len(self)):
            begin = number * self.seq_length
            time = min(self.seq_length, self.length - begin)
            counts = np.clip(lengths - begin, 0, time)  # (batch_size,) targets of each lane in this window
            window = gather(ids, (starts[self.rows] + begin).tolist(), time + 1)
            inputs, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()
            if not self.training:
                targets[torch.from_numpy(np.arange(time) >= counts[self.rows, None])] = IGNORED
            self._release_after(max(window.numel() * ids.itemsize, len(window) * PAGE))
            yield Batch(inputs, targets, self._reset_mask(number), int(counts.sum()) / self.world_size)

    def _reset_mask(self, number: int) -> Tensor:
        """Return which lanes of this process start window `number` of the epoch from a zero state.

        The result is a bool tensor `(lanes of this process,)`.
        """
        probability = 1.0 if number == 0 else self.state_reset
        if not probability:
            return torch.zeros(self.batch_size // self.world_size, dtype=torch.bool)
        random = np.random.default_rng([self.seed, self.epoch, number])
        return torch.from_numpy(random.random(self.batch_size)[self.rows] < probability)


def gather(ids: np.ndarray, starts: Sequence[int], time: int) -> Tensor:
    """Return `time` ids from each start on, `(starts, time)` int64.

    Places after the end of the text are zero.
    """
    rows = np.zeros((len(starts), time), np.int64)
    for row, start in zip(rows, starts, strict=True):
        part = ids[start : start + time]
        row[: len(part)] = part
    return torch.from_numpy(rows)


class ItemBatches(_ResumableBatches):
    """Items in batches of similar length.

    An item is read from the boundary token before it; its last target is the boundary token after
    it. An item longer than `seq_length` takes several windows. The state is carried from one window
    of an item to the next, so `reset_mask` is true only for its first window. In training every
    epoch has its own order, drawn from the seed and the number of the epoch. Items are first
    sorted by their number of windows, so that every epoch has the same number of batches. Among
    items with equally many windows, random groups of up to `POOL` batches are then sorted by
    length, so that there is little padding.

    Args:
        stream: The ids of the text; it must have `starts`.
        batch_size: Number of items of a batch in all processes together. One batch of an epoch may
            have fewer; the targets of its other rows are `IGNORED`.
        seq_length: Most tokens of a window; a batch of short items is narrower.
        rank: Number of this process; its first row of a batch is `rank * batch_size / world_size`.
        world_size: Number of processes that share the rows of a batch.
        training: True: random order. False (evaluation): always the same order, the longest items first.
        seed: Seed of the random order.

    Raises:
        CharlmError: the text has nothing to predict, or the processes cannot share a batch equally.
    """

    def __init__(
        self,
        stream: TokenStream,
        batch_size: int,
        seq_length: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        training: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(stream, batch_size, seq_length, rank, world_size, training)
        if stream.starts is None:
            raise ValueError("a stream without items is read in lanes")
        self.seed = seed
        self.starts = np.asarray(stream.starts)
        self.lengths = np.diff(self.starts, append=len(stream) - 1)  # (items,) targets of each
        self.windows = -(-self.lengths // seq_length)
        longest_first = np.sort(self.windows)[::-1]
        self.length = int(longest_first[::batch_size].sum())

    def __len__(self) -> int:
        return self.length

    def order(self) -> list[np.ndarray]:
        """Return the batches of this epoch as indices of items.

        Each batch is an array `(items,)` of at most `batch_size` indices.
        """
        count = len(self.windows)
        splits = range(self.batch_size, count, self.batch_size)
        if not self.training:
            return np.split(np.lexsort((-self.lengths, -self.windows)), splits)
        random = np.random.default_rng([self.seed, self.epoch])
        shuffled = random.permutation(count)
        pools = np.arange(count) // (POOL * self.batch_size)
        ordered = shuffled[np.lexsort((self.lengths[shuffled], pools, -self.windows[shuffled]))]
        batches = np.split(ordered, splits)
        return [batches[index] for index in random.permutation(len(batches))]

    def _batches_from(self, position: int) -> Iterator[Batch]:
        first = 0
        for items in self.order():
            windows = int(self.windows[items].max())
            for window in range(max(position - first, 0), windows):
                yield self._window(items, window)
            first += windows

    def _window(self, items: np.ndarray, window: int) -> Batch:
        """Return one window of the items of a batch.

        Args:
            items: The indices of the items.
            window: Number of the window; 0 has the first `seq_length` tokens of each item.
        """
        begin = window * self.seq_length
        counts = np.clip(self.lengths[items] - begin, 0, self.seq_length)  # targets of each item in this window
        time = int(counts.max())
        rows = self.rows.stop - self.rows.start
        empty = (0, rows - len(items[self.rows]))  # rows without an item, in the last batch
        starts = np.pad(self.starts[items[self.rows]] + begin, empty)
        padding = torch.from_numpy(np.arange(time) >= np.pad(counts[self.rows], empty)[:, None])
        ids = gather(np.asarray(self.stream.ids), starts.tolist(), time + 1)
        inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        inputs[padding], targets[padding] = 0, IGNORED
        self._release_after(rows * READ_AROUND)
        return Batch(inputs, targets, torch.full((rows,), window == 0), int(counts.sum()) / self.world_size)


def batches(stream: TokenStream, batch_size: int, seq_length: int, **options: Any) -> Lanes | ItemBatches:
    """Return the batches of a stream: `ItemBatches` if it has items, else `Lanes`.

    Args:
        stream: The ids of the text.
        batch_size: Number of items or lanes of a batch.
        seq_length: Number of tokens of a window.
        options: Further arguments of the class; `state_reset` is ignored if the stream has
            items.
    """
    if stream.starts is not None:
        options.pop("state_reset", None)  # every item is read from its start
        return ItemBatches(stream, batch_size, seq_length, **options)
    return Lanes(stream, batch_size, seq_length, **options)
