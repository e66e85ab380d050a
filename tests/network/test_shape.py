"""ModelShape: sizes, their errors, and the table of parameters."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from charlm.errors import CharlmError
from charlm.network.cells import Cell, cells
from charlm.network.shape import ModelShape


def test_a_shape_survives_json() -> None:
    shape = ModelShape(65, "gru", 2, 256, 64, dropout=0.1, tie=True)
    assert ModelShape(**json.loads(json.dumps(dataclasses.asdict(shape)))) == shape


@pytest.mark.parametrize("name", ["vocabulary", "layers", "hidden", "embedding"])
def test_sizes_below_one_are_refused(name: str) -> None:
    sizes: dict[str, Any] = {"vocabulary": 5, "layers": 1, "hidden": 4, "embedding": 3, name: 0}
    with pytest.raises(CharlmError, match=f"cannot have {name} 0; it must be at least 1"):
        ModelShape(cell="rnn", **sizes)


def test_an_unknown_cell_names_the_nearest() -> None:
    with pytest.raises(CharlmError, match=r"no cell 'lsmt'; choose from .*; did you mean 'lstm'"):
        ModelShape(65, "lsmt", 1, 8, 8)


def test_a_cell_of_raw_inputs_wants_an_embedding_as_wide_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raw(Cell):
        gates = 0

    monkeypatch.setitem(cells._load(), "raw", Raw)
    assert ModelShape(65, "raw", 1, 8, 8).embedding == 8
    with pytest.raises(CharlmError, match=r"set --model\.embedding to 8"):
        ModelShape(65, "raw", 1, 8, 4)


def test_table_of_a_plain_network() -> None:
    assert ModelShape(65, "lstm", 2, 8, 4).table() == [
        ("embedding", "65 x 4", 260),
        ("lstm 1", "4 -> 8", 4 * (8 * 4 + 8 * 8 + 8)),
        ("lstm 2", "8 -> 8", 4 * (8 * 8 + 8 * 8 + 8)),
        ("output", "8 -> 65", 8 * 65 + 65),
    ]


def test_table_of_a_tied_network_with_norms() -> None:
    assert ModelShape(65, "rnn", 2, 8, 4, tie=True, layer_norm=True).table() == [
        ("embedding", "65 x 4", 260),
        ("rnn 1", "4 -> 8", 8 * 4 + 8 * 8 + 8),
        ("norm 2", "8", 16),
        ("rnn 2", "8 -> 8", 8 * 8 + 8 * 8 + 8),
        ("norm", "8", 16),
        ("projection", "8 -> 4", 32),
        ("output", "4 -> 65 (tied)", 65),
    ]


def test_shapes_and_cells_need_no_torch() -> None:
    code = (
        "import sys, charlm.network.shape as s; s.ModelShape(9, 'gru', 1, 2, 2).table(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("cell", "options", "lacks"),
    [
        ("min_gru", {"weight_drop": 0.1}, "no recurrent product to drop from"),
        ("rglru", {"recurrent_dropout": 0.1}, "no recurrent product to drop from"),
        ("rnn", {"chrono": 50}, "no bias that opens a gate to the past"),
        ("rglru", {"forget_bias": 2.0}, "no bias that opens a gate to the past"),
        ("rnn", {"gate_scale": 0.5}, "no gates to scale"),
        ("min_lstm", {"recurrent_init": "identity"}, "no recurrent matrix to start"),
        ("rglru", {"recurrent_scale": 0.5}, "no recurrent matrix to start"),
    ],
)
def test_a_setting_without_anything_to_act_on_is_named(cell: str, options: dict[str, Any], lacks: str) -> None:
    (name,) = options
    assert ModelShape(65, cell, 1, 8, 8, **options).idle() == [f"--model.{name}, for {cell} has {lacks}"]
    assert ModelShape(65, "mogrifier", 1, 8, 8, **options).idle() == []
    assert ModelShape(65, cell, 1, 8, 8).idle() == []
