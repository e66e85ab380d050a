"""Networks of different cells are made equal."""

from __future__ import annotations

import pytest

from charlm.config import Config
from charlm.config.resolve import Facts
from charlm.experiments.sizes import NEAR, Equal, equal_networks, of_cell, size
from charlm.network.cells import cells
from charlm.network.summary import check_model

VOCABULARY = 65


def facts(name: str, vocab_size: int = VOCABULARY) -> Facts:
    cell = cells[name]
    return Facts(1_000_000, vocab_size, raw_input=cell.raw_input, gated=cell.gated, context=cell.context)


@pytest.mark.parametrize("equal", ["parameters", "operations"])
@pytest.mark.parametrize("reference", ["lstm", "transformer"])
def test_every_cell_can_be_made_as_large_as_another(reference: str, equal: Equal) -> None:
    config = Config.from_dict({"model": {"layers": 2, "hidden": 256}})
    names = [reference, *(name for name in cells if name != reference)]
    networks = equal_networks(config, names, equal, facts)
    wanted = size(networks[reference].model, VOCABULARY, equal)
    assert list(networks) == names
    assert networks[reference].model.hidden == 256
    for name, network in networks.items():
        check_model(network.model)
        assert network.model.cell == name
        assert abs(size(network.model, VOCABULARY, equal) / wanted - 1) <= NEAR
        assert None not in vars(network.model).values()


def test_equal_width_changes_no_width() -> None:
    config = Config.from_dict({"model": {"layers": 1, "hidden": 48}})
    networks = equal_networks(config, ["lstm", "rnn", "transformer"], "width", facts)
    assert [network.model.hidden for network in networks.values()] == [48, 48, 48]


def test_hidden_units_are_a_round_number_where_that_is_near_enough() -> None:
    config = Config.from_dict({"model": {"layers": 2, "hidden": 256}})
    network = equal_networks(config, ["lstm", "gru"], "parameters", facts)["gru"]
    assert network.model.hidden % 8 == 0
    small = Config.from_dict({"model": {"layers": 1, "hidden": 8}})
    assert equal_networks(small, ["lstm", "gru"], "parameters", facts)["gru"].model.hidden in (8, 9, 10)


def test_the_nearest_size_is_taken_whether_smaller_or_larger() -> None:
    larger = 0
    for hidden in range(3, 12):
        config = Config.from_dict({"model": {"layers": 1, "hidden": hidden, "embedding": 5}})
        networks = equal_networks(config, ["lstm", "rnn"], "parameters", facts)
        wanted, found = (size(network.model, VOCABULARY, "parameters") for network in networks.values())
        every = [
            size(of_cell(config, "rnn", units, facts("rnn")).model, VOCABULARY, "parameters") for units in range(1, 60)
        ]
        assert abs(found - wanted) <= max(NEAR * wanted, min(abs(one - wanted) for one in every))
        larger += found > wanted
    assert 0 < larger < 9


def test_heads_divide_the_hidden_units_and_the_input_of_a_transformer_is_as_wide_as_they_are() -> None:
    config = Config.from_dict({"model": {"layers": 2, "hidden": 256, "heads": 6, "embedding": 64}})
    networks = equal_networks(config, ["lstm", "transformer"], "parameters", facts)
    model = networks["transformer"].model
    assert model.hidden % 6 == 0
    assert model.embedding == model.hidden
    assert networks["lstm"].model.embedding == 64


def test_a_large_vocabulary_counts() -> None:
    config = Config.from_dict({"model": {"layers": 1, "hidden": 64}})
    networks = equal_networks(config, ["lstm", "rnn"], "parameters", lambda name: facts(name, 20_000))
    sizes = [size(network.model, 20_000, "parameters") for network in networks.values()]
    assert sizes[1] == pytest.approx(sizes[0], rel=NEAR)
    assert networks["rnn"].model.tie
    assert networks["rnn"].optimizer.lr == networks["lstm"].optimizer.lr
    assert networks["rnn"].data == networks["lstm"].data
