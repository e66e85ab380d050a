"""The corpus that needs no download: the English of the documentation which every CPython carries."""

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
FORMAT = 1  # to be raised when the rules below change
SKIPPED = {
    "test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "ensurepip", "turtledemo",
    "pydoc_data", "__pycache__", "config",
}  # fmt: skip
COLUMNS = re.compile(r"[^.!?:)\s] {2,}\S|\S {3,}\S")  # two blanks after a sentence are no column


def source() -> Source:
    """The file of the built-in corpus, written into the cache the first time it is asked for."""
    version = ".".join(map(str, sys.version_info[:3]))
    home = hashlib.blake2b(_library().as_posix().encode(), digest_size=4).hexdigest()
    path = cache.directory() / f"builtin-{FORMAT}-{version}-{home}.txt"
    name = "the built-in corpus"
    if _whole(path):
        cache.touch(path)
        cache.touch(_digest(path))
        return Source(path, name)
    text = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path, "wb") as file:
            file.write(text)
        with atomic(_digest(path)) as file:
            file.write(hashlib.blake2b(text).hexdigest())
        return Source(path, name)
    except OSError:  # no cache here: the text lives as long as the run
        return spooled(io.BytesIO(text), name)


def _digest(path: Path) -> Path:
    return path.with_suffix(".hash")


def _whole(path: Path) -> bool:
    try:
        return _digest(path).read_text() == hashlib.blake2b(path.read_bytes()).hexdigest()
    except OSError:
        return False


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def make() -> bytes:
    """The text of the built-in corpus: topics and docstrings, one after the other, parted by blank lines.

    They stand in an order that is fixed but follows no rule (the hash of their names), so that every part of the
    text, the validation split too, holds some of everything.

    Raises:
        CharlmError: this Python came without its documentation.
    """
    texts = {name: text for name, text in (*_topics(), *_docstrings(_library())) if text}
    if not texts:
        raise CharlmError("this Python carries no documentation to learn from; name a text file")
    order = sorted(texts, key=lambda name: hashlib.blake2b(name.encode()).digest())
    return "\n\n".join(texts[name] for name in order).encode() + b"\n"


def _topics() -> Iterator[tuple[str, str]]:
    """The chapters of the language reference that `help()` shows."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return
    for name, text in topics.items():
        yield f"topic {name}", _tidied(text)


def _docstrings(library: Path) -> Iterator[tuple[str, str]]:
    """The docstrings of each module of the standard library, read from its source, never imported."""
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        if any(part in SKIPPED or part.startswith(("test_", "config-")) for part in parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about old escapes in old modules
                tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
        yield f"module {'/'.join(parts)}", "\n\n".join(filter(None, map(_tidied, filter(None, found))))


def _tidied(text: str) -> str:
    """A text in which paragraphs of examples and tables are left out and no line ends in blanks."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(inspect.cleandoc(p).rstrip() for p in paragraphs if _is_prose(p))


def _is_prose(paragraph: str) -> bool:
    """Whether a paragraph is English: some words, mostly letters, no session of the interpreter, no columns."""
    solid = "".join(paragraph.split())
    return (
        len(paragraph.split()) >= 4
        and sum(map(str.isalpha, solid)) > 0.85 * len(solid)
        and ">>>" not in paragraph
        and not COLUMNS.search(paragraph)
    )
