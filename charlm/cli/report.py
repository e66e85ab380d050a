"""charlm report: a page of a run, or of several compared."""

from __future__ import annotations

import sys
from pathlib import Path

from charlm.config import ReportConfig
from charlm.errors import CharlmError
from charlm.options import parser_of, read

ABOUT = "make a page of a run, or of several compared"


def run(arguments: list[str]) -> int:
    """Run the command; its exit status."""
    parser = parser_of(
        "report",
        "One page that shows what a run learnt: its samples, curves, scores and settings; of several runs, compared.",
        "The page needs no network and no server. Its path is printed on standard output.",
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="the directories of trainings")
    config: ReportConfig
    named, config = read(parser, ReportConfig, arguments)
    paths = named["run"]
    from charlm.files import atomic
    from charlm.run import Run
    from charlm.views import report

    runs = [Run(path) for path in paths]
    written = report.html(runs) if config.format == "html" else report.markdown(runs)
    if config.output == "-":
        sys.stdout.write(written)
        return 0
    folder = runs[0].path if len(runs) == 1 else Path()
    output = folder / f"report.{config.format}" if config.output is None else Path(config.output)
    if output.is_dir() or not output.parent.is_dir():
        raise CharlmError(f"cannot write {output}: it needs a folder that there is, and the name of a file in it")
    with atomic(output) as file:
        file.write(written)
    print(f"wrote {output.resolve()}; open it in a browser", file=sys.stderr)
    print(output)
    return 0
