"""scripts/fault_campaign.py with a case of each part: it runs, goes on where it stood, and finds what is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent.parent / "scripts"

CODE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import fault_campaign
for arguments in (["--cases", "1"], ["--cases", "6", "--parts", "command_lines"]):
    try:
        sys.argv[1:] = ["--work", "campaign", *arguments]
        fault_campaign.main()
    except SystemExit as end:
        print("status", int(end.code))
    import charlm.cli
    charlm.cli._fail = lambda message: 1  # mistakes end with another status and without a line
"""


def test_a_case_of_each_part_and_then_a_broken_program(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(SCRIPTS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    first, status, second = done.stdout.partition("status 0\n")
    rows = [line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("|")]
    assert status, done.stdout + done.stderr
    assert rows[0] == ["part", "cases", "minutes", "expected", "failures"]
    parts = ["kills", "damage", "hostile", "command_lines"]
    assert [(row[0], row[1], row[4]) for row in rows[2:]] == [(part, "1", "0") for part in parts]
    assert "- `--case command_lines:" in second
    assert "exit status 1" in second
    assert second.endswith("status 1\n")
    results = [json.loads(line) for line in (tmp_path / "campaign" / "results.jsonl").read_text().splitlines()]
    assert [(one["part"], one["number"]) for one in results] == [
        *((part, 1) for part in parts), *(("command_lines", number) for number in range(2, 7))
    ]  # fmt: skip
