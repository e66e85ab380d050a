"""charlm: recurrent language models of characters and words, from a text to a trained writer.

The package in the order the data takes:

    text/        text becomes tokens, ids on disk, lanes of windows
    network/     windows become scores of the next token, through layers of recurrent cells
    training/    scores become smaller losses (Lightning)
    generation/  scores become text, one token at a time
    measure/     how good, and a verdict
    views/       for eyes: the terminal, charts, reports
    run.py       the directory that holds one training;  config/  its settings
    cli/         the commands;  options.py  a setting as an option
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlm.run import Run
    from charlm.watcher import Watcher

__version__ = "0.1.0"
__all__ = ["CharlmError", "Config", "Run", "load", "resume", "train"]


def train(
    text: str | Path | list[str] | None = None,
    *,
    run: str | Path | None = None,
    watcher: Watcher | None = None,
    **settings: Any,
) -> Run:
    """Learn a text and return the finished run.

    Args:
        text: A file, a folder, a glob, or several; None: the built-in corpus.
        run: The directory to write; None: a free name under `runs/`.
        watcher: Who looks on; None: the terminal.
        settings: Groups of settings as dictionaries, named as on the command line:
            `model={"cell": "gru", "hidden": 128}, trainer={"max_time": "3m"}, seed=2`; `init_from` may be a run.

    Raises:
        CharlmError: something that a user can fix, in one line.
        Interrupted: Ctrl-C; the run has saved itself and `resume` goes on with it.
    """
    from charlm.config import Config
    from charlm.run import Run, inherit
    from charlm.training.trainer import train
    from charlm.views.terminal import Terminal

    if text is not None:
        texts = [str(text)] if isinstance(text, str | Path) else [str(one) for one in text]
        settings["data"] = {**settings.get("data", {}), "text": texts}
    if (source := settings.get("init_from")) is not None:
        settings["init_from"] = str(source.path if isinstance(source, Run) else source)
    return train(Config.from_dict(inherit(settings)), run, watcher or Terminal())


def resume(run: str | Path | Run, *, watcher: Watcher | None = None, **settings: Any) -> Run:
    """Go on with a run exactly where its last checkpoint stands.

    Args:
        run: The run or its directory.
        watcher: Who looks on; None: the terminal.
        settings: What changes, of the groups trainer, checkpoint, samples and inspect: `trainer={"max_epochs": 20}`.
    """
    from charlm.training.trainer import resume
    from charlm.views.terminal import Terminal

    path = run if isinstance(run, str | Path) else run.path
    changes = {f"{group}.{key}": value for group, values in settings.items() for key, value in values.items()}
    return resume(path, changes, watcher or Terminal())


def load(run: str | Path) -> Run:
    """Open the directory of a training; cheap, and without torch until something needs it."""
    from charlm.run import Run

    return Run(run)


def __getattr__(name: str) -> Any:
    if name == "Run":
        from charlm.run import Run

        return Run
    if name == "Config":
        from charlm.config import Config

        return Config
    if name == "CharlmError":
        from charlm.errors import CharlmError

        return CharlmError
    raise AttributeError(f"module 'charlm' has no attribute {name!r}")
