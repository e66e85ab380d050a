"""Lanes and items: every token is predicted once, after the token before it, by one of the processes."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.errors import CharlmError
from charlm.text import batching
from charlm.text.batching import IGNORED, Batch, ItemBatches, Lanes, batches
from charlm.text.stream import Counts, TokenStream


def stream_of(count: int) -> TokenStream:
    """A stream whose ids are their positions."""
    return TokenStream(np.arange(count, dtype=np.uint16), None, Counts(count), Counts(count - 1))


def items_of(lengths: list[int]) -> TokenStream:
    """Items of these lengths, every token a number of its own, between boundaries 0: `0 1 2 0 3 0`."""
    ids, starts, next_id = [0], [], 1
    for length in lengths:
        starts.append(len(ids) - 1)
        ids += [*range(next_id, next_id + length), 0]
        next_id += length
    return TokenStream(np.array(ids, np.uint16), np.array(starts), Counts(len(ids)), Counts(len(ids) - 1))


def pairs(batch: Batch) -> list[tuple[int, int]]:
    """What is predicted from what."""
    kept = batch.targets != IGNORED
    return list(zip(batch.inputs[kept].tolist(), batch.targets[kept].tolist(), strict=True))


def same(batch: Batch, other: Batch) -> bool:
    return (
        torch.equal(batch.inputs, other.inputs)
        and torch.equal(batch.targets, other.targets)
        and torch.equal(batch.reset_mask, other.reset_mask)
        and batch.targets_per_process == other.targets_per_process
    )


def test_lanes_are_read_side_by_side() -> None:
    text = "abcdefghijklmnopqrs"
    stream = TokenStream(np.array([*text.encode()], np.uint8), None, Counts(19), Counts(18))
    lanes = Lanes(stream, 3, 2)

    def words(rows: torch.Tensor) -> list[str]:
        return [bytes(row).decode() for row in rows.tolist()]

    read = [
        (words(batch.inputs), words(batch.targets), batch.reset_mask.tolist(), batch.targets_per_process)
        for batch in lanes
    ]
    assert read == [
        (["ab", "gh", "mn"], ["bc", "hi", "no"], [True] * 3, 6.0),
        (["cd", "ij", "op"], ["de", "jk", "pq"], [False] * 3, 6.0),
        (["ef", "kl", "qr"], ["fg", "lm", "rs"], [False] * 3, 6.0),
    ]
    assert len(lanes) == 3


def test_what_does_not_fill_the_lanes_is_left_out_and_the_last_window_is_short() -> None:
    read = list(Lanes(stream_of(18), 3, 4))  # 17 targets: 5 for each lane
    assert [batch.inputs.tolist() for batch in read] == [
        [[0, 1, 2, 3], [5, 6, 7, 8], [10, 11, 12, 13]],
        [[4], [9], [14]],
    ]
    assert read[1].targets.tolist() == [[5], [10], [15]]
    assert [batch.targets_per_process for batch in read] == [12, 3]
    assert all(batch.inputs.dtype == batch.targets.dtype == torch.int64 for batch in read)
    assert all(batch.inputs.is_contiguous() and batch.targets.is_contiguous() for batch in read)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 60), st.integers(1, 9), st.integers(1, 12))
def test_a_whole_stream_is_predicted_once_in_order(tokens: int, lanes: int, window: int) -> None:
    reader = Lanes(stream_of(tokens), lanes, window, training=False)
    read = list(reader)
    assert len(read) == len(reader)
    assert sorted(pair for batch in read for pair in pairs(batch)) == list(pairwise(range(tokens)))
    assert sum(batch.targets_per_process for batch in read) == tokens - 1
    assert all(batch.inputs.shape == batch.targets.shape == (lanes, batch.inputs.shape[1]) for batch in read)
    inputs = torch.cat([batch.inputs for batch in read], dim=1)
    targets = torch.cat([batch.targets for batch in read], dim=1)
    for row, answers in zip(inputs, targets, strict=True):  # each lane continues where its last window ended
        count = int((answers != IGNORED).sum())
        assert (answers[count:] == IGNORED).all()
        assert row[:count].tolist() == list(range(int(row[0]), int(row[0]) + count))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [lambda: stream_of(53), lambda: items_of([3, 1, 7, 2, 2, 9, 4])])
def test_ranks_share_the_lanes_of_one_process(make: Any, training: bool) -> None:
    options: dict[str, Any] = {"training": training, "seed": 1, "state_reset": 0.3}
    one = batches(make(), 4, 3, **options)
    ranks = [batches(make(), 4, 3, rank=rank, world_size=2, **options) for rank in range(2)]
    assert [len(rank) for rank in ranks] == [len(one)] * 2
    for batch, *parts in zip(one, *ranks, strict=True):
        assert torch.equal(torch.cat([part.inputs for part in parts]), batch.inputs)
        assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
        assert torch.equal(torch.cat([part.reset_mask for part in parts]), batch.reset_mask)
        assert [part.targets_per_process for part in parts] == [batch.targets_per_process / 2] * 2
        assert batch.targets_per_process == (batch.targets != IGNORED).sum()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=30),
    st.integers(1, 5),
    st.integers(1, 8),
    st.booleans(),
    st.integers(0, 3),
)
def test_items_are_each_read_once_from_boundary_to_boundary(
    lengths: list[int], size: int, window: int, training: bool, epoch: int
) -> None:
    stream = items_of(lengths)
    reader = ItemBatches(stream, size, window, training=training, seed=3)
    reader.set_epoch(epoch)
    read = list(reader)
    assert len(read) == len(reader)
    ids = stream.ids.tolist()
    assert Counter(pair for batch in read for pair in pairs(batch)) == Counter(pairwise(ids))
    assert sum(batch.targets_per_process for batch in read) == len(ids) - 1
    assert max(batch.inputs.shape[1] for batch in read) <= window
    # Windows of one batch, laid side by side, are whole items at the left of their rows.
    rows: list[list[int]] = []
    for batch in read:
        assert batch.reset_mask.all() == batch.reset_mask.any()
        if batch.reset_mask.all():
            rows += [[] for _ in range(size)]
        for row, answers in zip(rows[-size:], batch.targets.tolist(), strict=True):
            row += answers
    found = [[answer for answer in row if answer != IGNORED] for row in rows]
    assert all(row[: len(kept)] == kept for row, kept in zip(rows, found, strict=True))
    ends = np.cumsum(lengths) + np.arange(1, len(lengths) + 1)  # where the boundary behind each item stands
    expected = [ids[end - length : end + 1] for end, length in zip(ends, lengths, strict=True)]
    assert sorted(kept for kept in found if kept) == sorted(expected)


def test_epochs_have_their_own_order_and_a_seed_repeats_it() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        items = ItemBatches(items_of([3] * 40), 4, 8, seed=seed)
        items.set_epoch(epoch)
        return [batch.inputs[:, 1].tolist() for batch in items]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_passes_count_the_epochs_when_nobody_sets_them() -> None:
    unset, told = (ItemBatches(items_of([3] * 40), 4, 8, seed=1) for _ in range(2))
    for epoch in range(3):
        told.set_epoch(epoch)
        assert all(same(a, b) for a, b in zip(unset, told, strict=True))
        assert unset.epoch == told.epoch == epoch


def test_items_of_like_length_share_a_batch() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 30, 2000).tolist()
    read = list(ItemBatches(items_of(lengths), 16, 64))
    filled = sum(int((batch.targets != IGNORED).sum()) for batch in read)
    assert filled / sum(batch.targets.numel() for batch in read) > 0.95


def test_a_long_item_does_not_make_others_wait() -> None:
    lengths = [3] * 15 + [100]
    read = list(ItemBatches(items_of(lengths), 4, 8, seed=0))
    assert len(read) == 13 + 3
    assert sum(bool(batch.reset_mask.all()) for batch in read) == 4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [lambda: stream_of(53), lambda: items_of([3, 1, 17, 2, 2, 9, 4, 5, 5])])
def test_a_pass_can_be_left_anywhere_and_resumed(make: Any, training: bool) -> None:
    def reader() -> Lanes | ItemBatches:
        return batches(make(), 2, 4, training=training, seed=5)

    unbroken = reader()
    expected = [batch for _ in range(2) for batch in unbroken]
    steps = len(unbroken)
    for stop in range(1, 2 * steps):
        first = reader()
        states = [first.state_dict() for _ in range(2) for _batch in first]
        second = reader()
        second.load_state_dict(states[stop - 1])
        assert second.state_dict() == states[stop - 1]
        rest = list(second)
        if stop < steps:
            rest += list(second)
        assert len(rest) == 2 * steps - stop
        assert all(same(a, b) for a, b in zip(rest, expected[stop:], strict=True))


def test_beginning_an_epoch_keeps_a_resumed_place_in_it() -> None:
    lanes = Lanes(stream_of(41), 2, 5)
    lanes.load_state_dict({"epoch": 3, "position": 2})
    lanes.set_epoch(3)
    assert [batch.inputs[0, 0].item() for batch in lanes] == [10, 15]
    lanes.load_state_dict({"epoch": 3, "position": 4})
    lanes.set_epoch(4)
    assert [bool(batch.reset_mask.all()) for batch in lanes] == [True, False, False, False]


def test_a_pass_left_early_does_not_move_the_next() -> None:
    lanes = Lanes(stream_of(41), 2, 5, training=False)
    for _ in range(2):
        assert next(iter(lanes)).reset_mask.all()
    assert len(list(lanes)) == len(lanes)


def test_lanes_start_anew_by_chance_the_same_chance_in_every_pass() -> None:
    def draw(epoch: int = 0, **options: Any) -> torch.Tensor:  # (windows, lanes)
        lanes = Lanes(stream_of(20_001), 10, 2, **options)
        lanes.set_epoch(epoch)
        return torch.stack([batch.reset_mask for batch in lanes])

    reset_mask = draw(state_reset=0.05, seed=1)
    assert reset_mask[0].all()
    assert 0.04 < reset_mask[1:].float().mean() < 0.06
    assert reset_mask[1:].any(0).all()  # every lane, some time
    assert torch.equal(reset_mask, draw(state_reset=0.05, seed=1))
    assert not torch.equal(reset_mask, draw(state_reset=0.05, seed=2))
    assert not torch.equal(reset_mask, draw(epoch=1, state_reset=0.05, seed=1))
    assert draw(state_reset=1.0).all()
    assert not draw(state_reset=0.0)[1:].any()


def test_only_lanes_that_are_reset_enter_a_window_with_a_state_of_zero() -> None:
    batch = next(iter(Lanes(stream_of(41), 3, 5)))
    batch.reset_mask = torch.tensor([False, True, False])
    state = torch.randn(2, 2, 3, 4)
    state[:, :, 1] = float("inf")  # and nothing of it is left
    entered = batch.enter(state)
    assert entered is not None
    assert torch.equal(entered[:, :, [0, 2]], state[:, :, [0, 2]])
    assert not entered[:, :, 1].any()
    assert batch.enter(None) is None


def test_pages_of_a_large_file_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "RESIDENT", 1000)
    for stream in (stream_of(5000), items_of([9] * 500)):
        released: list[bool] = []
        monkeypatch.setattr(TokenStream, "release", lambda self, released=released: released.append(True))
        for _ in batches(stream, 2, 10):
            pass
        assert len(released) > 5


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(CharlmError, match=r"`data.batch_size` 3 cannot be shared by 2 devices; take a multiple of 2"):
        Lanes(stream_of(50), 3, 5, world_size=2)
    with pytest.raises(
        CharlmError, match=r"a text of 9 tokens is too short for 20 lanes; lower `data.batch_size` to 8"
    ):
        Lanes(stream_of(9), 20, 5)
    with pytest.raises(CharlmError, match="a text of 1 tokens holds nothing to predict"):
        Lanes(stream_of(1), 1, 5, training=False)
    with pytest.raises(ValueError, match="read in lanes"):
        ItemBatches(stream_of(5), 1, 1)
