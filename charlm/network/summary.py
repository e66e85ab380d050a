"""Facts that follow from the settings of a network, before it is built: its parts, its size, errors.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import fields, replace

from charlm.config import ModelConfig
from charlm.errors import CharlmError
from charlm.network.cells import cells

Row = tuple[str, str, int]
"""A part of the network: its name, its shape in words, its number of parameters."""


def check_model(config: ModelConfig) -> None:
    """Raise CharlmError for an unknown cell, or for widths or heads that do not fit the cell.

    A width that is not chosen yet (None) is accepted.
    """
    cell = cells[config.cell](config)
    if cell.raw_input and None not in (config.embedding, config.hidden) and config.embedding != config.hidden:
        raise CharlmError(
            f"the cell {config.cell!r} needs an input as wide as its hidden units; set `model.embedding` "
            f"to {config.hidden} (it is {config.embedding})"
        )


def has_projection(config: ModelConfig) -> bool:
    """Return whether the network projects the last layer's output to the width of the embedding.

    It does if the embedding matrix is tied to the output and has another width than the layers.
    """
    return config.tie and config.embedding != config.hidden


def has_residual(config: ModelConfig) -> bool:
    """Return whether the network adds a layer's input to its output, from the second layer on.

    It does if `residual` is set, unless the cell already adds its own input to its output, as the
    transformer does.
    """
    return config.residual and not cells[config.cell].residual


def parameter_table(config: ModelConfig, vocab_size: int) -> list[Row]:
    """Return one row for each part of the network.

    A row has the name of the part, its shape in words and its number of parameters.
    """
    embedding, hidden, cell = config.embedding, config.hidden, cells[config.cell](config)
    seen = f", {cell.context} tokens" if cell.context else ""
    rows = [("embedding", f"{vocab_size} x {embedding}", vocab_size * embedding)]
    for layer in range(config.layers):
        features = hidden if layer else embedding
        if layer and config.layer_norm:
            rows.append((f"norm {layer + 1}", f"{hidden}", 2 * hidden))
        rows.append((f"{config.cell} {layer + 1}", f"{features} -> {hidden}{seen}", cell.parameters(features, hidden)))
    if config.layer_norm:
        rows.append(("norm", f"{hidden}", 2 * hidden))
    if has_projection(config):
        rows.append(("projection", f"{hidden} -> {embedding}", hidden * embedding))
    if config.tie:
        rows.append(("output", f"{embedding} -> {vocab_size} (tied)", vocab_size))
    else:
        rows.append(("output", f"{hidden} -> {vocab_size}", (hidden + 1) * vocab_size))
    return rows


def parameter_count(config: ModelConfig, vocab_size: int) -> int:
    """Return the number of parameters of the whole network.

    The time for this does not depend on the number of layers.
    """
    one, two = (sum(row[2] for row in parameter_table(replace(config, layers=n), vocab_size)) for n in (1, 2))
    return one + (config.layers - 1) * (two - one)


def operation_count(config: ModelConfig, vocab_size: int) -> int:
    """Return how many multiply-add operations one token takes in the whole network.

    There is one for each weight of the matrices of the layers, the projection and the output.
    Attention has further ones (see `Cell.operations`). The embedding counts nothing, because it is
    looked up. Biases, norms and element-wise products are left out.
    """
    embedding, hidden, cell = config.embedding, config.hidden, cells[config.cell](config)
    layers = cell.operations(embedding, hidden) + (config.layers - 1) * cell.operations(hidden, hidden)
    projection = hidden * embedding if has_projection(config) else 0
    return layers + projection + vocab_size * (embedding if config.tie else hidden)


def unused_settings(config: ModelConfig) -> list[str]:
    """Return the settings that differ from their defaults but do nothing for the chosen cell.

    Each is a line with the name of the setting and the reason.
    """
    cell = cells[config.cell](config)
    forgets = cell.forget_gate is not None
    no_recurrent, no_gate = "no recurrent matrix", "no forget gate"
    needs = {
        "recurrent_dropout": (cell.recurrent, no_recurrent),
        "weight_drop": (cell.recurrent, no_recurrent),
        "recurrent_init": (cell.recurrent, no_recurrent),
        "recurrent_scale": (cell.recurrent, no_recurrent),
        "residual": (not cell.residual, "residual connections of its own"),
        "zoneout": (not cell.context, "no recurrent state"),
        "context": (cell.context, "no fixed context"),
        "heads": (cell.attends, "no attention heads"),
        "gate_scale": (cell.gated, "no gates"),
        "chrono": (forgets or cell.input_gate is not None, no_gate),
        "forget_bias": (forgets or config.chrono, no_gate),
    }
    named = [one.name for one in fields(ModelConfig) if getattr(config, one.name) != one.default]
    unused = [(name, needs[name][1]) for name in named if name in needs and not needs[name][0]]
    return [f"`model.{name}`: {config.cell} has {lack}" for name, lack in unused]
