"""charlm cells: the cells, with their equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from charlm.cli.options import Options, read
from charlm.config.fields import NonNegativeInteger, PositiveInteger, setting


@dataclass(frozen=True)
class CellsOptions:
    """The options of `charlm cells`: the sizes of the layer, and how to measure speed."""

    hidden: PositiveInteger = setting(256, "hidden units of the layer")
    embedding: NonNegativeInteger = setting(0, "width of the layer's input (0: as wide as the layer)")
    context: NonNegativeInteger = setting(0, "tokens that a window or a transformer sees (0: the cell's own number)")
    time: bool = setting(False, "measure how fast each cell trains on this machine (some seconds)")
    device: str = setting("cpu", "where to measure: cpu, cuda or auto")


def cells(
    *cell: Annotated[str, Parameter(help="cells to list (default: all)")],
    options: Options[CellsOptions] = None,
) -> None:
    """List the cells: their equations, their sizes, and how each runs over a window."""
    config = read(CellsOptions, options)
    from charlm.config import ModelConfig
    from charlm.network.cells import cells as registry
    from charlm.views.terminal import Terminal, print_cells

    settings = ModelConfig(context=config.context)
    chosen = {name: registry[name](settings) for name in cell or registry}
    speeds = {}
    if config.time:
        from charlm.evaluation.speed import training_speed
        from charlm.network.precision import torch_device

        terminal = Terminal()
        device = torch_device(config.device).type
        wanted = [*chosen, "lstm"] if "lstm" not in chosen else [*chosen]
        speeds = training_speed(wanted, config.hidden, device=device, progress=terminal.progress)
        terminal.close()
    print_cells(chosen, config.embedding or config.hidden, config.hidden, speeds)
