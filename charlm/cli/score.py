"""charlm score: how probable a run finds every token, line or file of a text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, Texts, output_path, read
from charlm.cli.protocol import ProtocolOptions
from charlm.config.fields import setting
from charlm.errors import CharlmError

if TYPE_CHECKING:
    from charlm.evaluation.scores import TokenScores
    from charlm.run import Run
    from charlm.text.stream import TokenStream
    from charlm.views.scores import Scored

PREFERRED = 5
"""Number of most probable tokens that are listed for each place of the text.

They are listed in the page of `--html` and in the output of `--by token --json`.
"""


@dataclass(frozen=True)
class ScoreOptions(ProtocolOptions):
    """The options of `charlm score`: what is scored, and how the scores are shown."""

    by: Literal["text", "line", "token"] = setting(
        "text", "one score for each file, for each line (read on its own), or for each token"
    )
    sort: bool = setting(False, "the most surprising lines, tokens or files first")
    against: str = setting("", "a second run with the same vocabulary: its scores, and the difference")
    html: str = setting("", "also write a page in which each token is coloured by its bits")
    split: Literal["train", "val", "test"] = setting("val", "which split of the run's own text, if no text is named")
    json: bool = setting(False, "print JSON: one object for each file, line or token")


def score(
    run: Annotated[str, Parameter(help="the directory of a training")],
    /,
    *text: Annotated[Texts, Parameter(help="files, folders, globs or -")],
    options: Options[ScoreOptions] = None,
) -> None:
    """Print how surprising a text is to a run: bits of each file, line or token, and bits per character.

    Every token counts, the first one too. Lines are printed as bits per character, bits, and the
    line, separated by tabs; tokens as position, bits, rank, and the token in quotes. With
    --against, three columns stand in place of the bits: those of the first run, those of the
    second, and the difference, which is negative where the first run is surprised less. For lines,
    these three columns are in bits per character, and there is no column of bits.
    """
    config = read(ScoreOptions, options)
    page = output_path(config.html) if config.html else None
    from charlm.evaluation.attribution import check_same_vocabulary
    from charlm.run import Run
    from charlm.views.scores import as_json, print_lines, print_texts, print_tokens

    config.chosen()  # a mistake in the protocol is found before long work
    runs = [Run(path) for path in (run, config.against) if path]
    check_same_vocabulary({str(one.path): one.tokenizer for one in runs})
    if runs[-1].config.data.direction != runs[0].config.data.direction:
        raise CharlmError(
            f"{run} is trained {runs[0].config.data.direction} and {config.against} "
            f"{runs[-1].config.data.direction}, so that they predict a token from different text; score each alone"
        )
    found = _scored(runs, text, config)
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


def _scored(runs: Sequence[Run], places: Sequence[str], config: ScoreOptions) -> list[Scored]:
    """Let each run score the files in `places`; if there are none, a split of the first run.

    If the option `by` is "line", all lines together are one result. Otherwise each file is a result
    of its own.

    Args:
        runs: One run, or two to compare.
        places: Files, folders, globs or - for standard input.
        config: The options of the command.
    """
    from charlm.text.separate import lines_of, read_files
    from charlm.views.scores import Scored
    from charlm.views.terminal import Terminal

    first, terminal = runs[0], Terminal()

    def scores(text: str | list[str] | TokenStream) -> list[TokenScores]:
        return [
            one.score(
                text,
                preferred=PREFERRED if config.html or config.by == "token" else 0,
                protocol=config.chosen(),
                checkpoint=config.checkpoint,
                device=config.device,
                progress=terminal.progress,
            )
            for one in runs
        ]

    files = list(
        read_files(places, encoding=config.encoding, newlines=first.config.data.newlines, column=config.column)
    )
    if config.by == "line":
        own = [] if places else lines_of(first.directory.stream(config.split).text(first.tokenizer))
        lines = [line for _, content in files for line in lines_of(content)] or [line for line in own if line]
        found = [Scored("lines", first.tokenizer, scores(lines), lines, "\n".join(lines))]
    elif places:
        found = [Scored(name, first.tokenizer, scores(content), text=content) for name, content in files]
    else:
        stream = first.directory.stream(config.split)
        found = [Scored(f"the {config.split} split", first.tokenizer, scores(stream))]
    terminal.close()
    return found
