"""Registries: mappings from names to implementations, such as all cells or all tokenizers.

When a registry that belongs to a package is first read, it imports all modules of the package. A
new file in the package is therefore known to the command line, the error messages and the tests,
without being listed anywhere.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from charlm.errors import CharlmError, nearest

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to implementations, which the decorator `register` fills.

    Args:
        kind: A noun for an implementation in error messages, such as "cell".
        package: Name of the package whose modules register implementations; it is imported on first
            use. None if there is no such package.
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a class or a function under `name`.

        A name can be used only once.
        """

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return enter

    def _load(self) -> dict[str, T]:
        if self._package is not None:
            package, self._package = importlib.import_module(self._package), None
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")
        return self._entries

    def __getitem__(self, name: str) -> T:
        """Return the implementation with this name.

        Raises:
            CharlmError: no implementation has this name. The message lists all names, and proposes
                the most similar one if there is a similar one.
        """
        entries = self._load()
        if name not in entries:
            choices = sorted(entries)
            raise CharlmError(
                f"there is no {self.kind} {name!r}; choose from {', '.join(choices)}{nearest(name, choices)}"
            )
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())
