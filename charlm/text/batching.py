"""Streams become batches: windows of lanes read side by side, or items of like length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlm.errors import CharlmError
from charlm.text.stream import TokenStream

IGNORED = -100  # the target where nothing is to be predicted; torch's cross-entropy leaves it out
POOL = 64  # batches of items that are drawn together before they are sorted by length
TOUCHED = 64 << 20  # bytes of a memory-mapped stream that may become resident before they are let go
PAGES = 1 << 16  # bytes that the system maps around one that is read


@dataclass
class Batch:
    """One step of training or evaluation.

    Attributes:
        inputs: `(lanes, time)` int64.
        targets: `(lanes, time)` int64, one token later; `IGNORED` where nothing is to be predicted.
        fresh: `(lanes,)` bool, the lanes whose recurrent state starts from zero here.
        share: Targets of this step over all ranks, divided by the number of ranks. With
            `loss = sum over this rank's targets / share`, the mean over ranks of the gradients is the gradient of
            the mean over all targets, as one process with all lanes has it.
    """

    inputs: Tensor
    targets: Tensor
    fresh: Tensor
    share: float

    def enter(self, state: Tensor | None) -> Tensor | None:
        """The state this window starts from: what the last one left, zero in the lanes that are fresh.

        Args:
            state: `(layers, slots, lanes, hidden)`, or None before the first window.
        """
        return None if state is None else state.masked_fill(self.fresh[:, None], 0.0)


class _Batches:
    """What `Lanes` and `Items` have in common: passes that can be left and resumed at any batch."""

    def __init__(
        self, stream: TokenStream, batch_size: int, seq_length: int, rank: int, world_size: int, whole: bool
    ) -> None:
        if batch_size % world_size:
            raise CharlmError(
                f"--data.batch_size {batch_size} cannot be shared by {world_size} devices; "
                f"take a multiple of {world_size}"
            )
        if len(stream) < 2:
            raise CharlmError(f"a text of {len(stream)} tokens holds nothing to predict; give a longer text")
        self.stream = stream
        self.batch_size = batch_size
        self.seq_length = seq_length
        self.world_size = world_size
        self.whole = whole
        lanes = batch_size // world_size
        self.mine = slice(rank * lanes, (rank + 1) * lanes)
        self.epoch = 0
        self.position = 0  # the batch that comes next
        self._resumed: int | None = 0  # where the next pass starts; None: at the start of the next epoch
        self._touched = 0

    def __len__(self) -> int:
        """Batches of a pass, the same in every epoch."""
        raise NotImplementedError

    def _from(self, position: int) -> Iterator[Batch]:
        """The batches of this epoch from a position on."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Batch]:
        start, self._resumed = self._resumed, None
        if start is None or start >= len(self):
            start, self.epoch = 0, self.epoch + 1
        self.position = start
        for batch in self._from(start):
            # Counted before it is handed out: a checkpoint made after the step must not repeat it.
            self.position += 1
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: the next pass starts at its first batch, unless it was resumed in the midst of it."""
        if epoch != self.epoch or self._resumed is None:
            self.epoch, self._resumed = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where this pass stands."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another pass over the same text stood."""
        self.epoch = state["epoch"]
        self.position = self._resumed = state["position"]

    def _release(self, touched: int) -> None:
        """Keep the resident part of a memory-mapped stream small, after so many more bytes of it were touched."""
        self._touched += touched
        if self._touched > TOUCHED:
            self._touched = 0
            self.stream.release()


