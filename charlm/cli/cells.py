"""charlm cells: the recurrences, with their equations."""

from __future__ import annotations

from charlm.config import CellsConfig
from charlm.options import parser_of, read

ABOUT = "list the recurrences with their equations"


def run(arguments: list[str]) -> int:
    """Run the command; its exit status."""
    parser = parser_of("cells", "The recurrences: their equations, their sizes, the way they take through a window.")
    parser.add_argument("name", nargs="*", metavar="CELL", help="only these")
    config: CellsConfig
    named, config = read(parser, CellsConfig, arguments)
    names = named["name"]
    from charlm.network.cells import cells
    from charlm.views.terminal import Terminal, print_cells

    chosen = {name: cells[name] for name in names or cells}
    speeds = {}
    if config.time:
        from charlm.measure.speed import training_speed
        from charlm.network.precision import torch_device

        terminal = Terminal()
        device = torch_device(config.device).type
        wanted = [*chosen, "lstm"] if "lstm" not in chosen else [*chosen]
        speeds = training_speed(wanted, config.hidden, device=device, progress=terminal.progress)
        terminal.close()
    print_cells(chosen, config.embedding or config.hidden, config.hidden, speeds)
    return 0
