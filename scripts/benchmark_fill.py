"""Measure how often `charlm fill` recovers masked text: by the forward run, the backward run, and both.

Gaps are cut from the validation text of the forward run. The candidates of both searches are ranked
by the bits under the forward run, under the backward run, and under both together.

    python scripts/benchmark_fill.py runs/forward runs/backward --gaps 200
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from charlm.config.generation import FillConfig
from charlm.generation.fill import Filling, fill
from charlm.run import Run

MARK = "\x00"  # in no text
RANKINGS = {
    "forward only": lambda filling: filling.forward_bits,
    "backward only": lambda filling: filling.backward_bits,
    "both": lambda filling: filling.bits,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forward")
    parser.add_argument("backward")
    parser.add_argument("--gaps", type=int, default=200)
    parser.add_argument("--shortest", type=int, default=3, help="characters of a gap")
    parser.add_argument("--longest", type=int, default=8)
    parser.add_argument("--around", type=int, default=100, help="characters of text on each side")
    parser.add_argument("--beams", type=int, default=FillConfig.beams)
    options = parser.parse_args()
    runs = [Run(options.forward), Run(options.backward)]
    tokenizer, steppers = runs[0].tokenizer, [run.load_stepper() for run in runs]
    text = runs[0].directory.stream("val").text(tokenizer)
    random = np.random.default_rng(1)
    config = FillConfig(
        f"{options.shortest}-{options.longest}", mark=MARK, samples=100_000, beams=options.beams
    )  # every candidate
    chosen: dict[str, list[tuple[Filling, str]]] = {name: [] for name in RANKINGS}
    began = time.perf_counter()
    for _ in range(options.gaps):
        length = int(random.integers(options.shortest, options.longest + 1))
        start = int(random.integers(options.around, len(text) - length - options.around))
        left, gap = text[start - options.around : start], text[start : start + length]
        right = text[start + length : start + length + options.around]
        found = fill(steppers[0], steppers[1], tokenizer, left + MARK + right, config)
        for name, key in RANKINGS.items():
            chosen[name].append((min(found, key=key), gap))
    seconds = (time.perf_counter() - began) / options.gaps
    print(f"{options.gaps} gaps of {options.shortest} to {options.longest} characters, {seconds:.1f} s for each")
    for name, pairs in chosen.items():
        exact = [filling.gap == gap for filling, gap in pairs]
        bits = [filling.bits for filling, _ in pairs]
        print(f"{name:14} {np.mean(exact):6.1%} recovered exactly, {np.mean(bits):.2f} bits under both models")


if __name__ == "__main__":
    main()
