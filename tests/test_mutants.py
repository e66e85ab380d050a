"""scripts/mutants.py: its list fits the code, and it tells changes that are noticed from those that survive."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("mutants")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one function and its test, which hangs if the function does not return."""
    for name, content in {
        "charlm/__init__.py": "",
        "charlm/text/double.py": "def double(x: int) -> int:\n    return 2 * x  # twice\n",
        "tests/text/test_double.py": (
            "from charlm.text.double import double\n\n\ndef test_double():\n    assert double(2) == 4\n"
        ),
        "tests/text/test_more.py": (
            "from charlm.text.double import double\n\n\ndef test_more():\n    assert double(1) == 2\n"
        ),
    }.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "project", check=True)
    return tmp_path / "project"


def change(script: Any, name: str, replacement: str, text: str = "return 2 * x", **options: Any) -> Any:
    return script.Mutant(name, "charlm/text/double.py", text, replacement, **options)


def test_the_list_fits_the_code(script: Any) -> None:
    assert script.complaints(script.MUTANTS, ROOT) == []
    assert len(script.MUTANTS) >= 60
    packages = {path.name for path in (ROOT / "charlm").iterdir() if (path / "__init__.py").is_file()}
    assert {mutant.package for mutant in script.MUTANTS} == packages | {"files", "manifest", "run"}
    for mutant in script.MUTANTS:
        tests = [*script.first_tests(mutant, ROOT), *script.package_tests(mutant, ROOT)]
        assert all(script.test_file(test, ROOT).is_file() for test in tests), mutant.name


def test_what_is_wrong_with_a_list_is_said(script: Any, project: Path) -> None:
    wrong = [
        change(script, "old", "return x", text="return 3 * x"),
        change(script, "vague", "y", text="x"),
        change(script, "broken", "return ("),
        change(script, "idle", "return 2 * x"),
        change(script, "good", "return x"),
        change(script, "again", "return x"),
        change(script, "again", "return 0", tests=("tests/test_nothing.py::test_it",)),
    ]
    found = script.complaints(wrong, project)
    assert found[0] == "stale: 'old': its text occurs 0 times in charlm/text/double.py, not once"
    assert found[1] == "stale: 'vague': its text occurs 2 times in charlm/text/double.py, not once"
    assert found[2].startswith("'broken': charlm/text/double.py cannot be compiled after the change (")
    assert found[3:] == [
        "'idle' changes nothing",
        "'again' is the same change as 'good'",
        "'again': there is no tests/test_nothing.py::test_it",
        "two changes are called 'again'",
    ]


def test_changes_are_noticed_or_survive(script: Any, project: Path, tmp_path: Path) -> None:
    campaign = script.Campaign(project, tmp_path / "work", 1)
    mutants = [
        change(script, "noticed", "return 3 * x"),
        change(script, "noticed by another test", "return 2 * x + (x == 1)"),
        change(script, "equal", "return x + x", reason="it is the same"),
    ]
    outcomes = campaign.judge(mutants, lambda mutant: script.first_tests(mutant, project))
    assert [one.noticed_by for one in outcomes.values()] == [
        "tests/text/test_double.py::test_double", script.SURVIVED, script.SURVIVED,
    ]  # fmt: skip
    assert (project / "charlm/text/double.py").read_text(encoding="utf-8").endswith("return 2 * x  # twice\n")
    again = script.Campaign(project, tmp_path / "work", 1)  # what is known is not run again
    assert again.judge(mutants, lambda mutant: script.first_tests(mutant, project)) == outcomes
    others = campaign.judge(mutants[1:2], lambda mutant: script.package_tests(mutant, project)[1:])
    assert others["noticed by another test"].noticed_by == "tests/text/test_more.py::test_more"
    written = script.table(mutants, outcomes | others).splitlines()
    assert written[2] == "| text | 3 | 2 |"
    assert written[6].startswith("| equal | text | nothing: it is the same | ")
    assert written[7].startswith("| noticed | text | `tests/text/test_double.py::test_double` | ")


def test_a_change_that_hangs_is_noticed(script: Any, project: Path) -> None:
    hangs = change(script, "hangs", "return double(x) if __import__('time').sleep(60) else 0")
    with script.mutated(hangs, project):
        outcome = script.run_tests(project, ["tests/text/test_double.py"], limit=2.0)
    assert outcome.noticed_by == "time limit"
    assert outcome.seconds < 30


def test_tests_that_fail_without_a_change_end_the_campaign(script: Any, project: Path, tmp_path: Path) -> None:
    (project / "tests/text/test_double.py").write_text("def test_wrong():\n    assert False\n", encoding="utf-8")
    campaign = script.Campaign(project, tmp_path / "work", 1)
    with pytest.raises(SystemExit, match="fail without any change"):
        campaign.judge([change(script, "noticed", "return 3 * x")], lambda mutant: script.first_tests(mutant, project))
