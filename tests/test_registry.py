from __future__ import annotations

import sys
from pathlib import Path

import pytest

from charlm.errors import CharlmError
from charlm.registry import Registry


def test_a_name_is_found_listed_and_taken_once() -> None:
    shapes: Registry[int] = Registry("shape")
    assert shapes.register("square")(4) == 4
    shapes.register("circle")(0)
    assert shapes["square"] == 4
    assert list(shapes) == ["circle", "square"]
    assert "circle" in shapes
    assert len(shapes) == 2
    with pytest.raises(ValueError, match="twice"):
        shapes.register("square")(5)


def test_an_unknown_name_lists_the_choices_and_the_nearest() -> None:
    shapes: Registry[int] = Registry("shape")
    shapes.register("square")(4)
    shapes.register("circle")(0)
    with pytest.raises(CharlmError) as error:
        shapes["sqare"]
    assert str(error.value) == "there is no shape 'sqare'; choose from circle, square; did you mean 'square'?"


def test_modules_of_the_package_are_imported_when_first_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shapes_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("from charlm.registry import Registry\nshapes = Registry('shape', __name__)\n")
    (package / "round.py").write_text("from shapes_for_test import shapes\nshapes.register('circle')(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from shapes_for_test import shapes  # type: ignore[import-not-found]

    assert "shapes_for_test.round" not in sys.modules
    assert list(shapes) == ["circle"]
