"""The steps by which a run is resumed: what is read from its directory, checked and restored.

`trainer.resume` and `trainer.fit` do this in order:

1. `changed_settings` reads the settings of the run and applies the changes of the user.
2. `last_checkpoint` compares the newest checkpoint with its checksum and reads it.
3. `restore_progress` restores step, epoch, time and best loss. If the run has already reached a
   limit, `restore_weights` rewrites damaged weight files, and nothing is trained.
4. `check_processes` requires as many processes as before.
5. `trainer._open_logger` deletes the rows of `metrics.csv` and the samples that are later than the
   step of the checkpoint.
6. Lightning restores the weights, the optimiser and the position in the data.
   `LanguageModule.on_load_checkpoint` restores the recurrent state, the state of the random number
   generators and the schedule. If the checkpoint does not fit the run, `fitting` turns the error
   into a message for the user.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from charlm.config import Config, settings
from charlm.config.plain import merge, nest
from charlm.errors import CharlmError, first_line
from charlm.reporter import Reporter
from charlm.run_directory import WEIGHTS, RunDirectory
from charlm.training.processes import end_quietly, is_first_process
from charlm.training.sample_schedule import check_prompts

if TYPE_CHECKING:
    from charlm.training.progress import Progress

# The command line checks the changes before it loads torch, which takes seconds: torch is imported where it is used.

RESUMABLE = ("trainer", "checkpoint", "samples", "inspect")
"""Groups of settings that may change when a run is resumed."""


def changed_settings(directory: RunDirectory, changes: dict[str, Any]) -> Config:
    """Return the settings of a run, with the changes of the user applied.

    Args:
        directory: The run.
        changes: New values by the dotted names of settings.

    Raises:
        CharlmError: a setting that cannot change, or a new value that does not fit.
    """
    before = directory.config
    current = {setting.name: setting.value for setting in settings(before)}
    changed = {name: value for name, value in changes.items() if current.get(name) != value}
    for name in changed:
        if name.split(".")[0] not in RESUMABLE:
            raise CharlmError(f"`{name}` cannot change when a run is resumed; {_instead(name, directory)}")
        if changed[name] is None:
            raise CharlmError(f"`{name}` is chosen when a run starts; name a value to change it for a resumed run")
    config = Config.from_dict(merge(before.to_dict(), nest(changed)))
    check_prompts(config.samples, directory.tokenizer)
    return config


def _instead(name: str, directory: RunDirectory) -> str:
    """Return what to do instead of changing a setting that cannot change in a resumed run."""
    roles = {setting.name: setting.role for setting in settings(Config)}
    other_weights = name in ("init_from", "data.direction") or name.startswith("tokenizer.")
    if other_weights or name.startswith("model.") and roles.get(name) != "regularises":
        return "train a new run"
    return f"start a new one with `init_from` {directory.path}"


def last_checkpoint(directory: RunDirectory, reporter: Reporter) -> dict[str, Any] | None:
    """Return the newest checkpoint of a run; None if the run was stopped before its first one.

    Raises:
        CharlmError: the checkpoint is damaged, or is missing although the run has trained.
    """
    from charlm.training.checkpoint import load_checkpoint

    path = directory.path / "checkpoints" / "last.ckpt"
    if path.exists():
        directory.manifest.verify(
            "checkpoints/last.ckpt", f"start a new run from the weights with `init_from` {directory.path}"
        )
        return load_checkpoint(path)
    if any(row["step"] for row in directory.metrics):  # the initialisation, step 0, is measured before training
        raise CharlmError(f"there is no checkpoint {path}; start a new run with `init_from` {directory.path}")
    reporter.say(f"{directory.path} was stopped before its first checkpoint; it starts from the beginning")
    return None


def restore_progress(directory: RunDirectory, progress: Progress, saved: dict[str, Any]) -> None:
    """Set the counters of a training to those of a checkpoint.

    Also check the number of parameters and the state of the random number generator in the
    checkpoint. If these did not fit, Lightning would fail only later, with an unclear message.

    Args:
        directory: The run.
        progress: The counters to set.
        saved: The checkpoint.

    Raises:
        CharlmError: the checkpoint does not fit the run.
    """
    import torch

    from charlm.training.checkpoint import OURS

    with fitting(directory):
        directory.check_parameters(sum(value.numel() for value in saved["state_dict"].values()))
        progress.load_state_dict(saved[OURS]["progress"])
        with torch.random.fork_rng([]):  # a trial; the module restores it when training begins
            torch.set_rng_state(saved[OURS]["random"]["cpu"][0].clone())


def restore_weights(directory: RunDirectory, reporter: Reporter) -> None:
    """Rewrite weight files that are damaged or missing, from the checkpoints saved with them."""
    from charlm.training.checkpoint import load_checkpoint

    for name, path in WEIGHTS.items():
        try:
            directory.read_weights(name)
        except CharlmError:
            saved = load_checkpoint(directory.path / "checkpoints" / f"{name}.ckpt")["state_dict"]
            directory.write_weights({key.removeprefix("model."): value for key, value in saved.items()}, name)
            reporter.say(f"wrote {path} anew from the checkpoint")


def check_processes(directory: RunDirectory, before: int, now: int) -> None:
    """Raise CharlmError if a run is resumed by another number of processes than before.

    Such a run would not end with the same results as an uninterrupted one. Only the first process
    raises the error; the others end without a message.

    Args:
        directory: The run.
        before: Number of processes that wrote the checkpoint.
        now: Number of processes that resume the run.
    """
    if before != now and not is_first_process():
        end_quietly()
    if before != now:
        raise CharlmError(
            f"{directory.path} was trained by {before} process{'es' * (before > 1)} and can be resumed by as many, not "
            f"by {now}; set `trainer.devices` and `trainer.num_nodes`, or what the launcher starts, as before"
        )


@contextlib.contextmanager
def fitting(directory: RunDirectory, until: Callable[[], bool] = bool) -> Iterator[None]:
    """Turn errors within the block into a CharlmError that says that the checkpoint does not fit.

    Lightning and torch raise errors of many types if a checkpoint does not fit the run. If the run
    has no checkpoint, errors are raised unchanged.

    Args:
        directory: The run.
        until: A function without arguments that returns True once the checkpoint is restored;
            errors after that have other causes and are raised unchanged.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        path = directory.path / "checkpoints" / "last.ckpt"
        if until() or not path.is_file():
            raise
        raise CharlmError(
            f"the checkpoint {path} does not fit this run ({first_line(error)}); "
            f"start a new run from the weights with `init_from` {directory.path}"
        ) from error