class Lanes(_Batches):
    """A stream cut into equal lanes that are read side by side, a window of each at a time.

    With 3 lanes the text `abcdefghijklmnopqrs` lies like this, and a window of 2 tokens is one batch:

        lane 0   a b | c d | e f      inputs   a b    targets   b c
        lane 1   g h | i j | k l               g h              h i
        lane 2   m n | o p | q r               m n              n o     (s is a target only)

    The next batch is `c d`, `i j`, `o p`: each lane goes on where it stopped, so the recurrent state that a window
    leaves is the state the next one starts from. Gradients stop at the window's edge (truncated back-propagation
    through time), what was read does not:

        state 0 -> [a b] -> state -> [c d] -> state -> [e f]
                    <---              <---              <---   gradients

    Args:
        stream: What is read.
        batch_size: Lanes of all ranks together.
        seq_length: Tokens of a window; the last one of an epoch may be shorter.
        rank: This process reads lanes `rank * batch_size / world_size` and following.
        world_size: Processes that share the lanes.
        whole: False cuts lanes of equal length, so up to `batch_size - 1` tokens at the end of the stream are left
            out (training). True predicts every token; the last lanes may be shorter, filled up with `IGNORED`.
        state_reset: Chance that a lane is fresh in a window within an epoch as well. Without it a network sees a
            zero state once an epoch, forgets how to begin, and does badly at the start of a text (Melis et al. 2018
            take 0.01).
        seed: Of those chances; they depend on nothing else but the epoch and the window.
    """

    def __init__(
        self,
        stream: TokenStream,
        batch_size: int,
        seq_length: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        whole: bool = False,
        state_reset: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(stream, batch_size, seq_length, rank, world_size, whole)
        self.state_reset = state_reset
        self.seed = seed
        targets = len(stream) - 1
        self.length = -(-targets // batch_size) if whole else targets // batch_size
        if not self.length:
            raise CharlmError(
                f"a text of {len(stream)} tokens is too short for {batch_size} lanes; "
                f"lower --data.batch_size to {targets} or less"
            )

    def __len__(self) -> int:
        return -(-self.length // self.seq_length)

    def _from(self, position: int) -> Iterator[Batch]:
        ids = np.asarray(self.stream.ids)  # still the mapped file, but sliced quicker
        starts = np.arange(self.batch_size) * self.length
        # Targets of each lane: only the last lanes of a whole stream have fewer than the others.
        lengths = np.clip(len(ids) - 1 - starts, 0, self.length)
        mine = starts[self.mine]
        for index in range(position, len(self)):
            begin = index * self.seq_length
            time = min(self.seq_length, self.length - begin)
            counted = np.clip(lengths - begin, 0, time)
            window = _rows(ids, mine + begin, time + 1)
            inputs, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()
            if self.whole:
                targets[torch.from_numpy(np.arange(time) >= counted[self.mine, None])] = IGNORED
            self._release(max(window.numel() * ids.itemsize, len(mine) * PAGES // 16))
            yield Batch(inputs, targets, self._fresh(index), int(counted.sum()) / self.world_size)

    def _fresh(self, index: int) -> Tensor:
        """The lanes of this process that start window `index` from zero."""
        chance = 1.0 if index == 0 else self.state_reset
        if not chance:
            return torch.zeros(self.batch_size // self.world_size, dtype=torch.bool)
        draw = np.random.default_rng([self.seed, self.epoch, index])
        return torch.from_numpy(draw.random(self.batch_size)[self.mine] < chance)


def _rows(ids: np.ndarray, starts: np.ndarray, time: int) -> Tensor:
    """Ids from each start on, `(starts, time)` int64; past the end of the text, zeros."""
    rows = np.zeros((len(starts), time), np.int64)
    for row, start in zip(rows, starts.tolist(), strict=True):
        part = ids[start : start + time]
        row[: len(part)] = part
    return torch.from_numpy(rows)


class Items(_Batches):
    """Items, each from its opening to its closing boundary, in batches of like length.

    Every epoch has its own order, drawn from the seed and the number of the epoch. An item longer than `seq_length`
    goes on in further windows, into which the state is carried (`fresh` only in the first). Items that share a batch
    need the same number of windows as far as possible, so that the number of windows is the same in every epoch;
    among those, draws of many batches are sorted by length, so that little is filled up with `IGNORED`.

    Args:
        stream: What is read; it has `starts`.
        batch_size: Items of a batch, all ranks together; the last batch may hold fewer, its other rows `IGNORED`.
        seq_length: Most tokens of a window; a batch of short items is narrower.
        rank: This process reads items `rank * batch_size / world_size` and following of each batch.
        world_size: Processes that share the items.
        whole: No draw: always the same order, the longest first.
        seed: Of the order.
    """

    def __init__(
        self,
        stream: TokenStream,
        batch_size: int,
        seq_length: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        whole: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(stream, batch_size, seq_length, rank, world_size, whole)
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
        """The items of each batch of this epoch, `(up to batch_size,)` each."""
        count = len(self.windows)
        if self.whole:
            drawn = np.lexsort((-self.lengths, -self.windows))
            return np.split(drawn, range(self.batch_size, count, self.batch_size))
        draw = np.random.default_rng([self.seed, self.epoch])
        mixed = draw.permutation(count)
        pools = np.arange(count) // (POOL * self.batch_size)
        drawn = mixed[np.lexsort((self.lengths[mixed], pools, -self.windows[mixed]))]
        batches = np.split(drawn, range(self.batch_size, count, self.batch_size))
        return [batches[index] for index in draw.permutation(len(batches))]

    def _from(self, position: int) -> Iterator[Batch]:
        first = 0
        for batch in self.order():
            windows = int(self.windows[batch].max())
            for window in range(max(position - first, 0), windows):
                yield self._window(batch, window)
            first += windows

    def _window(self, batch: np.ndarray, window: int) -> Batch:
        begin = window * self.seq_length
        left = np.clip(self.lengths[batch] - begin, 0, self.seq_length)
        share = int(left.sum()) / self.world_size
        time = int(left.max())
        mine, left = batch[self.mine], left[self.mine]
        lanes = self.mine.stop - self.mine.start
        missing = (0, lanes - len(mine))  # rows, in the last batch
        starts, left = np.pad(self.starts[mine] + begin, missing), np.pad(left, missing)
        rows = _rows(np.asarray(self.stream.ids), starts, time + 1)
        unused = torch.from_numpy(np.arange(time) >= left[:, None])
        inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        inputs[unused], targets[unused] = 0, IGNORED
        self._release(lanes * PAGES)
        return Batch(inputs, targets, torch.full((lanes,), window == 0), share)


def batches(stream: TokenStream, batch_size: int, seq_length: int, **options: Any) -> Lanes | Items:
    """Lanes of a stream, or items of a stream that has them; the options are those of `Lanes` and `Items`."""
    if stream.starts is not None:
        options.pop("state_reset", None)  # every item is read from its start
        return Items(stream, batch_size, seq_length, **options)
    return Lanes(stream, batch_size, seq_length, **options)


def fit_to(
    stream: TokenStream, batch_size: int, seq_length: int, *, what: str = "training text", world_size: int = 1
) -> tuple[int, int, str | None]:
    """A batch size and a window that a stream is long enough for, and a note if they had to be lowered.

    Args:
        stream: What will be read.
        batch_size: Lanes (or items a batch) that are wished for.
        seq_length: Window that is wished for.
        what: The text's name in messages.
        world_size: Processes that will share the lanes: the batch size stays a multiple of it.

    Raises:
        CharlmError: there is not one lane of two tokens for each process.
    """
    most = len(stream) - 1 if stream.starts is None else len(stream.starts)
    if most < world_size:
        raise CharlmError(
            f"the {what} has {len(stream)} tokens, too few to predict anything"
            f"{f' on {world_size} devices' if world_size > 1 else ''}; give a longer text"
        )
    lanes, window = batch_size, seq_length
    if stream.starts is not None:
        lanes = min(lanes, most)
    elif most // lanes < window:
        lanes = max(min(lanes, most // window), 1)
    lanes = max(lanes - lanes % world_size, world_size) if lanes != batch_size else batch_size
    if stream.starts is None:
        window = min(window, most // lanes)
    changes = [
        f"--data.{name} {old} to {new}"
        for name, old, new in (("batch_size", batch_size, lanes), ("seq_length", seq_length, window))
        if new != old
    ]
    if not changes:
        return lanes, window, None
    size = f"{len(stream):,} tokens" if stream.starts is None else f"{most:,} items"
    return lanes, window, f"the {what} has only {size}: lowered {' and '.join(changes)}"
