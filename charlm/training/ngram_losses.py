"""The loss of a tuned n-gram model on the validation text of a run, for comparison in charts."""

from __future__ import annotations

import numpy as np

from charlm.errors import CharlmError
from charlm.evaluation.baselines import count_ngrams, describe_training, tuned_model
from charlm.reporter import Reporter
from charlm.run_directory import NGramLosses, RunDirectory
from charlm.training.validation_points import parts

MOST_TRAINING = 2_000_000  # tokens of the training text that the model reads, so that it takes seconds
MOST_VALIDATION = 2_000_000  # tokens: longer parts of the validation text are not evaluated


def ngram_losses(directory: RunDirectory, reporter: Reporter) -> NGramLosses | None:
    """Return the losses of a tuned n-gram model on the validation text of a run.

    The function `validation_points.parts` lists the parts of the text that validations may read.
    Each part of at most `MOST_VALIDATION` tokens has one loss. The losses are computed once and
    stored in the run directory. The result is None if the run has no validation text, or if the
    first item of that text has more than `MOST_VALIDATION` tokens.

    The number of tokens to read is limited, but not the time, so that a resumed run gets the
    same losses.
    """
    if not directory.has_split("val"):
        return None
    try:
        stored: NGramLosses | None = directory.quality["ngram"]
    except CharlmError:  # damaged; it is written anew
        stored = None
    if stored is not None:
        return stored
    train, validation = directory.stream("train"), directory.stream("val")
    read = [len(part) for part in parts(validation) if len(part) <= MOST_VALIDATION]
    if not read:  # the first item alone is too long
        return None
    what = "fitting an n-gram model to compare with"
    reporter.progress(what, 0, 1)
    model = tuned_model(count_ngrams(train, directory.vocab_size, MOST_TRAINING), validation)
    starts = None if validation.starts is None else validation.starts[validation.starts < max(read)]
    nats = np.cumsum(-model.log_probabilities(validation.ids[: max(read)], starts))
    found = NGramLosses(model.name, {size - 1: float(nats[size - 1] - nats[0]) / (size - 1) for size in read})
    reporter.progress(what, 1, 1)
    for stream in (train, validation):
        stream.release()
    directory.write_quality(ngram=found)
    reporter.say(
        f"baseline: {found.losses[max(read) - 1]:.3f} nats per token on the validation text, by an n-gram model "
        f"({model.name}) of {describe_training(train, MOST_TRAINING)}"
    )
    return found
