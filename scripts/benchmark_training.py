"""Training speed of charlm under Lightning against a bare torch loop, interleaved block by block in one process.

    python scripts/benchmark_training.py classic medium --blocks 40

A real run (progress line, TensorBoard and metrics.csv on) trains on random text; after each block of steps it waits
while the bare loop (nn.LSTM, AdamW, norm clipping, the same precision) takes as many. Both meet the same load of the
machine, so that the median ratio of a pair of blocks is meaningful where seconds are not.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn
from torch.nn import functional as F

from charlm.config import Config
from charlm.network.precision import choose_precision
from charlm.training.trainer import train
from charlm.views.terminal import Terminal

SIZES = {  # layers, hidden, window, lanes, steps per block
    "classic": (2, 128, 50, 50, 10),
    "medium": (2, 512, 100, 64, 2),
}
CHARACTERS = "".join(chr(33 + i) for i in range(65))


class BareLoop:
    """A training loop written by hand: nn.LSTM, cross-entropy, clipping, AdamW, the state carried and detached."""

    def __init__(self, layers: int, hidden: int, window: int, lanes: int, bf16: bool) -> None:
        self.embedding, self.output = nn.Embedding(65, hidden), nn.Linear(hidden, 65)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.parameters = [*self.embedding.parameters(), *self.lstm.parameters(), *self.output.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3)
        self.ids = torch.randint(0, 65, (lanes, 100 * window + 1))
        self.window, self.bf16, self.place = window, bf16, 0
        self.state: Any = None

    def step(self) -> None:
        start = self.place * self.window
        self.place = (self.place + 1) % 100
        x, y = self.ids[:, start : start + self.window], self.ids[:, start + 1 : start + self.window + 1]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            features, self.state = self.lstm(self.embedding(x), self.state)
            loss = F.cross_entropy(self.output(features).flatten(0, 1).float(), y.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.state = tuple(part.detach().float() for part in self.state)


class Interleave(lightning.Callback):
    """Runs a block of the bare loop after each block of the run, and stores both times."""

    def __init__(self, bare: BareLoop, steps: int, blocks: int) -> None:
        self.bare, self.steps, self.blocks = bare, steps, blocks
        self.pairs: list[tuple[float, float]] = []
        self.since: float | None = None

    def on_train_batch_end(self, trainer: lightning.Trainer, *rest: Any) -> None:
        if trainer.global_step % self.steps:
            return
        now = time.perf_counter()
        ours = now - self.since if self.since is not None else None
        for _ in range(self.steps):
            self.bare.step()
        if ours is not None:
            self.pairs.append((ours, time.perf_counter() - now))
        trainer.should_stop = len(self.pairs) >= self.blocks
        self.since = time.perf_counter()


def measure(name: str, blocks: int, folder: Path) -> None:
    layers, hidden, window, lanes, steps = SIZES[name]
    text = folder / f"{name}.txt"
    draw = random.Random(0)
    text.write_text("".join(draw.choices(CHARACTERS, k=lanes * window * steps * (blocks + 2) * 10 // 9)))
    config = Config.from_dict(
        {
            "data": {"text": [str(text)], "batch_size": lanes, "seq_length": window},
            "model": {"layers": layers, "hidden": hidden, "embedding": hidden, "dropout": 0.0},
            "trainer": {"max_epochs": 1000, "accelerator": "cpu"},
            "optimizer": {"lr": 1e-3},
            "samples": {"every": 0},
            "inspect": {"histograms": False, "images": False, "embeddings": False},
            "checkpoint": {"minutes": 60},
        }
    )
    precision, _ = choose_precision("auto", gpu=False)
    interleave = Interleave(BareLoop(layers, hidden, window, lanes, precision == "bf16-mixed"), steps, blocks)
    train(config, folder / name, Terminal(), callbacks=[interleave])
    pairs = interleave.pairs[2:]  # the first blocks warm up
    ratios = sorted(bare / ours for ours, bare in pairs)
    speed = steps * lanes * window
    ours, theirs = (speed / statistics.median(times) for times in zip(*pairs, strict=True))
    quarter = len(ratios) // 4
    print(
        f"{name}: {precision}, {len(pairs)} pairs of {steps} steps; "
        f"charlm {ours:,.0f} characters/s, bare loop {theirs:,.0f}; "
        f"ratio median {statistics.median(ratios):.3f}, quartiles {ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=list(SIZES), help=f"among {', '.join(SIZES)}")
    parser.add_argument("--blocks", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sizes:
            measure(name, arguments.blocks, Path(folder))


if __name__ == "__main__":
    main()
