"""What is said and refused before a training begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from charlm.config import ModelConfig
from charlm.errors import CharlmError, Interrupted
from charlm.network.summary import parameter_count
from charlm.reporter import Reporter
from charlm.training.preparation import check_memory, prepare
from conftest import small_settings


class Lines(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    ("end", "warnings"),
    [
        ("é ü é", ["3 tokens are not in the vocabulary and become the unknown token, most often 'é' (2), 'ü' (1)"]),
        ("ab ba", []),
    ],
)
def test_unknown_tokens_are_said_once(tmp_path: Path, end: str, warnings: list[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ab ba " * 200 + end, encoding="utf-8")
    lines = Lines()
    prepare(small_settings(text), tmp_path / "run", lines)
    assert [line for line in lines.lines if "warning" in line] == [f"warning: {line}" for line in warnings]


def test_a_network_that_does_not_fit_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(layers=2, hidden=8, embedding=4, dropout=0.0, tie=False)
    count = parameter_count(config, 20)
    pages = 0
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4}[name])
    pages = 4 * count  # weights, gradients and two averages of Adam, 4 bytes each
    check_memory(config, 20, gpu=False)
    pages -= 1
    with pytest.raises(CharlmError, match=f"a network of {count:,} parameters needs 0 GB of memory"):
        check_memory(config, 20, gpu=False)
    pages = count
    check_memory(config, 20, gpu=True)
    pages -= 1
    with pytest.raises(CharlmError, match=r"lower `model\.hidden`"):
        check_memory(config, 20, gpu=True)


def test_ctrl_c_when_the_run_was_just_written_tells_how_to_resume(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if target.name in ("after", "before"):  # the run directory
            if target.name == "after":
                rename(self, target)
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(Interrupted) as error:
        prepare(small_settings(text_file), tmp_path / "after", Reporter())
    assert error.value.run == tmp_path / "after"
    with pytest.raises(KeyboardInterrupt):
        prepare(small_settings(text_file), tmp_path / "before", Reporter())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["after"]
