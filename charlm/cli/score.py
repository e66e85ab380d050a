"""charlm score: how probable a run finds every token, line or file of a text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, Texts, read
from charlm.cli.protocol import ProtocolOptions
from charlm.config.fields import setting
from charlm.errors import CharlmError

if TYPE_CHECKING:
    from charlm.evaluation.scores import TokenScores
    from charlm.run import Run

PREFERRED = 5
"""Tokens that the model found most probable, of which the page and --json tell for each place."""


@dataclass(frozen=True)
class ScoreOptions(ProtocolOptions):
    """What is scored, and how it is shown."""

    by: Literal["text", "line", "token"] = setting(
        "text", "one score for each file, for each line (read on its own), or for each token"
    )
    sort: bool = setting(False, "the most surprising lines, tokens or files first")
    against: str = setting("", "a second run with the same vocabulary: its scores, and the difference")
    html: str = setting("", "also write a page in which each token is coloured by its bits")
    split: Literal["train", "val", "test"] = setting("val", "which split of the run's own text, if no text is named")
    encoding: str = setting("utf-8", "character encoding of files without a byte-order mark")
    column: str = setting("", "the text is this column of CSV or TSV files, or this key of JSON Lines")
    checkpoint: Literal["best", "last"] = setting("best", "which weights: best on validation, or the newest")
    device: str = setting("auto", "cpu, cuda or auto")
    json: bool = setting(False, "print JSON: one object for each file, line or token")


def score(
    run: Annotated[str, Parameter(help="the directory of a training")],
    /,
    *text: Annotated[Texts, Parameter(help="files, folders, globs or -")],
    options: Options[ScoreOptions] = None,
) -> None:
    """Print how surprising a text is to a run: bits of each file, line or token, and bits per character.

    Every token counts, the first one too. Lines are printed as bits per character, bits, and the line, separated by
    tabs; tokens as position, bits, rank, and the token in quotes. With --against, the bits of both runs and their
    difference stand in place of the bits: negative where the first run is surprised less.
    """
    config = read(ScoreOptions, options)
    protocol = config.chosen()
    page = _page(config.html) if config.html else None
    from charlm.evaluation.attribution import check_same_vocabulary
    from charlm.run import Run
    from charlm.text.separate import lines_of, read_files
    from charlm.views.scores import Scored, as_json, print_lines, print_texts, print_tokens
    from charlm.views.terminal import Terminal

    runs, terminal = [Run(run)], Terminal()
    if config.against:
        runs.append(Run(config.against))
        check_same_vocabulary({str(one.path): one.tokenizer for one in runs})
    details = PREFERRED if page or config.by == "token" else 0

    def scores(text: Any) -> list[TokenScores]:
        return [
            one.score(
                text,
                preferred=details,
                protocol=protocol,
                checkpoint=config.checkpoint,
                device=config.device,
                progress=terminal.progress,
            )
            for one in runs
        ]

    newlines, tokenizer = runs[0].config.data.newlines, runs[0].tokenizer
    files = list(read_files(text, encoding=config.encoding, newlines=newlines, column=config.column))
    if config.by == "line":
        lines = _own_lines(runs[0], config.split) if not text else [line for _, one in files for line in lines_of(one)]
        found = [Scored("lines", tokenizer, scores(lines), lines, "\n".join(lines))]
    elif text:
        found = [Scored(name, tokenizer, scores(one), text=one) for name, one in files]
    else:
        found = [Scored(f"the {config.split} split", tokenizer, scores(runs[0].directory.stream(config.split)))]
    terminal.close()
    if page:
        from charlm.files import output
        from charlm.views.surprise import html
        from charlm.views.text import visible

        with output(page) as file:
            file.write(html(found, [one.path.name for one in runs]))
        print(f"wrote {visible(str(page.resolve()))}; open it in a browser", file=sys.stderr)
    if config.json:
        for line in as_json(found, config.by, sort=config.sort):
            print(line)
    elif config.by == "line":
        print_lines(found[0], sort=config.sort)
    elif config.by == "token":
        print_tokens(found, sort=config.sort)
    else:
        print_texts(found, [str(one.path) for one in runs], sort=config.sort)


def _page(name: str) -> Path:
    path = Path(name)
    if path.is_dir() or not path.parent.is_dir():
        raise CharlmError(f"cannot write {path}: it needs a folder that exists, and the name of a file in it")
    return path


def _own_lines(run: Run, split: str) -> list[str]:
    from charlm.text.separate import lines_of

    return [line for line in lines_of(run.tokenizer.decode(run.directory.stream(split).ids)) if line]
