"""Tokens per second of an exact evaluation and of a long prompt, in one lane and in many, for a trained run.

    python scripts/benchmark_evaluation.py RUN [--tokens 200000] [--split train]

Both read one text from its first token to its last with the state carried. Short blocks of each contender take turns,
because a machine's speed drifts; printed are medians, how often the text was read, and by how much the results differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from charlm.evaluation.likelihood import LANES, Evaluation, evaluate
from charlm.generation import stepper as steppers
from charlm.generation.stepper import NumpyStepper
from charlm.network.model import LanguageModel
from charlm.run import Run
from charlm.text.stream import TokenStream


class Counted:
    """A model that counts the tokens that it reads."""

    def __init__(self, model: LanguageModel) -> None:
        self.tokens = 0
        hidden = model.hidden

        def counted(ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
            self.tokens += ids.numel()
            return hidden(ids, state)

        model.hidden = counted  # type: ignore[method-assign]


def seconds(function: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def beginning(stream: TokenStream, tokens: int) -> TokenStream:
    """The first tokens of a stream; the counts of characters, bytes and words stay those of the whole."""
    tokens = min(tokens, len(stream))
    return dataclasses.replace(
        stream, ids=stream.ids[:tokens], predicted=dataclasses.replace(stream.predicted, tokens=tokens - 1)
    )


def main() -> None:
    """Parse the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--split", default="train")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    run = Run(options.run)
    model, stepper = run.load_model(), run.load_stepper()
    assert isinstance(stepper, NumpyStepper)
    stream = beginning(run.directory.stream(options.split), options.tokens)
    prompt = np.asarray(stream.ids, np.int64)[None]
    counted, found = Counted(model), {}
    many = steppers.LANES

    def judged(lanes: int) -> Evaluation:
        counted.tokens = 0
        found[lanes] = evaluate(model, stream, lanes=lanes)
        return found[lanes]

    def read(lanes: int) -> None:
        steppers.LANES = lanes
        stepper.prefill(prompt, stepper.initial_state(1))

    contenders: dict[str, Callable[[], object]] = {
        "evaluate, 1 lane": lambda: judged(1),
        f"evaluate, {LANES} lanes": lambda: judged(LANES),
        "prompt, 1 lane": lambda: read(1),
        f"prompt, {many} lanes": lambda: read(many),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            times[name].append(seconds(contender))
    judged(LANES)
    config = run.config.model
    print(f"{config.cell} {config.layers} x {config.hidden}, {len(stream):,} tokens, {torch.get_num_threads()} threads")
    for name, values in times.items():
        print(f"  {name:20} {len(stream) / statistics.median(values):8,.0f} tokens/s")
    difference = abs(found[LANES].nats / found[1].nats - 1)
    print(f"  in {LANES} lanes the text is read {counted.tokens / (len(stream) - 1):.3f} times; ", end="")
    print(f"its loss differs by a fraction of {difference:.1e} from that in one lane")


if __name__ == "__main__":
    main()
