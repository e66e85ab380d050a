"""charlm: recurrent language models of characters and words, from a text to a model that generates.

The package in the order of the data:

    text/        text to tokens, ids on disk, batches
    network/     ids to logits, through layers of cells
    training/    the network is trained (Lightning)
    generation/  logits to text, one token at a time
    evaluation/  likelihood, text metrics, verdict;  inspection/  gates, gradients, memory
    views/       what a person sees: terminal, charts, reports
    run.py       a trained model and its history;  run_directory.py  the files of a run
    config/      the settings;  cli/  the commands
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning
    from lightning.pytorch.loggers import Logger

    from charlm.reporter import Reporter
    from charlm.run import Run

__version__ = "0.1.0"
__all__ = ["CharlmError", "Config", "Run", "load", "resume", "train"]


def train(
    text: str | Path | Sequence[str | Path] | None = None,
    *,
    run: str | Path | None = None,
    reporter: Reporter | None = None,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Logger] = (),
    **settings: Any,
) -> Run:
    """Train on a text and return the finished run.

    Args:
        text: A file, a folder, a glob, or several; None: the built-in corpus.
        run: The directory to write; None: a free name under `runs/`.
        reporter: The object that is told the progress of the training; None: the terminal.
        callbacks: Lightning callbacks. After a step they run once its validation, samples and
            metrics are written, and before its checkpoint is saved.
        loggers: Lightning loggers, beside those of `trainer.logger`.
        settings: Groups of settings as dictionaries, named as on the command line:
            `model={"cell": "gru", "hidden": 128}, trainer={"max_time": "3m"}, seed=2`;
            `init_from` may be a `Run` or its directory.

    Raises:
        CharlmError: an error that the user can fix; its message is one line.
        Interrupted: Ctrl-C or SIGTERM; the run is saved, and `resume` continues it.
    """
    from charlm.config import Config
    from charlm.run import Run
    from charlm.training.pretrained import inherit
    from charlm.training.trainer import train
    from charlm.views.terminal import Terminal

    if text is not None:
        texts = [str(text)] if isinstance(text, str | Path) else [str(one) for one in text]
        settings["data"] = {**settings.get("data", {}), "text": texts}
    if (source := settings.get("init_from")) is not None:
        settings["init_from"] = str(source.path if isinstance(source, Run) else source)
    config = Config.from_dict(inherit(settings))
    return train(config, run, reporter or Terminal(), callbacks=callbacks, loggers=loggers)


def resume(
    run: str | Path | Run,
    *,
    reporter: Reporter | None = None,
    callbacks: Sequence[lightning.Callback] = (),
    loggers: Sequence[Logger] = (),
    **settings: Any,
) -> Run:
    """Continue a run from its last checkpoint, as if it had not been interrupted.

    Args:
        run: The run or its directory.
        reporter, callbacks, loggers: As for `train`.
        settings: New values for settings of the groups trainer, checkpoint, samples and inspect:
            `trainer={"max_epochs": 20}`.
    """
    from charlm.config.plain import flat
    from charlm.training.trainer import resume
    from charlm.views.terminal import Terminal

    path = run if isinstance(run, str | Path) else run.path
    return resume(path, flat(settings), reporter or Terminal(), callbacks=callbacks, loggers=loggers)


def load(run: str | Path) -> Run:
    """Open a run directory.

    This is fast: torch is imported and weights are read only when something needs them.
    """
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
