"""Measure how often a gap of held-out text is filled as it was: by a forward run, a backward run, and both.

Gaps are cut from the validation text. A run alone ranks what its own beam search finds by its own
bits of the gap and the text after it. `charlm fill` ranks what both find by the bits of both.

    python scripts/benchmark_fill.py runs/forward runs/backward --gaps 200
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

from charlm.config.generation import FillConfig
from charlm.generation.fill import both_sides, fill
from charlm.run import Run

MARK = "\x00"  # in no text


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
    lengths = range(options.shortest, options.longest + 1)
    config = FillConfig(f"{options.shortest}-{options.longest}", mark=MARK, samples=1, beams=options.beams)
    exact: dict[str, list[bool]] = {"forward run alone": [], "backward run alone": [], "both (charlm fill)": []}
    bits: dict[str, list[float]] = {name: [] for name in [*exact, "the original text"]}
    seconds = 0.0
    for _ in range(options.gaps):
        length = int(random.integers(options.shortest, options.longest + 1))
        start = int(random.integers(options.around, len(text) - length - options.around))
        left, gap = text[start - options.around : start], text[start : start + length]
        right = text[start + length : start + length + options.around]
        began = time.perf_counter()
        best = fill(steppers[0], steppers[1], tokenizer, left + MARK + right, config)[0]
        seconds += time.perf_counter() - began
        before, ids, after = (tokenizer.encode(part).tolist() for part in (left, gap, right))
        sides = both_sides(steppers[0], steppers[1], tokenizer, before, after, config.context)
        chosen = [ids, best.ids]
        for side, order in zip(sides, (1, -1), strict=True):
            beams = side.beams(config.beams, options.longest)
            found = [max(zip(side.scores(beams[n][0]), beams[n][0].tolist(), strict=True)) for n in lengths]
            chosen.append(max(found)[1][::order])
        names = ["the original text", "both (charlm fill)", "forward run alone", "backward run alone"]
        for name, one in zip(names, chosen, strict=True):
            rows = np.array([one])
            bits[name].append(-float(sides[0].scores(rows)[0] + sides[1].scores(rows[:, ::-1])[0]) / math.log(2))
            if name in exact:
                exact[name].append(one == ids)
    size = f"{options.shortest} to {options.longest} characters"
    print(f"{options.gaps} gaps of {size}, {seconds / options.gaps:.2f} s each")
    for name, values in bits.items():
        share = f"{np.mean(exact[name]):6.1%} recovered" if name in exact else " " * 16
        print(f"{name:20} {share}  {np.mean(values):.2f} bits under both models")
    missed = np.array(bits["the original text"]) < np.array(bits["both (charlm fill)"]) - 1e-6
    print(f"the search missed the original text, which has fewer bits, in {missed.mean():.1%} of the gaps")


if __name__ == "__main__":
    main()
