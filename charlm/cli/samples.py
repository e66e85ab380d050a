"""charlm samples: the sample history of a run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from charlm.cli.options import Options, read
from charlm.config.fields import NonNegativeNumber, setting
from charlm.errors import CharlmError


@dataclass(frozen=True)
class SamplesOptions:
    """The options of `charlm samples`: which samples are shown, and in which form."""

    prompt: str | None = setting(None, "only samples of this prompt")
    epoch: NonNegativeNumber | None = setting(None, "only samples of this epoch (0: initialisation)")
    side_by_side: bool = setting(False, "samples of different epochs in columns, as many as fit")
    json: bool = setting(False, "print JSON, one line per sample")


def samples(
    run: Annotated[str, Parameter(help="the directory of a training")],
    /,
    *,
    options: Options[SamplesOptions] = None,
) -> None:
    """Show the sample history of a run: texts generated before, during and after training."""
    config = read(SamplesOptions, options)
    from charlm.run_directory import RunDirectory
    from charlm.views.text import json_line, visible

    def shown(epoch: float) -> str:  # as headings have it, and people type it
        return f"{epoch:.4g}"

    directory = RunDirectory(run)
    history = directory.samples
    for line in directory.left_out.values():
        print(f"warning: {visible(line)}", file=sys.stderr)
    chosen = [
        sample
        for sample in history
        if config.prompt in (None, sample.prompt)
        and (config.epoch is None or shown(config.epoch) == shown(sample.epoch))
    ]
    if not chosen:
        prompts = ", ".join(sorted({repr(sample.prompt) for sample in history}))
        epochs = ", ".join(shown(epoch) for epoch in sorted({sample.epoch for sample in history}))
        have = f"; it has prompts {prompts} at epochs {epochs}" if history else " yet; it is still being prepared"
        raise CharlmError(f"{run} has no such samples{have}")
    if config.json:
        import dataclasses

        for sample in chosen:
            print(json_line(dataclasses.asdict(sample)))
    else:
        from charlm.views.samples import print_sample_history, print_side_by_side

        (print_side_by_side if config.side_by_side else print_sample_history)(chosen)
