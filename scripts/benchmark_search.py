"""Time of beam search per token of the text, as a multiple of greedy generation.

    python scripts/benchmark_search.py
    python scripts/benchmark_search.py --hidden 256 --beams 4 8 16

Greedy generation (temperature 0) and searches of several widths take turns, because a machine's speed drifts; printed
are medians of milliseconds per token, and medians of the ratios within one round, in processor time and in elapsed
time. The weights are random, and large enough that the hypotheses differ in their beginnings.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from charlm.config import ModelConfig, TokenizerConfig
from charlm.config.generation import GenerationConfig
from charlm.generation.stepper import NumpyStepper
from charlm.generation.streaming import generate_texts
from charlm.network.model import LanguageModel
from charlm.text.tokenization import Tokenizer, learn


def stepper(hidden: int, layers: int, vocab_size: int) -> NumpyStepper:
    """A random LSTM, computed by numpy."""
    torch.manual_seed(1)
    config = ModelConfig("lstm", layers, hidden, hidden, 0.0, tie=False)
    state = LanguageModel(config, vocab_size).state_dict()
    weights = {name: value.numpy() * (3 if name == "output.weight" else 1) for name, value in state.items()}
    return NumpyStepper(weights, config, vocab_size)


def generated(network: NumpyStepper, tokenizer: Tokenizer, length: int, beams: int) -> None:
    """Generate one text: the best one of so many beams, or without beams the greedy one."""
    config = GenerationConfig(length=length, beams=beams)
    next(generate_texts(network, tokenizer, [""], config, temperature=1 if beams else 0))


def main() -> None:
    """Parse the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab_size", type=int, default=65)
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    tokenizer = learn(TokenizerConfig(), ["".join(map(chr, range(33, 32 + options.vocab_size)))])
    network = stepper(options.hidden, options.layers, len(tokenizer))
    names = {beams: f"{beams} beams" if beams else "greedy" for beams in (0, *options.beams)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names.values()}
    for _ in range(options.rounds):
        for beams, name in names.items():
            start = time.process_time(), time.perf_counter()
            generated(network, tokenizer, options.length, beams)
            times[name].append((time.process_time() - start[0], time.perf_counter() - start[1]))
    print(f"lstm {options.layers} x {options.hidden}, {len(tokenizer)} tokens, numpy {np.__version__}")
    for name, values in times.items():
        per_token = [1000 * statistics.median(one[kind] for one in values) / options.length for kind in (0, 1)]
        pairs = zip(values, times["greedy"], strict=True)
        ratios = [(own[0] / greedy[0], own[1] / greedy[1]) for own, greedy in pairs]
        medians = [statistics.median(one[kind] for one in ratios) for kind in (0, 1)]
        print(
            f"  {name:9} processor {per_token[0]:6.3f} ms ({medians[0]:5.2f} x greedy)"
            f"   elapsed {per_token[1]:6.3f} ms ({medians[1]:5.2f} x)"
        )


if __name__ == "__main__":
    main()
