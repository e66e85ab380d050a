"""The message about an interrupted run: bits per character, which weights to use, a sample.

Nothing here changes the files that resuming reads. Therefore a resumed run ends with the same
results as an uninterrupted one.
"""

from __future__ import annotations

from itertools import islice

import lightning

from charlm.config import Config
from charlm.config.shell import command
from charlm.errors import CharlmError
from charlm.evaluation.likelihood import Evaluation
from charlm.reporter import Reporter
from charlm.run_directory import RunDirectory
from charlm.training.callbacks import Validation
from charlm.training.module import LanguageModule
from charlm.training.sample_logger import generate_samples
from charlm.training.validation_points import SPEED, beginning

QUICK = 5.0
"""Longest validation, in seconds, for which a person who pressed Ctrl-C is kept waiting."""


def describe_interruption(
    trainer: lightning.Trainer,
    module: LanguageModule,
    directory: RunDirectory,
    config: Config,
    validation: Validation,
    reporter: Reporter,
    *,
    patient: bool,
) -> None:
    """Tell the user how good an interrupted run is and how to generate text from it; show a sample.

    Call this after the checkpoint of the run has been written.

    Args:
        trainer, module: The interrupted training.
        directory, config: The run and its settings.
        validation: The callback that validates the run.
        reporter: Receives the messages and the sample.
        patient: Whether there is time for a validation and a sample; if not, only say which weights
            `charlm generate` uses.
    """
    progress = module.progress
    newest = f"the newest weights, of step {progress.step:,}"
    result = _validate(trainer, module, validation) if patient else None
    if result is not None:
        newest += f" ({result.bits_per_character:.3f} bits per character)"
    generate = command("generate", directory.path)
    if progress.best_loss is None or progress.improved:
        reporter.say(f"{generate} uses {newest}")
    else:
        reporter.say(
            f"{generate} uses the weights of the best validation, of epoch {progress.best_epoch:.3g} "
            f"({progress.best_bits_per_character:.3f} bits per character); "
            f"{command('generate', directory.path, checkpoint='last')} uses {newest}"
        )
    if not patient:
        return
    if config.samples.every != 0 and progress.step:
        try:
            for sample in islice(generate_samples(module, directory, config.samples), 1):
                reporter.on_sample(sample)
        except CharlmError as error:
            reporter.say(f"no sample; {error}")
    reporter.on_end(directory)


def _validate(trainer: lightning.Trainer, module: LanguageModule, validation: Validation) -> Evaluation | None:
    """Evaluate the newest weights on the part of the validation text that validations read.

    If this part is not known yet, because there was no validation, read as much as can be read in
    `QUICK` seconds. Return None if the evaluation would take more than `QUICK` seconds, if the run
    has no validation text, or if the run was interrupted before its first step.
    """
    progress = module.progress
    if validation.stream is None or not progress.step:
        return None
    affordable = int(QUICK * SPEED * progress.tokens / max(1e-9, progress.elapsed))
    stream = beginning(validation.stream, progress.validation_tokens or affordable)
    if validation.reads_all:
        stream = validation.stream
    return validation.evaluate(trainer, module, stream) if len(stream) <= affordable else None
