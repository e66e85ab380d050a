"""Training speed of the cell `transformer` against nanoGPT's network, interleaved in one process.

    python scripts/benchmark_transformer.py small
    python scripts/benchmark_transformer.py shakespeare --rounds 5 --precision fp32

The other contender is the network of nanoGPT (Karpathy 2022, `train_shakespeare_char.py`), written here from its
description: learnt positions, blocks of causal attention and an MLP with the norms first, no biases, one matrix for
embedding and output. Both train on random text with the same layers, width, heads, window, batch, loss, clipping and
optimiser. In addition, charlm's network carries its state from window to window, and lanes are
reset at random as in training. Each of its tokens sees 64 tokens; nanoGPT's tokens see the earlier
tokens of their window. Printed ratios are medians over the rounds of the ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import torch
from benchmark_cells import VOCABULARY, Size, interleaved, ratio, training_step
from torch import Tensor, nn
from torch.nn import functional as F

from charlm.config import ModelConfig
from charlm.network.model import LanguageModel
from charlm.network.precision import matmul_precision
from charlm.training.machine import tune_malloc

SIZES = {"small": Size(2, 256, 64, 32), "cpu": Size(4, 128, 64, 12), "shakespeare": Size(6, 384, 256, 64)}
"""charlm's defaults for a short text on a CPU, nanoGPT's for a CPU, and nanoGPT's for a GPU."""

HEAD = 32
"""Units of a head."""


class Block(nn.Module):
    """One block: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.heads = hidden // HEAD
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, bias=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 4 * hidden, bias=False), nn.GELU(), nn.Linear(4 * hidden, hidden, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, time, hidden = x.shape
        parts = self.qkv(self.norms[0](x)).split(hidden, 2)
        q, k, v = (part.view(batch, time, self.heads, HEAD).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, time, hidden))
        return x + self.mlp(self.norms[1](x))


class NanoGPT(nn.Module):
    """nanoGPT's network; it carries nothing from window to window."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, size.hidden), nn.Embedding(size.window, size.hidden)
        self.blocks = nn.Sequential(*(Block(size.hidden) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.hidden, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight), torch.zeros(())


class WithResets(nn.Module):
    """charlm's network, whose lanes start from the zero state at random, as in training."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        heads = size.hidden // HEAD
        config = ModelConfig("transformer", size.layers, size.hidden, size.hidden, 0.0, tie=True, heads=heads)
        self.model = LanguageModel(config, VOCABULARY).train()

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        if state is not None:
            state = state.masked_fill((torch.rand(len(ids), device=ids.device) < 0.01)[:, None], 0.0)
        logits, state = self.model(ids, state)
        return logits, state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--precision", default="fp32", choices=["bf16", "fp32"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="steps of each contender per round")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    tune_malloc()  # as training does; nanoGPT gains from it too
    size, bf16 = SIZES[arguments.size], arguments.precision == "bf16"
    networks = {"nanoGPT": NanoGPT(size), "charlm transformer": WithResets(size)}
    contenders = {
        name: training_step(network, size, bf16, arguments.device, matmul_precision())
        for name, network in networks.items()
    }
    times = interleaved(contenders, arguments.rounds, arguments.steps)
    print(f"{arguments.size}: {size}; {arguments.precision}; {torch.get_num_threads()} threads")
    for name, mine in times.items():
        speed = size.lanes * size.window / statistics.median(mine)
        weights = sum(parameter.numel() for parameter in networks[name].parameters())
        print(f"{name:20} {weights:10,} parameters {speed:12,.0f} tokens/s {ratio(times['nanoGPT'], mine):6.2f}")


if __name__ == "__main__":
    main()
