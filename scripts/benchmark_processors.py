"""What each logits processor adds to the time of a token, for one text and for 64 side by side.

    python scripts/benchmark_processors.py
    python scripts/benchmark_processors.py --hidden 256 --rounds 15

Two generators with the same network take turns in short blocks, one with the processor and one
without. Printed are medians over the rounds of the ratio of their times, in per cent above 1. The
last row has the processors that are used together most often. The weights are random, the
vocabulary has 65 characters, and 1,000 tokens were generated before the measurement, so that
processors that read the text have one to read.
"""

from __future__ import annotations

import argparse
import random
import statistics
from typing import Any

from benchmark_generation import seconds

from charlm.config import ModelConfig, TokenizerConfig
from charlm.generation.processors import processors
from charlm.generation.sampling import Sampler, generate
from charlm.generation.stepper import NumpyStepper, Stepper
from charlm.network.model import LanguageModel
from charlm.text.spans import TrainingText
from charlm.text.stream import encode_text
from charlm.text.tokenization import learn

VALUES: dict[str, Any] = {
    "logit_bias": {"a": 1.0}, "ban": ["e", "th"], "allow": ["abcdefghijklmnopqrstuvwxyz \n"],
    "repetition_penalty": 1.05, "presence_penalty": 0.1, "frequency_penalty": 0.02, "dry_multiplier": 0.5,
    "no_repeat_ngram": 20, "no_copy": 50, "temperature": 0.8, "top_n_sigma": 2.0, "top_k": 40, "top_p": 0.95,
    "min_p": 0.02, "typical_p": 0.9, "epsilon_cutoff": 0.001, "xtc_probability": 0.2, "surprise": 2.0,
}  # fmt: skip
COMMON = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def main() -> None:
    """Parse the options and print a row for each processor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--block", type=float, default=0.05, help="seconds of one block")
    options = parser.parse_args()
    text = "".join(map(chr, [10, *range(32, 96)])).lower() + "abcdefghijklmnopqrstuvwxyz"
    tokenizer = learn(TokenizerConfig(), [text])
    written = "".join(random.Random(1).choices(text, k=1_000_000))
    training_text = TrainingText(tokenizer, lambda: encode_text(tokenizer, written))
    config = ModelConfig("lstm", 2, options.hidden, options.hidden, 0.0, tie=False)
    model = LanguageModel(config, len(tokenizer))
    missing = set(processors) - set(VALUES)
    assert not missing, f"name a value for {missing}"
    print(f"| processors, 2 x {options.hidden} | {' | '.join(f'{batch} rows' for batch in options.batch)} |")
    print(f"|---|{'---|' * len(options.batch)}")
    sets = {f"`{name}`": {name: VALUES[name]} for name in sorted(VALUES, key=lambda name: processors[name].order)}
    sets[" + ".join(f"`{name}`" for name in COMMON)] = {name: VALUES[name] for name in COMMON}
    for name, values in sets.items():
        cells = []
        for batch in options.batch:
            weights = {key: value.detach().numpy() for key, value in model.state_dict().items()}
            stepper: Stepper = NumpyStepper(weights, config, len(tokenizer))
            plain = generate(stepper, [1], Sampler(1, batch, tokenizer))
            changed = generate(stepper, [1], Sampler(1, batch, tokenizer, training_text, **values))
            seconds(changed, 1_000 if batch == 1 else 200)
            count = max(5, int(options.block / seconds(plain, 20) * 20))
            ratios = []
            for _ in range(options.rounds):
                pair = [seconds(tokens, count) for tokens in (plain, changed)]
                ratios.append(pair[1] / pair[0])
            cells.append(f"{100 * (statistics.median(ratios) - 1):+.0f} %")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
