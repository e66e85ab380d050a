"""The exact stepper against float32: speed of steps, and loss of trained runs.

    python scripts/benchmark_exact.py
    python scripts/benchmark_exact.py runs/plays runs/words

Steps: short blocks of the steppers take turns, because a machine's speed drifts; printed are medians over the rounds
and medians of the ratios within one round. The weights are random: speed does not depend on them. Set
OMP_NUM_THREADS=1 to measure with one thread. The compiled functions need numba (`pip install 'charlm-rnn[fast]'`).

Loss: each run reads the first tokens of its own validation split in lanes, with both engines. The loss of the
frequencies is that of an arithmetic coder without its own rounding.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from charlm.config import ModelConfig
from charlm.generation.exact import TOTAL_BITS, ExactStepper, frequencies
from charlm.generation.exact_torch import TorchFunctions, multiplies_exactly
from charlm.generation.processors import log_probabilities
from charlm.generation.stepper import NumpyStepper
from charlm.network.model import LanguageModel
from charlm.run import Run

LANES = 50


def microseconds(stepper: NumpyStepper, batch: int, steps: int) -> float:
    """Time of one step."""
    ids, state = np.zeros(batch, np.int64), stepper.initial_state(batch)
    start = time.perf_counter()
    for _ in range(steps):
        _, state = stepper.step(ids, state)
    return (time.perf_counter() - start) / steps * 1e6


def compare_speed(config: ModelConfig, vocab_size: int, batch: int, rounds: int, block: float) -> None:
    """Print the times of a step and their ratios to float32."""
    weights = {name: value.detach().numpy() for name, value in LanguageModel(config, vocab_size).state_dict().items()}
    steppers: dict[str, NumpyStepper] = {
        "float32, numpy": NumpyStepper(weights, config, vocab_size),
        "exact, numpy": ExactStepper(weights, config, vocab_size),
    }
    if multiplies_exactly():
        steppers["exact, torch"] = ExactStepper(weights, config, vocab_size, TorchFunctions)
    try:
        from charlm.generation.exact_numba import NumbaFunctions

        steppers["exact, numba"] = ExactStepper(weights, config, vocab_size, NumbaFunctions)
    except ImportError:
        print("numba is not installed")
    counts = {}
    for name, stepper in steppers.items():
        microseconds(stepper, batch, 3)  # warm up
        counts[name] = max(3, int(block * 1e6 / microseconds(stepper, batch, 5)))
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for _ in range(rounds):
        for name, stepper in steppers.items():
            times[name].append(microseconds(stepper, batch, counts[name]))
    print(f"{config.cell} {config.layers} x {config.hidden}, {vocab_size} tokens, {batch} rows, {rounds} rounds")
    for name, own in times.items():
        ratios = [other / mine for other, mine in zip(times["float32, numpy"], own, strict=True)]
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        print(f"  {name:15} {statistics.median(own):9.1f} us a step, speed {middle:.2f} ({low:.2f} to {high:.2f})")


def compare_loss(path: str, tokens: int) -> None:
    """Print the losses of a run on its validation split, in bits per token, and what the exact engine adds."""
    directory = Run(path).directory
    ids = np.asarray(directory.stream("val").ids[: tokens + 1]).astype(np.int64)
    time = (len(ids) - 1) // LANES
    inputs, targets = (ids[start : start + LANES * time].reshape(LANES, time) for start in (0, 1))
    weights, config, vocab_size = directory.read_weights("best"), directory.model_config, directory.vocab_size

    def loss(stepper: NumpyStepper, log_p: Callable[[np.ndarray], np.ndarray]) -> float:
        state, bits = stepper.initial_state(LANES), 0.0
        for column, target in zip(inputs.T, targets.T, strict=True):
            logits, state = stepper.step(column, state)
            bits -= log_p(logits)[np.arange(LANES), target].sum() / math.log(2)
        return bits / targets.size

    exact = ExactStepper(weights, config, vocab_size)
    before = loss(
        NumpyStepper(weights, config, vocab_size), lambda logits: log_probabilities(logits.astype(np.float64))
    )
    after = loss(exact, log_probabilities)
    coded = loss(exact, lambda logits: np.log(frequencies(logits) / 2.0**TOTAL_BITS))
    print(
        f"{path}: {targets.size:,} tokens, float32 {before:.5f} bits per token, exact {after:.5f} "
        f"({after / before - 1:+.4%}), its frequencies {coded:.5f} ({coded / before - 1:+.4%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="compare losses of these runs, not speed")
    parser.add_argument("--tokens", type=int, default=20_000, help="validation tokens that are read")
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 16, 64])
    parser.add_argument("--vocab_size", type=int, default=65)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--block", type=float, default=0.3, help="seconds of a block")
    options = parser.parse_args()
    for run in options.runs:
        compare_loss(run, options.tokens)
    for hidden in options.hidden if not options.runs else []:
        config = ModelConfig(options.cell, 2, hidden, hidden, 0.0, tie=False)
        for batch in options.batch:
            compare_speed(config, options.vocab_size, batch, options.rounds, options.block)


if __name__ == "__main__":
    main()
