"""charlm cells as a person types it."""

from __future__ import annotations

import inspect
import re

from charlm.network.cells import cells
from conftest import Charlm


def test_cells_are_listed_with_their_equations(charlm: Charlm) -> None:
    done = charlm("cells")
    assert done.status == 0
    for name, cell in cells.items():
        assert f"\n{name}  " in f"\n{done.out}"
        assert (inspect.getdoc(cell) or "?").splitlines()[0] in done.out
    assert "4 nm + 4 n^2 + 4 n = 525,312 parameters (m = 256, n = 256)" in done.out
    assert "times lstm" not in done.out
    one = charlm("cells", "gru", "--hidden", "10", "--embedding", "4")
    assert "3 nm + 3 n^2 + 4 n = 460 parameters (m = 4, n = 10)" in one.out
    assert one.out.startswith("gru  fused\n")
    assert charlm("cells", "gru", "--hidden", "512").out.startswith("gru  stepped on a CPU, fused on a GPU\n")
    assert "lstm" not in one.out
    assert "did you mean 'gru'" in charlm("cells", "grv").mistake


def test_cells_can_be_timed(charlm: Charlm) -> None:
    done = charlm("cells", "min_gru", "--time", "--hidden", "8")
    assert re.search(r"^min_gru  scan  [\d.]+[kM]? tokens/s, [\d.]+ times lstm$", done.out, re.MULTILINE)
