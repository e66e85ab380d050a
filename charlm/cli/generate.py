"""charlm generate: write a text with a trained run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from charlm.config import GenerateConfig
from charlm.errors import CharlmError
from charlm.options import parser_of, read, read_text

ABOUT = "write a text with a trained run"


def run(arguments: list[str]) -> int:
    """Run the command; its exit status."""
    from charlm.generation.processors import processors

    parser = parser_of("generate", "Write a text with a trained run, on standard output.")
    parser.add_argument("run", metavar="RUN", help="the directory of a training")
    sampling = parser.add_argument_group("sampling", "How a token is drawn from the scores.")
    for name, processor in processors.items():
        sampling.add_argument(
            f"--{name}",
            metavar="X",
            help=f"{processor.help} (default: {processor.default})",
            default=argparse.SUPPRESS,
        )
    config: GenerateConfig
    named, config = read(parser, GenerateConfig, arguments)
    path = named.pop("run")
    values = {name: processors[name].parse(value) for name, value in named.items()}
    from charlm.run import Run

    _write(Run(path), config, values)
    return 0


def _write(run: Any, config: GenerateConfig, processors: dict[str, float]) -> None:
    prompt = config.prompt
    if config.prompt_file is not None:
        if prompt:
            raise CharlmError("--prompt and --prompt_file exclude each other; use one")
        prompt = read_text(Path(config.prompt_file)).removesuffix("\n")
    seed = config.seed
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
    pieces = run.write(
        prompt,
        length=config.length,
        seed=seed,
        stop=config.stop,
        samples=config.samples,
        checkpoint=config.checkpoint,
        device=config.device,
        **processors,
    )
    first = next(pieces, [""] * config.samples)  # a prompt that cannot be read fails before anything is shown
    if config.samples == 1 and not config.json:
        from charlm.views.reel import visible

        out = sys.stdout
        live = out.isatty()
        shown = visible if live else str  # a pipe gets the text as it is
        out.write(shown(prompt + first[0]))
        out.flush()
        for piece in pieces:
            out.write(shown(piece[0]))
            if live:
                out.flush()
        out.write("\n")
    else:
        texts = list(first)
        for piece in pieces:
            texts = [text + more for text, more in zip(texts, piece, strict=True)]
        _print_texts(run, prompt, texts, seed, config.json)
    sys.stdout.flush()  # where both end in one place, the text stands first
    if config.seed is None:
        print(f"charlm: --seed {seed} writes this again", file=sys.stderr)


def _print_texts(run: Any, prompt: str, texts: list[str], seed: int, as_json: bool) -> None:
    if as_json:
        import json

        for number, text in enumerate(texts):
            print(json.dumps({"prompt": prompt, "text": text, "seed": seed, "sample": number}, ensure_ascii=False))
    elif run.config.data.unit == "line":
        for text in texts:
            print(prompt + text)
    else:
        for number, text in enumerate(texts, 1):
            print(f"--- {number}\n{prompt}{text}")
