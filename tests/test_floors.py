"""A package imports only from floors below its own, and light commands import neither torch nor Lightning."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import charlm

PACKAGE = Path(charlm.__file__).parent
FLOORS = {
    "errors": 1,
    "config": 2, "registry": 2, "files": 2, "interruptible": 2, "reporter": 2,
    "text": 3, "network": 3, "manifest": 3,
    "generation": 4, "evaluation": 4, "inspection": 4, "run_directory": 4,
    "run": 5, "views.plots": 5, "views.text": 5,  # they know no run: training shows charts and text as reports do
    "training": 6, "views": 6,
    "experiments": 7,
    "cli": 8,
    "__main__": 9, "__init__": 9,
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def package_of(path: Path) -> str:
    return floor_name(".".join(path.relative_to(PACKAGE).with_suffix("").parts))


def floor_name(name: str) -> str:
    """The entry of `FLOORS` for a module or something in it, by its name within the package; else its first part."""
    package, module, *_ = [*name.split("."), ""]
    return f"{package}.{module}" if f"{package}.{module}" in FLOORS else package


def imports(path: Path) -> set[str]:
    """Full names of everything a module imports, at its top or inside a function, but not for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_floors_below(path: Path) -> None:
    own = package_of(path)
    for name in imports(path):
        root, *rest = name.split(".")
        if root == "charlm" and rest:
            other = floor_name(".".join(rest))
            other = other if other in FLOORS else "__init__"
            if name == "charlm.__version__":
                continue
            assert other == own or FLOORS[other] < FLOORS[own], f"{own} must not import {name}"
        if root in ("lightning", "pytorch_lightning"):
            assert own == "training", f"{path.name} must not import {name}"


def test_every_module_has_its_floor() -> None:
    assert {package_of(path) for path in MODULES} == set(FLOORS)


def modules_after(*arguments: str) -> tuple[set[str], str]:
    """The modules that a command has imported when it ends, and what it printed."""
    code = (
        "import sys\nfrom charlm.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed, _, modules = done.stdout.rpartition("MODULES")
    return {name.split(".")[0] for name in modules.split()}, printed


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in ("train", "race", "sweep", "generate", "play", "report"))],
)
def test_help_needs_no_torch(arguments: list[str]) -> None:
    loaded, printed = modules_after(*arguments)
    assert printed.startswith("Usage: charlm")
    assert not loaded & {"torch", "lightning", "tensorboard"}


def test_generate_samples_and_report_need_neither_torch_nor_lightning(tiny_run: Path) -> None:
    loaded, printed = modules_after("generate", str(tiny_run), "--length", "20", "--seed", "1")
    assert len(printed) >= 20
    assert not loaded & {"torch", "lightning", "tensorboard"}
    loaded, printed = modules_after("samples", str(tiny_run))
    assert "initialisation" in printed
    assert not loaded & {"torch", "lightning", "tensorboard", "matplotlib", "jinja2"}
    loaded, printed = modules_after("report", str(tiny_run), "--output", "-")
    assert "initialisation" in printed
    assert not loaded & {"torch", "lightning", "tensorboard"}


def test_play_needs_no_torch(tiny_run: Path) -> None:
    pytest.importorskip("prompt_toolkit")
    code = (
        "import sys\nfrom charlm.generation.composition import Composition\nfrom charlm.run import Run\n"
        "from charlm.views.play import Play\nfrom charlm.views.play_session import Session\n"
        f"run = Run({str(tiny_run)!r})\n"
        "session = Session(Composition(run.load_stepper(), run.tokenizer), 9, 'The ')\n"
        "print(len(session.composition.guesses(3)), *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    guesses, *modules = done.stdout.split()
    assert guesses == "3"
    assert not {name.split(".")[0] for name in modules} & {"torch", "lightning", "tensorboard"}


def test_doctor_needs_no_torch(text_file: Path) -> None:
    loaded, printed = modules_after("doctor", str(text_file))
    assert "Start with" in printed
    assert not loaded & {"torch", "lightning", "tensorboard"}


def test_evaluate_needs_no_lightning(tiny_run: Path) -> None:
    loaded, printed = modules_after("evaluate", str(tiny_run))
    assert "bits per character" in printed
    assert "lightning" not in loaded
