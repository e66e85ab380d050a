"""The documentation, the presets and the package description agree with what is there."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import charlm
from charlm.config import Config

ROOT = Path(charlm.__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
PRESETS = sorted(ROOT.glob("configs/*.yaml"))


def docs_reference() -> Any:
    """The script that writes the generated pages, as a module."""
    spec = importlib.util.spec_from_file_location("docs_reference", ROOT / "scripts/docs_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> Any:
    return docs_reference()


def slug(heading: str) -> str:
    """The anchor of a heading: lower case, without signs, spaces as hyphens."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


def links(path: Path) -> list[str]:
    """Targets of the links and pictures of a page, without those into the network."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith("http")]


def named_files(path: Path) -> Iterator[str]:
    """Files of the repository that a page names."""
    for name in re.findall(r"\b(?:tests|scripts|configs|docs|charlm)/[\w/.-]*\w", path.read_text(encoding="utf-8")):
        if not name.startswith("charlm/configs"):  # in the wheel
            yield name


def test_the_readme_fits_on_a_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_named_files_exist(path: Path, reference: Any) -> None:
    generated = {ROOT / "docs" / page: text for page, text in reference.pages().items()}
    for target in links(path):
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists() or other in generated, f"{target} does not exist"
        if anchor:
            text = generated.get(other) or other.read_text(encoding="utf-8")
            assert anchor in map(slug, re.findall(r"^#+ (.*)", text, re.MULTILINE)), f"{target}: no such heading"
    for name in named_files(path):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_every_page_is_in_the_navigation(reference: Any) -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    written = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}
    assert listed == written | set(reference.pages())


def test_the_reference_has_every_setting_cell_and_metric(reference: Any) -> None:
    from charlm.evaluation.text_metrics import metrics
    from charlm.generation.processors import processors
    from charlm.network.cells import cells

    pages = reference.pages()
    rows = re.findall(r"^\| `--([\w.]+)` \|", pages["reference/options.md"], re.MULTILINE)
    settings = {
        f"{group}.{name}" for group, values in Config().to_dict().items() if isinstance(values, dict) for name in values
    }
    assert settings | set(processors) <= set(rows)
    assert not re.search(r"\{\w+\}", pages["reference/options.md"].split("## charlm train")[1]), (
        "a name is not filled in"
    )
    for name in cells:
        assert f"\n## {name}\n" in pages["reference/cells.md"]
    for name in metrics:
        assert f"| `{name}` |" in pages["reference/metrics.md"]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_says_what_it_trains_takes_and_reached(path: Path, reference: Any) -> None:
    header = dict(reference.presets())[path.stem]
    assert list(header)[:4] == ["Trains", "Example", "Takes", "Reached"]
    assert set(header) <= {"Trains", "Example", "Takes", "Reached", "Note"}
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    Config.from_dict(settings)
    minutes = settings["trainer"]["max_time"].removesuffix("m")
    assert re.match(rf"{minutes} minutes? ", header["Takes"])
    assert re.match(r"\d+\.\d+ nats per character|perplexity \d+", header["Reached"])
    assert re.fullmatch(rf"charlm train .*--config {path.stem}", header["Example"])
    assert f"`{path.stem}`" in (ROOT / "docs/guide/train.md").read_text(encoding="utf-8")


def test_the_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "charlm/__init__.py"
    assert f"## {charlm.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[^\w-]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    assert names == {name for name in names if f"\n{name}==" in pins}
