"""charlm race: compare several cells on one text, at equal size and training budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from charlm.cli.experiment import run_experiment
from charlm.cli.options import Options, Texts, named, read
from charlm.cli.sources import given_settings
from charlm.config import Config
from charlm.errors import CharlmError
from charlm.experiments.planning import start
from charlm.experiments.race import RaceOptions, base_settings, check, check_engine, run
from charlm.experiments.race_directory import RaceDirectory
from charlm.reporter import Reporter
from charlm.text.corpus import check_text
from charlm.text.tokenization import tokenizer_kinds


def race(
    *text: Annotated[Texts, Parameter(help="the text to train on")],
    config: Annotated[
        list[str], Parameter(help="settings in YAML, or a preset by name; may be repeated", negative=())
    ] = [],  # noqa: B006 - the parser reads it and nothing changes it
    race: Annotated[str | None, Parameter(help="the directory of the race (default: a free name under races/)")] = None,
    resume: Annotated[str | None, Parameter(help="continue this race; a finished one is shown again")] = None,
    json: Annotated[bool, Parameter(help="print JSON")] = False,
    options: Options[RaceOptions] = None,
    settings: Options[Config] = None,
) -> None:
    """Compare cells on one text: each trained at equal size and equal budget, with several seeds.

    `charlm race TEXT --cells lstm gru min_gru` searches the learning rate of each cell, trains it
    with several seeds, ranks the cells by the validation split and says how sure the order is.
    Settings of charlm train can be given as well and apply to all cells. The defaults are those of
    charlm train, except checkpoint.patience 0, samples.scored 0, data.test_fraction 0.05 and
    trainer.devices 1. The table of results is printed on standard output; the page with all results
    is race.html in the directory of the race.
    """
    chosen, values = read(RaceOptions, options), named(settings)
    if resume is not None:
        if text or config or race is not None or values or not named(options).keys() <= {"engine", "cluster"}:
            raise CharlmError("`resume` continues a race with its own text, plan and settings; leave the others out")
        check_engine(chosen, RaceDirectory(resume).plan.networks)
        return _run(lambda reporter: RaceDirectory(resume), chosen, json)
    if "cell" in values.get("model", {}):
        raise CharlmError("`model.cell` is one cell, and a race compares several; name them with `cells`")
    base = Config.from_dict(base_settings(given_settings(text, config, values)))
    check(chosen, base)
    tokenizer_kinds[base.tokenizer.kind]
    path = None if race is None else Path(race)
    if path is not None and path.exists():
        raise CharlmError(f"{path} exists already; choose another `race`, or continue it with `resume` {path}")
    check_text(base.data)
    return _run(lambda reporter: start(chosen, base, path, reporter), chosen, json)


def _run(begin: Callable[[Reporter], RaceDirectory], options: RaceOptions, json: bool) -> None:
    from charlm.experiments.standings import result, write_page
    from charlm.views.race import print_race

    def train(directory: RaceDirectory, reporter: Reporter) -> None:
        if not directory.is_finished:
            for line in directory.plan.describe():
                reporter.say(line)
        run(directory, reporter, options)

    run_experiment(begin, train, result, write_page, print_race, json=json)
