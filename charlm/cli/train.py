"""charlm train: learn a text, or go on with a run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlm.config import Config
from charlm.config.settings import merge, nest, settings
from charlm.errors import CharlmError, Interrupted
from charlm.options import add_settings, from_environment, parse, parser_of, read_yaml
from charlm.watcher import Watcher

if TYPE_CHECKING:
    from charlm.run import Run

ABOUT = "learn a text, and watch the samples get better"


def run(arguments: list[str]) -> int:
    """Run the command; its exit status."""
    leave = _Leave()
    parser = parser_of(
        "train",
        "Learn a text: files, folders, globs or - for standard input; without any, the built-in corpus.",
        "Settings come from defaults, then --config files, then environment variables (CHARLM_MODEL__HIDDEN=256), "
        "then options. A setting without a default is chosen by the size of the text, or off. The run's path is "
        "printed on standard output.",
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="the text to learn")
    parser.add_argument(
        "--config", metavar="FILE", action="append", default=[], help="settings in YAML; may be repeated"
    )
    parser.add_argument("--run", metavar="DIR", help="where to put the run (default: a free name under runs/)")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run")
    parser.add_argument("--print_config", action="store_true", help="print the settings as YAML and exit")
    add_settings(parser, Config, skip=("data.text",))
    named = parse(parser, arguments)
    texts, files = named.pop("text"), named.pop("config")
    path, resumed, printing = named.pop("run", None), named.pop("resume", None), named.pop("print_config")
    if resumed is not None:
        if texts or path is not None or files:
            raise CharlmError(
                "--resume goes on in the run's own directory with its own text and settings; "
                "leave TEXT, --run and --config out"
            )
        return _resume(resumed, named, printing, leave)
    if texts:
        named["data.text"] = texts
    elif eaten := [prompt for prompt in named.get("samples.prompts", ()) if Path(prompt).is_file()]:
        raise CharlmError(f"--samples.prompts took {eaten[0]} for a prompt; name the text before the options")
    values: dict[str, Any] = {}
    for file in files:
        values = merge(values, read_yaml(Path(file)))
    from charlm.run import first_process, inherit

    config = Config.from_dict(inherit(merge(merge(values, from_environment()), nest(named))))
    if printing:
        return _print_config(config)
    from charlm.views.terminal import Terminal

    watcher = Terminal() if first_process() else Watcher()
    _check_early(config, path)
    watcher.say("loading torch and lightning")
    from charlm.training.trainer import train

    leave.check()
    return _watched(lambda: train(config, path, watcher), watcher)


def _resume(run: str, named: dict[str, Any], printing: bool, leave: _Leave) -> int:
    from charlm.run import Run, first_process
    from charlm.views.terminal import Terminal

    config = Config.from_dict(merge(Run(run).config.to_dict(), nest(named)))
    if printing:
        return _print_config(config)
    changes = {setting.name: setting.value for setting in settings(config) if setting.name in named}
    watcher = Terminal() if first_process() else Watcher()
    watcher.say("loading torch and lightning")
    from charlm.training.trainer import resume

    leave.check()
    return _watched(lambda: resume(run, changes, watcher), watcher)


def _print_config(config: Config) -> int:
    import yaml

    yaml.safe_dump(config.to_dict(), sys.stdout, sort_keys=False, allow_unicode=True)
    return 0


def _check_early(config: Config, path: str | None) -> None:
    """Find the commonest mistakes before torch is loaded, which takes seconds."""
    from charlm.network.shape import check_widths
    from charlm.run import first_process
    from charlm.text.sources import find
    from charlm.text.tokenization import tokenizers

    if path is not None and Path(path).exists() and first_process():
        raise CharlmError(f"{path} exists already; choose another --run, or go on with --resume {path}")
    check_widths(config.model.cell, config.model.embedding, config.model.hidden)
    tokenizers[config.tokenizer.kind]
    for place in (*config.data.text, config.data.val, config.data.test):
        if place not in (None, "-") and not Path(place).expanduser().exists():
            find(place, config.data.pattern)  # says what is wrong, unless it is a pattern


def _watched(work: Callable[[], Run], watcher: Watcher) -> int:
    """Train, and say what to do next, however it ends."""
    from charlm.run import first_process

    try:
        run = work()
    except Interrupted as interrupted:
        if not first_process():
            return 0  # the launcher would kill the first process, which is still busy saying goodbye
        watcher.say(f"interrupted and saved; go on with: charlm train --resume {interrupted.run}")
        raise
    finally:
        watcher.close()
    watcher.say(f"done; generate with: charlm generate {run.path}    see it all with: charlm report {run.path}")
    if first_process():
        print(run.path)
    return 0


class _Leave:
    """Ctrl-C and SIGTERM before training has begun: leave at once, with nothing half-done left behind.

    An import of compiled code may swallow the exception; `check` raises it again.
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
