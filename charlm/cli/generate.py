"""charlm generate: generate text from a trained run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, named, read, read_text
from charlm.config.fields import Auto, PositiveInteger, Seed, setting
from charlm.config.generation import GenerationConfig
from charlm.errors import CharlmError, count
from charlm.generation.processors import generation_settings
from charlm.generation.prompts import adapt_prompt
from charlm.views.text import shown, visible

if TYPE_CHECKING:
    from charlm.generation.generated_text import GeneratedText
    from charlm.run import Run
    from charlm.text.tokenization import Tokenizer

CHANGES = 8  # changes of the prompt that are listed


@dataclass(frozen=True)
class PromptOptions:
    """The options of `charlm generate` that name prompts."""

    HEADING: ClassVar[str] = "Prompts"

    prompt: str = setting("", "what the text starts with; with a backward model, what it ends with")
    prompt_file: str = setting("", "a file that holds the prompt (- for standard input)")
    prompts: str = setting(
        "", "a file of many prompts, one on each line; in JSON Lines (.jsonl), a text or an object with the key prompt"
    )


@dataclass(frozen=True)
class GenerateOptions(GenerationConfig, PromptOptions):
    """The options of `charlm generate`, except those of sampling."""

    HEADING: ClassVar[str] = "Model and output"

    length: PositiveInteger = setting(500, "tokens to generate: characters of a character model, words of a word model")
    seed: Auto[Seed] = setting(
        None,
        "the same seed gives the same text; each further text has the next seed (default: a new seed, printed at the "
        "end)",
    )
    checkpoint: Literal["best", "last"] = setting("best", "which weights: best on validation, or the newest")
    device: str = setting("cpu", "cpu, cuda or auto")
    show: Literal["text", "probability"] = setting(
        "text", "probability: on a terminal, the background of each character shows how surprising it is to the model"
    )
    json: bool = setting(False, "print JSON, one line per text, with its tokens and their log probabilities")
    output: str = setting("", "a new folder, in which each text is written to a file of its own")


SamplingOptions = make_dataclass(
    "SamplingOptions",
    [
        (name, one.type, setting(one.default, one.help))
        if name != "temperature"
        else (name, one.type, setting((), f"{one.help} (default: that of the samples, usually 0.8; with beams 1)"))
        for name, one in generation_settings().items()
    ],
    frozen=True,
    namespace={
        "__doc__": "How a token is drawn from the logits.",
        "HEADING": "How a token is drawn",
        "HEADING_PLACE": 100,  # the last one
    },
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

    trained = Run(run)
    prompts = _prompts(trained.tokenizer, config)
    seed = config.seed
    if seed is None:  # a search gives the same texts for every seed, unless a processor is random
        seed = 1 if config.beams else int.from_bytes(os.urandom(4), "little")
    settings = {one.name: getattr(config, one.name) for one in fields(GenerationConfig)} | values | {"seed": seed}
    settings |= {"checkpoint": config.checkpoint, "device": config.device}
    several = len(prompts) * config.samples > 1
    copies = _Copies(trained, values.get("no_copy", 0))
    if several or config.json or config.output or config.whole or config.alternatives:
        _write(trained, prompts, config, settings, copies)
    else:
        _stream(trained, prompts, config, settings, copies)
    sys.stdout.flush()  # in a terminal, the text comes before the next line
    if copies.found:
        found = count(copies.found, "span")
        print(f"charlm: --no_copy: {found} of the training text could not be avoided", file=sys.stderr)
    if config.seed is None and not config.beams:
        print(f"charlm: --seed {seed} generates {'these texts' if several else 'this text'} again", file=sys.stderr)


class _Copies:
    """A count of the spans in generated texts that are also in the training text, although `no_copy` is set.

    Args:
        run: The run.
        length: The value of `no_copy`; 0: nothing is counted.
    """

    def __init__(self, run: Run, length: int) -> None:
        self.run, self.length, self.found = run, length, 0
        if length:
            from charlm.views.terminal import Terminal

            run.training_text.progress = Terminal().progress

    def add(self, text: GeneratedText) -> GeneratedText:
        if self.length:
            self.found += self.run.training_text.count(text.text, self.length, text.prompt)
        return text


def _stream(run: Run, prompts: list[str], config: GenerateOptions, settings: dict[str, Any], copies: _Copies) -> None:
    """Print one text; in a terminal, each piece is shown as soon as it is generated.

    The text of a backward model is one piece, and the prompt follows it.
    """
    from charlm.views.generated import coloured, legend

    colour, out = config.show == "probability", sys.stdout
    generation = run.generation(prompts, record=colour, **settings)
    text, written, live = generation.texts[0], 0, out.isatty()
    before, after = (shown(text.prompt), "") if text.direction == "forward" else ("", shown(text.prompt))
    for number, (piece,) in enumerate(generation):
        if not number:  # a prompt that cannot be read fails before anything is shown
            out.write(before)
        out.write(coloured(piece, text.character_bits[written:]) if colour else shown(piece))
        written += len(piece)
        if live:
            out.flush()
    out.write(f"{after if written else before or after}\n")
    copies.add(text)
    if colour and (explained := legend()):
        out.flush()
        print(explained, file=sys.stderr)


def _write(run: Run, prompts: list[str], config: GenerateOptions, settings: dict[str, Any], copies: _Copies) -> None:
    """Write several texts, or one with its tokens, to standard output or to files."""
    from charlm.views.generated import check_folder, print_json, print_texts, write_files
    from charlm.views.terminal import Terminal

    folder, terminal, total = Path(config.output), Terminal(), len(prompts) * config.samples
    if config.output:
        check_folder(folder)
    texts: Iterable[GeneratedText] = run.generate_texts(prompts, progress=terminal.progress, **settings)
    texts = map(copies.add, texts)
    if config.output:
        found = write_files(texts, run.tokenizer, folder, total, json=config.json)
        print(f"charlm: wrote {count(found, 'file')} to {visible(str(folder.resolve()))}", file=sys.stderr)
    else:
        texts = list(texts) if sys.stdout.isatty() else texts  # there, the display of the progress ends first
        if config.json:
            found = print_json(texts, run.tokenizer)
        else:
            by_line = run.config.data.unit == "line" or total == 1
            found = print_texts(texts, run.tokenizer, by_line=by_line, colour=config.show == "probability")
    if found < total:
        reason = f"new; try {'more beams' if config.beams else 'a higher temperature'}"
        if not config.dedupe:  # only a search can find fewer
            reason = "possible; exclude fewer tokens"
        print(f"charlm: only {found:,} of {total:,} texts are {reason}", file=sys.stderr)


def _prompts(tokenizer: Tokenizer, config: GenerateOptions) -> list[str]:
    """Return the prompts, adapted to the vocabulary; what was changed is told on standard error."""
    named = [name for name in ("prompt", "prompt_file", "prompts") if getattr(config, name)]
    if len(named) > 1:
        raise CharlmError(f"`{named[0]}` and `{named[1]}` exclude each other; use one")
    prompts = [config.prompt]
    if config.prompt_file:
        prompts = [read_text(Path(config.prompt_file)).removesuffix("\n")]
    if config.prompts:
        from charlm.text.separate import lines_of

        lines = lines_of(read_text(Path(config.prompts)))
        prompts = [_json_prompt(line) for line in lines if line] if config.prompts.endswith(".jsonl") else lines
        if not prompts:
            raise CharlmError(f"{config.prompts} has no prompt; write one on each line")
    adapted = [adapt_prompt(tokenizer, prompt, config.prompt_unknown) for prompt in prompts]
    changes = {old: new for _, changed in adapted for old, new in changed.items()}
    if changes:
        print(f"charlm: the vocabulary lacks parts of the prompt: {_listed(changes)}", file=sys.stderr)
    return [prompt for prompt, _ in adapted]


def _json_prompt(line: str) -> str:
    try:
        value = json.loads(line)
        prompt = value["prompt"] if isinstance(value, dict) else value
        if isinstance(prompt, str):
            return prompt
    except (ValueError, KeyError):
        pass
    raise CharlmError(f"a line of `prompts` is no text in JSON and no object with the key prompt: {line[:80]!r}")


def _listed(changes: dict[str, str]) -> str:
    """Return the changes of a prompt in words, at most `CHANGES` of them.

    Args:
        changes: What replaced each part of the prompt that the vocabulary lacks; an empty text if
            the part was left out.
    """
    shown = [f"{old!r} became {new!r}" if new else f"{old!r} was left out" for old, new in changes.items()]
    return ", ".join(shown[:CHANGES]) + (f", and {len(shown) - CHANGES} more" if len(shown) > CHANGES else "")
