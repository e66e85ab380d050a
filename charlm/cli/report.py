"""charlm report: write a page about one run, or a page that compares several runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, output_path, read
from charlm.config.fields import setting
from charlm.errors import CharlmError


@dataclass(frozen=True)
class ReportOptions:
    """The options of `charlm report`: the format and the path of the page."""

    format: Literal["html", "md"] = setting("html", "a page to open in a browser, or Markdown for a README")
    output: str = setting(
        "", "the file (- for standard output; default: report.html in the run, or here if there are several)"
    )


def report(
    *run: Annotated[str, Parameter(help="the directories of trainings")],
    options: Options[ReportOptions] = None,
) -> None:
    """Write a page that shows what a run learnt (samples, curves, settings) or compares runs.

    The page needs no internet connection and no server. Its path is printed on standard output;
    with `--output -`, the page itself is printed there instead.
    """
    config = read(ReportOptions, options)
    if not run:
        raise CharlmError("name at least one run: charlm report RUN")
    from charlm.files import atomic, output
    from charlm.run_directory import RunDirectory
    from charlm.views import report as views
    from charlm.views.text import shown, visible

    runs = [RunDirectory(path) for path in run]
    written = views.html(runs) if config.format == "html" else views.markdown(runs)
    for line in (line for directory in runs for line in directory.left_out.values()):
        print(f"warning: {visible(line)}", file=sys.stderr)
    if config.output == "-":
        sys.stdout.write(shown(written))
        return
    folder = runs[0].path if len(runs) == 1 else Path()
    path = output_path(config.output or folder / f"report.{config.format}")
    with (output if config.output else atomic)(path) as file:  # refuse a FIFO at the default path
        file.write(written)
    print(f"wrote {visible(str(path.resolve()))}; open it in a browser", file=sys.stderr)
    print(shown(str(path)))
