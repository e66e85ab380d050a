"""charlm play: write a text together with a trained run, in the terminal."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from charlm.cli.generate import SamplingOptions
from charlm.cli.options import Options, named, read, read_text
from charlm.config.fields import PositiveInteger, Seed, setting
from charlm.errors import CharlmError
from charlm.generation.processors import generation_settings

if TYPE_CHECKING:
    from charlm.views.play_session import Session


@dataclass(frozen=True)
class PlayOptions:
    """The options of `charlm play`, except those of sampling."""

    prompt: str = setting("", "what the text starts with")
    prompt_file: str = setting("", "a file that holds what the text starts with")
    length: PositiveInteger = setting(40, "tokens that the model writes at a time")
    seed: Seed = setting(1, "the same seed and the same keys give the same text")
    checkpoint: Literal["best", "last"] = setting("best", "which weights: best on validation, or the newest")
    device: str = setting("cpu", "cpu, cuda or auto")


def play(
    run: Annotated[str, Parameter(help="the directory of a training")],
    /,
    *,
    options: Options[PlayOptions] = None,
    sampling: Options[SamplingOptions] = None,  # type: ignore[valid-type]
) -> None:
    """Write a text together with a trained run, in the terminal.

    The screen shows the text with the surprise of each token as a colour, and the most probable
    next tokens. F1 lists the keys. A text that was not saved is printed when the session ends.
    """
    config = read(PlayOptions, options)
    every = generation_settings()
    values = {name: every[name].parse(value) for name, value in named(sampling).items()}
    prompt = _prompt(config)
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") in ("dumb", "unknown"):
        raise CharlmError("play needs a terminal that can place its cursor; in a pipe, use charlm generate")
    try:
        from charlm.views.play import Play
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("prompt_toolkit", "wcwidth"):
            raise
        raise CharlmError("play needs prompt_toolkit; install it with: pip install 'charlm-rnn[play]'") from None
    from charlm.generation.composition import Composition
    from charlm.run import Run
    from charlm.views.play_session import Session

    trained = Run(run)
    values.setdefault("temperature", trained.config.samples.temperature)
    stepper = trained.load_stepper(config.checkpoint, config.device)
    composition = Composition(stepper, trained.tokenizer, seed=config.seed, **values)
    session = Session(composition, config.length, prompt)
    try:
        signal = Play(session).run()
    finally:
        _print_unsaved(session)
    if signal:
        sys.exit(128 + signal)


def _prompt(config: PlayOptions) -> str:
    if not config.prompt_file:
        return config.prompt
    if config.prompt:
        raise CharlmError("`prompt` and `prompt_file` exclude each other; use one")
    return read_text(Path(config.prompt_file)).removesuffix("\n")


def _print_unsaved(session: Session) -> None:
    """Print a text that was not saved, so that it is not lost; without a terminal, save it."""
    from charlm.views.text import shown

    if text := session.unsaved:
        try:
            print(shown(text))
            sys.stdout.flush()
            print("charlm: the text above was not saved", file=sys.stderr)
        except OSError:
            session.rescue()
