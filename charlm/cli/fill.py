"""charlm fill: the most probable text of a gap, by a forward and a backward run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from charlm.cli.options import Options, read
from charlm.config.fields import setting
from charlm.config.generation import FillConfig


@dataclass(frozen=True)
class FillOptions(FillConfig):
    """The options of `charlm fill`."""

    checkpoint: Literal["best", "last"] = setting("best", "which weights: best on validation, or the newest")
    device: str = setting("cpu", "cpu, cuda or auto")
    json: bool = setting(False, "print JSON, one line per filling")


def fill(
    forward: Annotated[str, Parameter(help="the directory of a training")],
    backward: Annotated[str, Parameter(help="a training on the same text with --data.direction backward")],
    text: Annotated[str, Parameter(help="the text, with ___ in place of the gap")],
    /,
    *,
    options: Options[FillOptions] = None,
) -> None:
    """Fill the gap of a text: the fillings that two runs find most probable, which read it from both ends.

    A line has the bits of the filling under both runs together, under the forward run, and under
    the backward run, then the filled text, separated by tabs. A line end in the text is written as
    \\n. The best filling comes first.
    """
    config = read(FillOptions, options)
    from charlm.run import Run
    from charlm.views.text import json_line, shown

    settings = dataclasses.asdict(config)
    as_json = settings.pop("json")
    for one in Run(forward).fill(text, Run(backward), **settings):
        if as_json:
            print(json_line(dataclasses.asdict(one) | {"bits": one.bits}))
        else:
            figures = (f"{value:.2f}" for value in (one.bits, one.forward_bits, one.backward_bits))
            print("\t".join([*figures, shown(one.text.replace("\n", "\\n"))]))
