"""What the README and the documentation say is true: the code runs, the files extend charlm, the options exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import charlm
from conftest import small_text
from test_docs import docs_reference

ROOT = Path(charlm.__file__).parent.parent
PAGES = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]}
TEXT = "\n".join(PAGES.values())


def code_after(heading: str) -> str:
    """The first Python block after a heading, whichever page has it."""
    match = re.search(rf"^#+ {re.escape(heading)}\n.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
    assert match is not None
    return match[1]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package to which the documentation's cell and tokenizer are added, one file each."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "charlm", root / "charlm", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "charlm/network/cells/minimal.py").write_text(code_after("Add a cell"), encoding="utf-8")
    (root / "charlm/text/tokenizers/runs.py").write_text(code_after("Add a tokenizer"), encoding="utf-8")
    (root / "input.txt").write_text(small_text(2000), encoding="utf-8")
    return root


def run(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cell_and_a_tokenizer_are_added_by_one_file_each(extended: Path) -> None:
    settings = ["--model.cell", "minimal_gated", "--tokenizer.kind", "runs", "--trainer.max_epochs", "1"]
    settings += ["--model.hidden", "16", "--trainer.accelerator", "cpu", "--samples.length", "5"]
    run(extended, "-m", "charlm", "train", "input.txt", "--run", "run", *settings)
    text = run(extended, "-m", "charlm", "generate", "run", "--length", "10", "--seed", "1")
    assert text == run(extended, "-m", "charlm", "generate", "run", "--length", "10", "--seed", "1")
    assert "minimal_gated" in run(extended, "-m", "charlm", "train", "--help")


@pytest.mark.parametrize("name", ["network/test_cells.py", "network/test_layer.py", "text/test_tokenization.py"])
def test_the_suite_finds_them_by_itself(extended: Path, name: str) -> None:
    filters = ["-k", "minimal_gated or runs", "-n", "0"]
    shutil.copy(ROOT / "pyproject.toml", extended)
    shutil.copytree(
        ROOT / "tests", extended / "tests", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    assert re.search(r"\d+ passed", run(extended, "-m", "pytest", *filters, f"tests/{name}"))


PROCESSED = """
from charlm.generation.processors import processors
scores = np.log(np.array([[0.5, 0.3, 0.2]]))
print([np.isfinite(processors["top_a"](scores, a)).tolist() for a in (0.9, 1.3)])  # 0.225 and 0.325 are the limits
from charlm.cli import main
main(["generate", "--help"])
"""

MEASURED = """
from charlm.evaluation.text_metrics import metrics
corpus = TextMetrics("one line\\n" * 100, "two lines\\n" * 100)
print(metrics["line_length"](TextStatistics("four\\nsix..." + "\\n", corpus.alphabet), corpus))
"""


def test_a_logits_processor_is_added_by_one_function(extended: Path) -> None:
    printed = run(extended, "-c", code_after("Add a logits processor") + PROCESSED)
    assert printed.startswith("[[[True, True, False]], [[True, False, False]]]\n")
    assert "--top_a" in printed


def test_a_text_metric_is_added_by_one_function(extended: Path) -> None:
    assert run(extended, "-c", code_after("Add a text metric") + MEASURED) == "5.0\n"


def test_the_python_of_the_documentation_runs(extended: Path) -> None:
    code = code_after("From Python").replace('"3m"', '"2s"')
    small = 'model={"cell": "gru", "hidden": 256}'
    assert small in code
    code = (
        code.replace(small, 'model={"cell": "gru", "hidden": 16}')
        .replace("ROMEO:", "The ")
        .replace("To be, or not to be", "The cat sat on the mat")
    )
    printed = re.search(r"(\d+\.\d+)$", run(extended, "-c", code).strip())  # behind the text on the same line
    assert printed
    assert float(printed[1]) > 0


def test_the_python_of_the_readme_is_that_of_the_guide() -> None:
    """Every line of it is under test in the guide."""
    blocks = re.findall(r"```python\n(.*?)```", PAGES[ROOT / "README.md"], re.DOTALL)
    assert blocks
    assert {line for block in blocks for line in block.splitlines()} <= set(code_after("From Python").splitlines())


def test_every_option_of_the_documentation_exists() -> None:
    known = {option.name for option in docs_reference().options()}
    others = {"extra-index-url", "logdir", "samples_per_plugin", "nproc_per_node", "help", "install-completion"}
    others |= {"nnodes", "node_rank", "master_addr", "nodes", "ntasks-per-node"}  # of torchrun and srun
    others |= {"steps", "seeds", "folder", "check", "minutes", "case", "work"}  # of scripts
    others |= {"import"}  # of every command, read before its options
    others |= {"top_a", "model.embedding_scale"}  # of the processor and of the setting that the guide adds
    named = set(re.findall(r"--([a-z][\w.-]*\w)", TEXT))
    assert named - known - others == set()
    assert len(named & known) > 20
