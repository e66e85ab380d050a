"""Tokens per second of generation on a CPU, one text and 64 side by side, against nn.LSTM called once per token.

    python scripts/benchmark_generation.py
    python scripts/benchmark_generation.py --hidden 1024 --cell gru

Short blocks of each contender take turns, because a machine's speed drifts; printed are medians over the blocks, and
medians of the ratios within one round. Every token is drawn at temperature 1: by `generate` and `Sampler` in charlm, by
softmax and `torch.multinomial` in torch. The weights are random: speed does not depend on them. The
last line is the time that each process needs once, to read the weights and build the stepper.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from charlm.config import ModelConfig
from charlm.generation.sampling import Sampler, generate
from charlm.generation.stepper import NumpyStepper, Stepper
from charlm.network.cells import cells
from charlm.network.layer import Layer
from charlm.network.model import LanguageModel


def torch_tokens(model: LanguageModel, batch: int) -> Iterator[list[int]]:
    """Tokens of a network of the same size built of torch.nn modules, called once per token, on the model's device."""
    config, layer, device = model.config, model.layers[0], model.embedding.weight.device
    assert isinstance(layer, Layer)
    assert layer.cell.fused is not None
    module = getattr(nn, layer.cell.fused.partition("_")[0])
    recurrent = module(config.embedding, config.hidden, config.layers, batch_first=True).to(device)
    ids, state = torch.zeros(batch, 1, dtype=torch.long, device=device), None
    weight: Tensor = model.output["weight"]
    with torch.no_grad():
        while True:
            outputs, state = recurrent(model.embedding(ids), state)
            logits = nn.functional.linear(outputs[:, 0], weight, model.output["bias"])
            ids = torch.multinomial(logits.softmax(-1), 1)
            yield ids[:, 0].tolist()


def seconds(tokens: Iterator[object], count: int) -> float:
    """Time of the next `count` tokens."""
    start = time.perf_counter()
    for _ in itertools.islice(tokens, count):
        pass
    return time.perf_counter() - start


def without_onednn(tokens: Iterator[object]) -> Callable[[int], float]:
    """The timer of an iterator that runs with oneDNN switched off."""

    def timer(count: int) -> float:
        with torch.backends.mkldnn.flags(enabled=False):
            return seconds(tokens, count)

    return timer


def compare(config: ModelConfig, vocab_size: int, rounds: int, block: float, batch: int) -> None:
    """Print tokens per second of each contender and the ratios to charlm."""
    model = LanguageModel(config, vocab_size)
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    stepper: Stepper = NumpyStepper(weights, config, vocab_size)
    ours, on, off = generate(stepper, [0], Sampler(1, batch)), torch_tokens(model, batch), torch_tokens(model, batch)
    name = f"nn.{cells[config.cell].fused} once per token"
    timers: dict[str, Callable[[int], float]] = {
        "charlm": lambda count: seconds(ours, count),
        name: lambda count: seconds(on, count),
        f"{name}, oneDNN off": without_onednn(off),
    }
    counts = {}
    for key, timer in timers.items():
        timer(5)  # warm up
        counts[key] = max(5, int(block / timer(20) * 20))
    speeds: dict[str, list[float]] = {key: [] for key in timers}
    for _ in range(rounds):
        for key, timer in timers.items():
            speeds[key].append(batch * counts[key] / timer(counts[key]))
    size = f"{config.cell} {config.layers} x {config.hidden}, {vocab_size} tokens"
    print(f"{size}, {batch} rows, {rounds} rounds of {block} s")
    for key, values in speeds.items():
        ratios = [own / other for own, other in zip(speeds["charlm"], values, strict=True)]
        print(f"  {key:35} {statistics.median(values):8.0f} tokens/s   charlm {statistics.median(ratios):5.2f} x")
    if batch == 1:
        print(f"  {'reading and building the stepper':35} {start_up(weights, config, vocab_size):8.1f} ms", flush=True)


def start_up(weights: dict[str, np.ndarray], config: ModelConfig, vocab_size: int) -> float:
    """Median milliseconds from a file of weights to a stepper that is ready."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file(weights, path)
        for _ in range(9):
            start = time.perf_counter()
            NumpyStepper(load_file(path), config, vocab_size)
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    """Parse the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default="lstm", choices=[name for name in cells if cells[name].fused])
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab_size", type=int, default=65)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--block", type=float, default=0.15, help="seconds of one block")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, numpy {np.__version__}")
    for hidden in options.hidden:
        config = ModelConfig(options.cell, options.layers, hidden, hidden, 0.0, tie=False)
        for batch in options.batch:
            compare(config, options.vocab_size, options.rounds, options.block, batch)


if __name__ == "__main__":
    main()
