"""charlm attribute: which of several runs finds a text most probable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, Texts, read, read_text
from charlm.cli.protocol import ProtocolOptions
from charlm.config.fields import setting
from charlm.errors import CharlmError


@dataclass(frozen=True)
class AttributeOptions(ProtocolOptions):
    """The options of `charlm attribute`: the runs, how a text is read, and what is printed."""

    runs: tuple[str, ...] = setting((), "the directories of two or more trainings, one for each author, language, ...")
    by: Literal["text", "line"] = setting("text", "attribute each file as a whole, or each line")
    labels: str = setting(
        "", "a file with the true run of each text or line, one name a line: prints accuracy and a confusion table"
    )
    json: bool = setting(False, "print JSON: one object for each text or line, with --labels one for all")


def attribute(
    *text: Annotated[Texts, Parameter(help="files, folders, globs or - (default: standard input)")],
    options: Options[AttributeOptions] = None,
) -> None:
    """Say which of several runs finds each text, or each line, most probable: who wrote this?

    Without --labels and --json, the output has three columns for each text or line, separated by
    tabs: the name of the run that finds it most probable, the probability of this run (all runs
    being equally probable beforehand), and the name of the file or the line.
    """
    config = read(AttributeOptions, options)
    protocol = config.chosen()
    if len(config.runs) < 2:
        raise CharlmError("name two or more runs with `runs`; there is nothing to choose from otherwise")
    for name in config.runs:
        if Path(name).is_file():
            raise CharlmError(f"`runs` took {name} for a run, and it is a file; name the texts before the options")
    import numpy as np

    from charlm.evaluation.attribution import Attribution, check_comparable, nats_of_unknown
    from charlm.run import Run
    from charlm.text.separate import lines_of, read_files
    from charlm.views.scores import attribution_as_json, print_attribution, print_confusion
    from charlm.views.terminal import Terminal

    runs, terminal = [Run(path) for path in config.runs], Terminal()
    names = [run.path.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in runs]
    if len(set(names)) < len(names):
        raise CharlmError(f"`runs` names {next(name for name in names if names.count(name) > 1)} twice; name it once")
    check_comparable(dict(zip(names, (run.tokenizer for run in runs), strict=True)))
    labels = read_text(Path(config.labels)).split() if config.labels else None
    files = read_files(
        text or ("-",), encoding=config.encoding, newlines=runs[0].config.data.newlines, column=config.column
    )
    rows: list[str] = []
    texts: list[str] = []
    for name, content in files:
        texts += lines_of(content) if config.by == "line" else [content]
        rows += lines_of(content) if config.by == "line" else [name]
    columns = [
        run.log_likelihoods(
            texts,
            by_line=config.by == "line",
            unknown_nats=unknown_nats,
            protocol=protocol,
            checkpoint=config.checkpoint,
            device=config.device,
            progress=terminal.progress,
        )
        for run, unknown_nats in zip(runs, nats_of_unknown([run.tokenizer for run in runs]), strict=True)
    ]
    terminal.close()
    found = Attribution(names, -np.stack(columns, 1), labels)
    if config.json:
        for line in attribution_as_json(found, rows):
            print(line)
    elif labels:
        print_confusion(found)
    else:
        print_attribution(found, rows)
