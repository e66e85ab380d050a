"""ModelShape: how large the network is, in plain values (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

from charlm.errors import CharlmError
from charlm.network.cells import cells, gated, parameters, recurrent

NO_FORGETTING = "no bias that opens a gate to the past"


def check_widths(cell: str, embedding: int | None, hidden: int | None) -> None:
    """Raise CharlmError for an embedding not as wide as hidden under a cell that reads it unprojected; None fits."""
    if not cells[cell].gates and None not in (embedding, hidden) and embedding != hidden:
        raise CharlmError(
            f"the cell {cell!r} reads its input as wide as its hidden units; set --model.embedding "
            f"to {hidden} (it is {embedding})"
        )


@dataclass(frozen=True)
class ModelShape:
    """What rebuilds a network around its weights; a run keeps it as `model.json`.

    Args:
        vocabulary: Tokens the network can tell apart.
        cell: Name of the recurrence.
        layers: Recurrent layers, one above the other.
        hidden: Units of each layer.
        embedding: Numbers that stand for one token.
        dropout: Share of each layer's outputs dropped in training.
        input_dropout: Share of the embedding's outputs dropped in training.
        tie: The output projection uses the embedding's matrix.
        residual: From the second layer on, the input is added to the output.
        layer_norm: What enters the second layer and up, and the output projection, is normalised.
        zoneout: Chance that a unit keeps its state for a step in training.
        recurrent_dropout: Share of the state that recurrent products do not see in training.
        weight_drop: Share of the recurrent weights dropped in training.
        forget_bias: Initial bias of the forget gate, where the cell has one.
        chrono: Longest dependency in tokens that the gates' biases start for, instead of forget_bias.
        gate_scale: Initial size of the weights that drive gates, relative to the others.
        recurrent_init: How recurrent matrices start; None: as the cell says.
        recurrent_scale: Initial size of the recurrent matrices, relative to what recurrent_init gives.

    Raises:
        CharlmError: an unknown cell, a size below 1, or an embedding that is not as wide as hidden under a
            cell that reads its input unprojected.
    """

    vocabulary: int
    cell: str
    layers: int
    hidden: int
    embedding: int
    dropout: float = 0.0
    input_dropout: float = 0.0
    tie: bool = False
    residual: bool = False
    layer_norm: bool = False
    zoneout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_drop: float = 0.0
    forget_bias: float = 1.0
    chrono: int | None = None
    gate_scale: float = 1.0
    recurrent_init: str | None = None
    recurrent_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "layers", "hidden", "embedding"):
            if getattr(self, name) < 1:
                raise CharlmError(f"a model cannot have {name} {getattr(self, name)}; it must be at least 1")
        check_widths(self.cell, self.embedding, self.hidden)

    @property
    def slots(self) -> int:
        """Parts of one layer's state."""
        return cells[self.cell].slots

    @property
    def projected(self) -> bool:
        """Whether the last layer's output is projected to the embedding's width before the tied matrix."""
        return self.tie and self.embedding != self.hidden

    def idle(self) -> list[str]:
        """Settings that were named but have nothing to act on in this cell, each with the reason."""
        cell = cells[self.cell]
        forgets = cell.forget_gate is not None
        found = [
            ("recurrent_dropout", self.recurrent_dropout > 0, recurrent(cell), "no recurrent product to drop from"),
            ("weight_drop", self.weight_drop > 0, recurrent(cell), "no recurrent product to drop from"),
            ("chrono", self.chrono is not None, forgets or cell.input_gate is not None, NO_FORGETTING),
            ("forget_bias", self.forget_bias != 1 and self.chrono is None, forgets, NO_FORGETTING),
            ("gate_scale", self.gate_scale != 1, gated(cell), "no gates to scale"),
            ("recurrent_init", self.recurrent_init is not None, recurrent(cell), "no recurrent matrix to start"),
            ("recurrent_scale", self.recurrent_scale != 1, recurrent(cell), "no recurrent matrix to start"),
        ]
        return [f"--model.{name}, for {self.cell} has {lack}" for name, named, has, lack in found if named and not has]

    def table(self) -> list[tuple[str, str, int]]:
        """One row for each part of the network: its name, its shape in words, its number of parameters."""
        rows = [("embedding", f"{self.vocabulary} x {self.embedding}", self.vocabulary * self.embedding)]
        for layer in range(self.layers):
            features = self.hidden if layer else self.embedding
            if layer and self.layer_norm:
                rows.append((f"norm {layer + 1}", f"{self.hidden}", 2 * self.hidden))
            count = parameters(cells[self.cell], features, self.hidden)
            rows.append((f"{self.cell} {layer + 1}", f"{features} -> {self.hidden}", count))
        if self.layer_norm:
            rows.append(("norm", f"{self.hidden}", 2 * self.hidden))
        if self.projected:
            rows.append(("projection", f"{self.hidden} -> {self.embedding}", self.hidden * self.embedding))
        if self.tie:
            rows.append(("output", f"{self.embedding} -> {self.vocabulary} (tied)", self.vocabulary))
        else:
            rows.append(("output", f"{self.hidden} -> {self.vocabulary}", (self.hidden + 1) * self.vocabulary))
        return rows
