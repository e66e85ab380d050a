"""Commands in messages and advice can be pasted into a shell."""

from __future__ import annotations

import shlex

from charlm.config.shell import command


def test_a_command_is_quoted_for_a_shell() -> None:
    line = command("train", "my text.txt", resume="runs/it's", model__hidden=3)
    assert line.startswith("charlm train 'my text.txt' --resume ")
    assert shlex.split(line) == ["charlm", "train", "my text.txt", "--resume", "runs/it's", "--model.hidden", "3"]
