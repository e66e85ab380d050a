"""charlm: recurrent language models of characters and words, from a text to a model that generates.

The main parts of the package, mostly in the order in which data pass through them:

    text/             text to tokens, ids on disk, batches
    network/          ids to logits, through layers of cells
    training/         training of the network (Lightning)
    generation/       logits to text, one token at a time
    evaluation/       likelihood, text metrics, a verdict on a run
    inspection/       measurements of gates, gradients and memory
    experiments/      many runs, such as a race of several cells
    views/            what a person sees: terminal, charts, reports
    run.py            a trained model and its history
    run_directory.py  the files of a run
    config/           the settings
    cli/              the commands
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
    from charlm.views.race import RaceResult

__version__ = "0.1.0"
__all__ = ["CharlmError", "Config", "Run", "load", "race", "resume", "train"]


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
        text: A file, a folder or a glob, or several of them; None: what `settings` name as
            `data.text`, else the built-in corpus.
        run: The directory of the new run; None: a free name under `runs/`.
        reporter: The object that is told the progress of the training; None: one that prints to
            the terminal.
        callbacks: Lightning callbacks. If a step has a validation, samples or logged metrics, the
            callbacks run after them; if it has a checkpoint, before the checkpoint is saved.
        loggers: Lightning loggers, in addition to those of the setting `trainer.logger`.
        settings: Settings, named as on the command line, with each group as a dictionary:
            `model={"cell": "gru", "hidden": 128}, trainer={"max_time": "3m"}, seed=2`;
            `init_from` may be a `Run` or its directory.

    Raises:
        CharlmError: there is an error that the user can fix; the message is one line.
        Interrupted: Ctrl-C or SIGTERM ended the training; `resume` continues the saved run.
    """
    from charlm.config import Config
    from charlm.run import Run
    from charlm.training.pretrained import inherit
    from charlm.training.trainer import train
    from charlm.views.terminal import Terminal

    settings = _with_text(text, settings)
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
        run: The run, or the path of its directory.
        reporter, callbacks, loggers: As for `train`.
        settings: New values for settings of the groups trainer, checkpoint, samples and inspect:
            `trainer={"max_epochs": 20}`.
    """
    from charlm.config.plain import flat
    from charlm.training.trainer import resume
    from charlm.views.terminal import Terminal

    path = run if isinstance(run, str | Path) else run.path
    return resume(path, flat(settings), reporter or Terminal(), callbacks=callbacks, loggers=loggers)


def race(
    text: str | Path | Sequence[str | Path] | None = None,
    *,
    race: str | Path | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> RaceResult:
    """Train several cells on a text at equal size and budget, and return which is best.

    The result also says how sure that is.

    Args:
        text: The text, as for `train`.
        race: The directory of the race; None: a free name under `races/`. A race that is there
            already is continued, or, if it is finished, only read.
        reporter: The object that is told the progress of the race; None: one that prints to the
            terminal.
        settings: The options of `charlm race`, and settings as for `train`, which all cells share:
            `cells=["lstm", "gru"], seeds=3, budget="10m", model={"layers": 2}`.

    Raises:
        CharlmError: there is an error that the user can fix; the message is one line.
        Interrupted: Ctrl-C or SIGTERM ended the race. What was trained is saved, and a call with
            the same directory continues the race.
    """
    from dataclasses import fields

    from charlm.config import Config
    from charlm.config.plain import from_plain
    from charlm.experiments.planning import start
    from charlm.experiments.race import RaceOptions, base_settings, check, run
    from charlm.experiments.race_directory import RaceDirectory
    from charlm.experiments.standings import result, write_page
    from charlm.views.terminal import Terminal

    names = [one.name for one in fields(RaceOptions) if one.name in settings]
    chosen, reporter = from_plain(RaceOptions, {name: settings.pop(name) for name in names}), reporter or Terminal()
    path = None if race is None else Path(race)
    if path is not None and path.exists():
        directory = RaceDirectory(path)
    else:
        config = Config.from_dict(base_settings(_with_text(text, settings)))
        check(chosen, config)
        directory = start(chosen, config, path, reporter)
    run(directory, reporter, chosen)
    found = result(directory)
    write_page(directory, found)
    return found


def _with_text(text: str | Path | Sequence[str | Path] | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the groups of settings after putting the given text into `data.text`.

    Args:
        text: The text or texts; None: the settings stay as they are.
        settings: The groups of settings, by name.
    """
    if text is None:
        return settings
    texts = [str(text)] if isinstance(text, str | Path) else [str(one) for one in text]
    return {**settings, "data": {**settings.get("data", {}), "text": texts}}


def load(run: str | Path) -> Run:
    """Open a run directory and return the run.

    This is fast, because torch is imported and weights are read only when something needs them.
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
