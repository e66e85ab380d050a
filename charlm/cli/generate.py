"""charlm generate: generate text from a trained run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, named, read, read_text
from charlm.config.fields import NonNegativeInteger, PositiveInteger, SampleCount, Seed, setting
from charlm.errors import CharlmError
from charlm.generation.processors import generation_settings
from charlm.generation.prompts import adapt_prompt
from charlm.views.text import json_line, shown

CHANGES = 8  # changes of the prompt that are listed


@dataclass(frozen=True)
class GenerateOptions:
    """The options of `charlm generate`, except those of sampling."""

    prompt: str = setting("", "what the text starts with")
    prompt_file: str = setting("", "a file that holds the prompt (- for standard input)")
    prompt_unknown: Literal["error", "drop", "nearest"] = setting(
        "error", "what the vocabulary lacks: an error, left out, or the nearest by case, accents and quotation marks"
    )
    length: PositiveInteger = setting(500, "tokens to generate: characters of a character model, words of a word model")
    samples: SampleCount = setting(1, "how many texts")
    seed: Seed | None = setting(None, "the same seed gives the same text (default: a new seed, printed at the end)")
    stop: tuple[str, ...] = setting((), "the text ends before any of these")
    lines: NonNegativeInteger = setting(0, "the text ends with its N-th line (0: no limit)")
    sentences: NonNegativeInteger = setting(0, "the text ends with its N-th sentence (0: no limit)")
    checkpoint: Literal["best", "last"] = setting("best", "which weights: best on validation, or the newest")
    device: str = setting("cpu", "cpu, cuda or auto")
    json: bool = setting(False, "print JSON, one line per text")


SamplingOptions = make_dataclass(
    "SamplingOptions",
    [
        (name, one.type, setting(one.default, one.help))
        if name != "temperature"
        else (name, one.type, setting((), f"{one.help} (default: that of the samples, usually 0.8)"))
        for name, one in generation_settings().items()
    ],
    frozen=True,
    namespace={"__doc__": "How a token is drawn from the logits."},
)


def generate(
    run: Annotated[str, Parameter(help="the directory of a training")],
    /,
    *,
    options: Options[GenerateOptions] = None,
    sampling: Options[SamplingOptions] = None,  # type: ignore[valid-type]
) -> None:
    """Generate text from a trained run and print it on standard output."""
    config = read(GenerateOptions, options)
    every = generation_settings()
    values = {name: every[name].parse(value) for name, value in named(sampling).items()}
    from charlm.run import Run

    _write(Run(run), config, values)


def _write(run: Any, config: GenerateOptions, values: dict[str, Any]) -> None:
    prompt = config.prompt
    if config.prompt_file:
        if prompt:
            raise CharlmError("`prompt` and `prompt_file` exclude each other; use one")
        prompt = read_text(Path(config.prompt_file)).removesuffix("\n")
    prompt, changes = adapt_prompt(run.tokenizer, prompt, config.prompt_unknown)
    seed = int.from_bytes(os.urandom(4), "little") if config.seed is None else config.seed
    pieces = run.stream_text(
        prompt,
        length=config.length,
        seed=seed,
        stop=config.stop,
        lines=config.lines,
        sentences=config.sentences,
        samples=config.samples,
        checkpoint=config.checkpoint,
        device=config.device,
        **values,
    )
    first = next(pieces, [""] * config.samples)  # a prompt that cannot be read fails before anything is shown
    if changes:
        print(f"charlm: the vocabulary lacks parts of the prompt: {_listed(changes)}", file=sys.stderr)
    if config.samples == 1 and not config.json:
        out = sys.stdout
        live = out.isatty()
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
    sys.stdout.flush()  # in a terminal, the text comes before the next line
    if config.seed is None:
        print(f"charlm: --seed {seed} generates this text again", file=sys.stderr)


def _listed(changes: dict[str, str]) -> str:
    """Return the changes of a prompt in words, at most `CHANGES` of them.

    Args:
        changes: What replaced each part of the prompt that the vocabulary lacks; an empty text if
            the part was left out.
    """
    shown = [f"{old!r} became {new!r}" if new else f"{old!r} was left out" for old, new in changes.items()]
    return ", ".join(shown[:CHANGES]) + (f", and {len(shown) - CHANGES} more" if len(shown) > CHANGES else "")


def _print_texts(run: Any, prompt: str, texts: list[str], seed: int, as_json: bool) -> None:
    if as_json:
        for number, text in enumerate(texts):
            print(json_line({"prompt": prompt, "text": text, "seed": seed, "sample": number}))
    elif run.config.data.unit == "line":
        for text in texts:
            print(shown(prompt + text))
    else:
        for number, text in enumerate(texts, 1):
            print(shown(f"--- {number}\n{prompt}{text}"))
