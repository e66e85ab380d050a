"""Networks of different cells that are equal in parameters, width or operations per token."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from charlm.config import Config, ModelConfig
from charlm.config.resolve import Facts, resolve
from charlm.network.cells import cells
from charlm.network.summary import operation_count, parameter_count

Equal = Literal["parameters", "width", "operations"]

MULTIPLES = (32, 16, 8, 4, 2, 1)
"""The number of hidden units is a multiple of the first of these that gives a size near enough."""

NEAR = 0.02
"""Relative difference from the wanted size up to which a size is near enough."""

MOST_UNITS = 1 << 16
"""Most hidden units that are tried."""


def equal_networks(config: Config, names: list[str], equal: Equal, facts: Callable[[str], Facts]) -> dict[str, Config]:
    """Return the settings of a network of each cell, equal in size to that of the first cell.

    Only `model.hidden` is adapted, and `model.embedding` for a cell whose input must be as wide as
    its hidden units. The result has a value for every setting that was None.

    Args:
        config: The settings that all networks share. A setting that is None is chosen for each
            cell.
        names: Names of the cells.
        equal: What is made equal: parameters, width, or operations per token.
        facts: A function that returns, for the name of a cell, what settings are chosen from: the
            size of the text, the machine, and properties of the cell.
    """
    first, *others = names
    reference = of_cell(config, first, config.model.hidden, facts(first))
    networks = {first: reference}
    for name in others:
        known = facts(name)
        if equal == "width":
            networks[name] = of_cell(config, name, reference.model.hidden, known)
            continue
        wanted = size(reference.model, known.vocab_size, equal)
        networks[name] = _nearest(config, name, wanted, equal, known)
    return networks


def size(model: ModelConfig, vocab_size: int, equal: Equal) -> int:
    """Return the size of a network: its parameters, hidden units or operations, as `equal` says."""
    if equal == "width":
        return model.hidden
    return (parameter_count if equal == "parameters" else operation_count)(model, vocab_size)


def of_cell(config: Config, name: str, hidden: int | None, facts: Facts) -> Config:
    """Return the settings of a network of the cell `name`, with `hidden` units in each layer.

    Each setting that is None is chosen from `facts`: the size of the text, the machine, and
    properties of the cell. If `hidden` is None, it is chosen as well.
    """
    embedding = None if facts.raw_input else config.model.embedding
    model = replace(config.model, cell=name, hidden=hidden, embedding=embedding)  # type: ignore[arg-type]
    return resolve(replace(config, model=model), facts).config


def _nearest(config: Config, name: str, wanted: int, equal: Equal, facts: Facts) -> Config:
    """Return the settings of a network of the cell `name` whose size is near to `wanted`.

    The number of hidden units is a multiple of a number in `MULTIPLES`. These are tried from the
    largest on, until the size is within the fraction `NEAR` of `wanted`. If it never is, the
    nearest network is returned.
    """
    heads = max(1, config.model.heads) if cells[name].attends else 1
    found: list[tuple[float, Config]] = []
    for multiple in MULTIPLES:
        unit = math.lcm(multiple, heads)
        below, above = 1, max(2, MOST_UNITS // unit)  # in multiples of `unit`
        while above - below > 1:
            middle = (below + above) // 2
            network = of_cell(config, name, middle * unit, facts)
            small = size(network.model, facts.vocab_size, equal) <= wanted
            below, above = (middle, above) if small else (below, middle)
        for count in (below, above):
            network = of_cell(config, name, count * unit, facts)
            found.append((abs(size(network.model, facts.vocab_size, equal) / wanted - 1), network))
        if min(error for error, _ in found) <= NEAR:
            break
    return min(found, key=lambda pair: pair[0])[1]
