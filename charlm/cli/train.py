"""charlm train: train on a text, or resume a run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from charlm.cli.options import Options, Texts, named
from charlm.cli.sources import given_settings
from charlm.config import Config
from charlm.config.plain import flat, merge
from charlm.config.shell import command
from charlm.errors import CharlmError, Interrupted
from charlm.reporter import Reporter
from charlm.training.processes import is_first_process
from charlm.views.text import shown

if TYPE_CHECKING:
    from charlm.run import Run


def train(
    *text: Annotated[Texts, Parameter(help="the text to train on")],
    config: Annotated[
        list[str], Parameter(help="settings in YAML, or a preset by name; may be repeated", negative=())
    ] = [],  # noqa: B006 - the parser reads it and nothing changes it
    run: Annotated[str | None, Parameter(help="the directory of the run (default: a free name under runs/)")] = None,
    resume: Annotated[str | None, Parameter(help="continue this run from its last checkpoint")] = None,
    print_config: Annotated[bool, Parameter(help="print the settings as YAML and exit")] = False,
    options: Options[Config] = None,
) -> None:
    """Train on a text: files, folders, globs or - for standard input; without any, the built-in corpus.

    Settings come from defaults, then `--config` files in their order, then environment variables
    (CHARLM_MODEL__HIDDEN=256), then options; later ones win. A setting without a default is chosen
    by the size of the text, or is off. A switch takes true or false: `--model.tie false`. The path
    of the run is printed on standard output.
    """
    leave = _Leave()
    values = named(options)
    if resume is not None:
        if text or run is not None or config:
            raise CharlmError(
                "`resume` continues in the run's own directory with its own text and settings; "
                "leave TEXT, `run` and `config` out"
            )
        return _resume(resume, values, print_config, leave)
    from charlm.training.pretrained import inherit

    settings = Config.from_dict(inherit(given_settings(text, config, values)))
    if print_config:
        return _print_config(settings)
    from charlm.views.terminal import Terminal

    reporter = Terminal() if is_first_process() else Reporter()
    _check_early(settings, run)
    reporter.say("loading torch and lightning")
    from charlm.training.trainer import train

    leave.check()
    return _report(lambda: train(settings, run, reporter), reporter)


def _resume(run: str, values: dict[str, Any], printing: bool, leave: _Leave) -> None:
    from charlm.run_directory import RunDirectory
    from charlm.training.resume import changed_settings
    from charlm.views.terminal import Terminal

    directory = RunDirectory(run)
    config = Config.from_dict(merge(directory.config.to_dict(), values))
    if printing:
        return _print_config(config)
    checked = flat(config.to_dict())
    changes = {name: checked[name] for name in flat(values)}
    changed_settings(directory, changes)  # what is wrong with them is said before torch is loaded, which takes seconds
    reporter = Terminal() if is_first_process() else Reporter()
    reporter.say("loading torch and lightning")
    from charlm.training.trainer import resume

    leave.check()
    return _report(lambda: resume(run, changes, reporter), reporter)


def _print_config(config: Config) -> None:
    import yaml

    yaml.safe_dump(config.to_dict(), sys.stdout, sort_keys=False, allow_unicode=True)


def _check_early(config: Config, run: str | None) -> None:
    """Find the most common mistakes before torch is loaded, which takes seconds."""
    from charlm.network.summary import check_model
    from charlm.text.corpus import check_text
    from charlm.text.tokenization import tokenizer_kinds

    if run is not None and Path(run).exists() and is_first_process():
        raise CharlmError(f"{run} exists already; choose another `run`, or go on with {command('train', resume=run)}")
    check_model(config.model)
    tokenizer_kinds[config.tokenizer.kind]
    if is_first_process():
        check_text(config.data)


def _report(work: Callable[[], Run], reporter: Reporter) -> None:
    """Train, and say what to do next when the training has ended or was interrupted.

    Args:
        work: Trains and returns the run.
        reporter: Receives the messages.
    """
    try:
        run = work()
    except Interrupted as interrupted:
        if not is_first_process():
            return  # an error status here would make the launcher kill the first process before it has reported
        reporter.say(f"interrupted and saved; continue with: {command('train', resume=interrupted.run)}")
        raise
    finally:
        reporter.close()
    generate, report = command("generate", run.path), command("report", run.path)
    reporter.say(f"done; generate with: {generate}")
    reporter.say(f"make a report with: {report}")
    if is_first_process():
        print(shown(str(run.path)))


class _Leave:
    """The handler of Ctrl-C and SIGTERM until training begins: it raises an exception at once.

    The import of a compiled module may swallow the exception; `check` raises it again.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self)

    def __call__(self, number: int, frame: Any) -> None:
        self.asked = number
        self.check()

    def check(self) -> None:
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked is not None:
            raise SystemExit(128 + self.asked)
