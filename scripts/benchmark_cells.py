"""Training speed of every cell against bare torch loops, interleaved block by block in one process.

    python scripts/benchmark_cells.py medium --rounds 7
    python scripts/benchmark_cells.py classic --cells lstm gru rnn --precision bf16 fp32

Each contender trains on random text in turn, a few steps at a time, so that all see the same load of the machine:
the bare loops (nn.LSTM, nn.GRU and nn.RNN in fp32, nn.LSTM in bf16; AdamW, norm clipping, the state carried) and
charlm's network with each cell. The ratios are medians over the rounds of the quotients within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.network.cells import cells
from charlm.network.model import LanguageModel
from charlm.network.precision import matmul_precision
from charlm.network.shape import ModelShape
from charlm.training.machine import keep_memory

SIZES = {  # layers, hidden, window, lanes
    "classic": (2, 128, 50, 50),
    "medium": (2, 512, 100, 64),
    "large": (2, 1024, 128, 256),
}
VOCABULARY = 65
BARE = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


class Bare(nn.Module):
    """What one writes by hand around torch's own module."""

    def __init__(self, kind: str, layers: int, hidden: int) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(VOCABULARY, hidden), nn.Linear(hidden, VOCABULARY)
        self.recurrent = BARE[kind](hidden, hidden, layers, batch_first=True)

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        features, state = self.recurrent(self.embedding(ids), state)
        return self.output(features), state


def contender(
    model: nn.Module, size: tuple[int, int, int, int], bf16: bool, precision: str, device: str
) -> Callable[[], float]:
    """A function that trains a step and gives the seconds it took."""
    _, _, window, lanes = size
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(VOCABULARY, (lanes, window + 1), device=device)
    state: Any = None

    def step() -> float:
        nonlocal state
        torch.set_float32_matmul_precision(precision)
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16) if bf16 else contextlib.nullcontext():
            logits, state = model(ids[:, :-1], state)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state = tuple(part.detach().float() for part in state) if isinstance(state, tuple) else state.detach().float()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--cells", nargs="+", default=list(cells), metavar="CELL")
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=["bf16", "fp32"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps of each contender a round")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    keep_memory()  # as training does; the bare loops gain as well
    size = SIZES[arguments.size]
    layers, hidden, window, lanes = size

    contenders = {
        f"bare {kind} fp32": contender(Bare(kind, layers, hidden), size, False, "highest", arguments.device)
        for kind in BARE
    }
    contenders["bare LSTM bf16"] = contender(Bare("LSTM", layers, hidden), size, True, "highest", arguments.device)
    for name in arguments.cells:
        for precision in arguments.precision:
            model = LanguageModel(ModelShape(VOCABULARY, name, layers, hidden, hidden)).train()
            ours = contender(model, size, precision == "bf16", matmul_precision(), arguments.device)
            contenders[f"{name} {precision}"] = ours

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(arguments.rounds + 1):
        for name, step in contenders.items():
            seconds = [step() for _ in range(arguments.steps)]
            if turn:  # the first round warms up
                times[name].append(statistics.median(seconds))

    bases = list(contenders)[:4]
    print(f"{arguments.size}: 2 x {hidden}, window {window}, {lanes} lanes; {torch.get_num_threads()} threads")
    print(f"{'':22} {'characters/s':>12}  " + "  ".join(f"over {base[5:]}" for base in bases))
    for name, mine in times.items():
        ratios = [statistics.median(b / m for b, m in zip(times[base], mine, strict=True)) for base in bases]
        speed = lanes * window / statistics.median(mine)
        print(
            f"{name:22} {speed:12,.0f}  "
            + "  ".join(f"{ratio:{len(base)}.2f}" for ratio, base in zip(ratios, bases, strict=True)),
            flush=True,
        )


if __name__ == "__main__":
    main()
