"""charlm sweep: search the best settings for one text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from charlm.cli.experiment import run_experiment
from charlm.cli.options import Options, Texts, named, read
from charlm.cli.sources import given_settings
from charlm.config import Config
from charlm.errors import CharlmError
from charlm.experiments.sweep import SweepOptions, base_settings, check, result, run, start, write_page
from charlm.experiments.sweep_directory import SweepDirectory, load_optuna
from charlm.text.corpus import check_text
from charlm.views.sweep import print_sweep


def sweep(
    *text: Annotated[Texts, Parameter(help="the text to train on")],
    config: Annotated[
        list[str], Parameter(help="settings in YAML, or a preset by name; may be repeated", negative=())
    ] = [],  # noqa: B006 - the parser reads it and nothing changes it
    sweep: Annotated[
        str | None, Parameter(help="the directory of the sweep (default: a free name under sweeps/)")
    ] = None,
    resume: Annotated[str | None, Parameter(help="continue this sweep; a finished one is shown again")] = None,
    json: Annotated[bool, Parameter(help="print JSON")] = False,
    options: Options[SweepOptions] = None,
    settings: Options[Config] = None,
) -> None:
    """Search the best settings for one text with Optuna, among those that a space file allows.

    `charlm sweep TEXT --space space.yaml` trains one run after the other. A line of the file is a
    range, `optimizer.lr: {low: 0.001, high: 0.02, log: true}`, or a list of choices, `model.cell:
    [lstm, gru]`. Settings of charlm train can be given as well and apply to all runs. The best
    trials are printed on standard output; the page is sweep.html in the directory of the sweep.
    """
    chosen, values = read(SweepOptions, options), named(settings)
    if resume is not None:
        if text or config or sweep is not None or values or named(options):
            raise CharlmError("`resume` continues a sweep with its own text, plan and settings; leave the others out")
        load_optuna()
        return run_experiment(lambda _: SweepDirectory(resume), run, result, write_page, print_sweep, json=json)
    base = Config.from_dict(base_settings(given_settings(text, config, values)))
    check(chosen, base)
    path = None if sweep is None else Path(sweep)
    if path is not None and path.exists():
        raise CharlmError(f"{path} exists already; choose another `sweep`, or continue it with `resume` {path}")
    check_text(base.data)
    return run_experiment(lambda _: start(chosen, base, path), run, result, write_page, print_sweep, json=json)
