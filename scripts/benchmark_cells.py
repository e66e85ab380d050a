"""Training speed of every cell against bare torch loops, interleaved in one process.

    python scripts/benchmark_cells.py medium --rounds 7
    python scripts/benchmark_cells.py classic --cells lstm gru rnn --precision bf16 fp32

The contenders train on random text in turn, a few steps at a time, so that all of them meet the same load of the
machine: the bare loops (nn.LSTM, nn.GRU and nn.RNN in fp32, nn.LSTM in bf16; AdamW, norm clipping, the state carried)
and charlm's network with each cell. Printed ratios are medians over the rounds of the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.config import ModelConfig
from charlm.network.cells import cells
from charlm.network.model import LanguageModel
from charlm.network.precision import cpu_lstm_runs_in, matmul_precision
from charlm.training.machine import tune_malloc


class Size(NamedTuple):
    """The size of a network and of its batches."""

    layers: int
    hidden: int
    window: int
    lanes: int


SIZES = {"classic": Size(2, 128, 50, 50), "medium": Size(2, 512, 100, 64), "large": Size(2, 1024, 128, 256)}
VOCABULARY = 65
BARE = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


class Bare(nn.Module):
    """A network written by hand around torch's own module."""

    def __init__(self, kind: str, size: Size) -> None:
        super().__init__()
        hidden = size.hidden
        self.embedding, self.output = nn.Embedding(VOCABULARY, hidden), nn.Linear(hidden, VOCABULARY)
        self.recurrent = BARE[kind](hidden, hidden, size.layers, batch_first=True)

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        features, state = self.recurrent(self.embedding(ids), state)
        return self.output(features), state


def network(cell: str, size: Size) -> LanguageModel:
    """charlm's network of the same size."""
    config = ModelConfig(cell, size.layers, size.hidden, size.hidden, 0.0, tie=False)
    return LanguageModel(config, VOCABULARY).train()


def training_step(
    model: nn.Module, size: Size, bf16: bool, device: str, matmul: str = "highest", vocab_size: int = VOCABULARY
) -> Callable[[], float]:
    """A function that trains one step and returns its seconds.

    Args:
        model: (ids, state) to (logits, state); it is moved to the device.
        size: The size of the batches.
        bf16: Whether to train under autocast.
        device: "cpu" or "cuda".
        matmul: The argument of `torch.set_float32_matmul_precision`.
        vocab_size: Tokens of the vocabulary.
    """
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(vocab_size, (size.lanes, size.window + 1), device=device)
    state: Any = None

    def step() -> float:
        nonlocal state
        torch.set_float32_matmul_precision(matmul)
        synchronize(device)
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16) if bf16 else contextlib.nullcontext():
            logits, state = model(ids[:, :-1], state)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state = tuple(part.detach().float() for part in state) if isinstance(state, tuple) else state.detach().float()
        synchronize(device)
        return time.perf_counter() - start

    return step


def synchronize(device: str) -> None:
    """Wait for the kernels of a GPU."""
    if device != "cpu":
        torch.cuda.synchronize()


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int, repeats: int) -> dict[str, list[float]]:
    """The median seconds of each contender in each round, after an extra round to warm up.

    Args:
        contenders: Functions that return their seconds.
        rounds: How often all contenders take their turn.
        repeats: Calls per turn.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            seconds = [run() for _ in range(repeats)]
            if turn:
                times[name].append(statistics.median(seconds))
    return times


def ratio(base: list[float], other: list[float]) -> float:
    """How many times as fast as `base` the other contender is: the median of the quotients within a round."""
    return statistics.median(b / o for b, o in zip(base, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--cells", nargs="+", default=list(cells), metavar="CELL")
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=["bf16", "fp32"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps of each contender per round")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    tune_malloc()  # as training does; the bare loops gain from it too
    size, device = SIZES[arguments.size], arguments.device

    contenders = {f"bare {kind} fp32": training_step(Bare(kind, size), size, False, device) for kind in BARE}
    if device != "cpu" or cpu_lstm_runs_in(torch.bfloat16):
        contenders["bare LSTM bf16"] = training_step(Bare("LSTM", size), size, True, device)
    bases = list(contenders)
    for name in arguments.cells:
        for precision in arguments.precision:
            contenders[f"{name} {precision}"] = training_step(
                network(name, size), size, precision == "bf16", device, matmul_precision()
            )
    times = interleaved(contenders, arguments.rounds, arguments.steps)

    print(f"{arguments.size}: {size}; {torch.get_num_threads()} threads")
    print(f"{'':22} {'characters/s':>12}  " + "  ".join(f"over {base[5:]}" for base in bases))
    for name, mine in times.items():
        speed = size.lanes * size.window / statistics.median(mine)
        ratios = "  ".join(f"{ratio(times[base], mine):{len(base)}.2f}" for base in bases)
        print(f"{name:22} {speed:12,.0f}  {ratios}", flush=True)


if __name__ == "__main__":
    main()
