"""The corpus that needs no download: the English documentation that comes with CPython.

1. `make` collects the chapters of the language reference and the docstrings of the standard library, keeps the
   paragraphs that are prose, and joins them.
2. `source` writes this text into the cache directory once, and returns the file.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from charlm.errors import CharlmError
from charlm.files import atomic
from charlm.text import cache
from charlm.text.sources import Source, spooled

WHAT = "the documentation inside Python"
FORMAT = 1  # increase it when the rules below change
SKIPPED = {
    "test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "ensurepip", "turtledemo",
    "pydoc_data", "__pycache__", "config",
}  # fmt: skip
COLUMNS = re.compile(r"[^.!?:)\s] {2,}\S|\S {3,}\S")  # two blanks after a sentence do not make a table


def source() -> Source:
    """Return the file of the built-in corpus, which is written into the cache on first use.

    If the cache cannot be written, the file is a temporary one.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    home = hashlib.blake2b(_library().as_posix().encode(), digest_size=4).hexdigest()
    path = cache.directory() / f"builtin-{FORMAT}-{version}-{home}.txt"
    name = "the built-in corpus"
    if _is_complete(path):
        cache.touch(path)
        cache.touch(_checksum(path))
        return Source(path, name)
    text = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path, "wb") as file:
            file.write(text)
        with atomic(_checksum(path)) as file:
            file.write(hashlib.blake2b(text).hexdigest())
        return Source(path, name)
    except OSError:  # without a cache the text is kept in a temporary file
        return spooled(io.BytesIO(text), name)


def _checksum(path: Path) -> Path:
    return path.with_suffix(".hash")


def _is_complete(path: Path) -> bool:
    try:
        return _checksum(path).read_text() == hashlib.blake2b(path.read_bytes()).hexdigest()
    except OSError:
        return False


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def make() -> bytes:
    """Return the text of the built-in corpus as UTF-8.

    The text has the chapters of the language reference and, module by module, the docstrings of the
    standard library. Chapters and modules are separated by blank lines and ordered by the hash of
    their names. So the order is always the same, and every part of the text, such as the validation
    split, is a mixture of chapters and docstrings.

    Raises:
        CharlmError: this Python was installed without its documentation.
    """
    texts = {name: text for name, text in (*_chapters(), *_docstrings(_library())) if text}
    if not texts:
        raise CharlmError("this Python was installed without its documentation; name a text file")
    order = sorted(texts, key=lambda name: hashlib.blake2b(name.encode()).digest())
    return "\n\n".join(texts[name] for name in order).encode() + b"\n"


def _chapters() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each chapter of the language reference that `help()` shows."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for name, text in topics.items():
        yield f"topic {name}", _tidied(text)


def _docstrings(library: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each module of the standard library and the text of its docstrings.

    The docstrings are read from the source files: no module is imported.
    """
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if any(part in SKIPPED or part.startswith(("test_", "config-")) for part in parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about invalid escape sequences in old modules
                tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
        yield f"module {'/'.join(parts)}", "\n\n".join(filter(None, map(_tidied, filter(None, found))))


def _tidied(text: str) -> str:
    """Return the prose paragraphs of a text, without indentation.

    Examples and tables are left out.
    """
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(inspect.cleandoc(p).rstrip() for p in paragraphs if _is_prose(p))


def _is_prose(paragraph: str) -> bool:
    """Return whether a paragraph is prose.

    Prose has at least four words, consists mostly of letters, and is no interpreter session or
    table.
    """
    solid = "".join(paragraph.split())
    return (
        len(paragraph.split()) >= 4
        and sum(map(str.isalpha, solid)) > 0.85 * len(solid)
        and ">>>" not in paragraph
        and not COLUMNS.search(paragraph)
    )
