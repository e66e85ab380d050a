"""The network's description: what does not fit, the table of parameters, and settings that change nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from charlm.config import ModelConfig
from charlm.errors import CharlmError
from charlm.network.cells import Cell, cells
from charlm.network.model import LanguageModel
from charlm.network.summary import check_model, operation_count, parameter_count, parameter_table, unused_settings

SMALL = ModelConfig("lstm", layers=2, hidden=8, embedding=4, dropout=0.0, tie=False)


def test_an_unknown_cell_names_the_nearest() -> None:
    with pytest.raises(CharlmError, match=r"no cell 'lsmt'; choose from .*; did you mean 'lstm'"):
        LanguageModel(replace(SMALL, cell="lsmt"), 65)


def test_a_cell_of_raw_inputs_wants_an_embedding_as_wide_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raw(Cell):
        gates = 0

    monkeypatch.setitem(cells._load(), "raw", Raw)
    check_model(ModelConfig("raw", hidden=8, embedding=8))
    check_model(ModelConfig("raw", hidden=8))
    with pytest.raises(CharlmError, match=r"set `model\.embedding` to 8"):
        check_model(ModelConfig("raw", hidden=8, embedding=4))


def test_table_of_a_plain_network() -> None:
    assert parameter_table(SMALL, 65) == [
        ("embedding", "65 x 4", 260),
        ("lstm 1", "4 -> 8", 4 * (8 * 4 + 8 * 8 + 8)),
        ("lstm 2", "8 -> 8", 4 * (8 * 8 + 8 * 8 + 8)),
        ("output", "8 -> 65", 8 * 65 + 65),
    ]


def test_table_of_a_tied_network_with_norms() -> None:
    assert parameter_table(replace(SMALL, cell="rnn", tie=True, layer_norm=True), 65) == [
        ("embedding", "65 x 4", 260),
        ("rnn 1", "4 -> 8", 8 * 4 + 8 * 8 + 8),
        ("norm 2", "8", 16),
        ("rnn 2", "8 -> 8", 8 * 8 + 8 * 8 + 8),
        ("norm", "8", 16),
        ("projection", "8 -> 4", 32),
        ("output", "4 -> 65 (tied)", 65),
    ]


@pytest.mark.parametrize("name", cells)
@pytest.mark.parametrize("options", [{}, {"tie": True, "layer_norm": True}, {"layers": 5}])
def test_parameters_are_counted_as_the_network_has_them(name: str, options: dict[str, Any]) -> None:
    config = replace(SMALL, cell=name, embedding=8, **options)
    model = LanguageModel(config, 65)
    assert parameter_count(config, 65) == sum(parameter.numel() for parameter in model.parameters())
    assert parameter_count(config, 65) == sum(row[2] for row in parameter_table(config, 65))


def test_a_summary_needs_no_torch() -> None:
    code = (
        "import sys; from charlm.config import ModelConfig; from charlm.network.summary import parameter_table\n"
        "parameter_table(ModelConfig('gru', 1, 2, 2, 0.0, tie=False), 9); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("cell", "options", "lacks"),
    [
        ("min_gru", {"weight_drop": 0.1}, "no recurrent matrix"),
        ("rglru", {"recurrent_dropout": 0.1}, "no recurrent matrix"),
        ("rnn", {"chrono": 50}, "no forget gate"),
        ("rglru", {"forget_bias": 2.0}, "no forget gate"),
        ("rnn", {"gate_scale": 0.5}, "no gates"),
        ("min_lstm", {"recurrent_init": "identity"}, "no recurrent matrix"),
        ("rglru", {"recurrent_scale": 0.5}, "no recurrent matrix"),
    ],
)
def test_a_setting_without_anything_to_act_on_is_named(cell: str, options: dict[str, Any], lacks: str) -> None:
    (name,) = options
    assert unused_settings(replace(SMALL, cell=cell, **options)) == [f"`model.{name}`: {cell} has {lacks}"]
    assert unused_settings(replace(SMALL, cell="mogrifier", **options)) == []
    assert unused_settings(replace(SMALL, cell=cell)) == []


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("name", cells)
def test_operations_are_the_weights_of_all_matrices_and_the_products_of_attention(name: str, tie: bool) -> None:
    embedding = 8 if cells[name].raw_input else 4
    config = ModelConfig(name, layers=3, hidden=8, embedding=embedding, dropout=0.0, tie=tie, context=5)
    model = LanguageModel(config, 65)
    matrices = {key: weight.numel() for key, weight in model.named_parameters() if weight.dim() == 2}
    looked_up = matrices.pop("embedding.weight")
    attention = 3 * 2 * 5 * 8 if cells[name].attends else 0
    assert operation_count(config, 65) == sum(matrices.values()) + attention + looked_up * tie
