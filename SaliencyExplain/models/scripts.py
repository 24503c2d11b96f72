"""Importing the Python files that a trusted bundle brings along."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

PACKAGE = "scripts"


@contextmanager
def importable(folder: Path | None) -> Iterator[None]:
    """Lets a bundle import its ``scripts`` package, each bundle its own.

    The modules in it are found without the package's name, too, as a script imports those beside
    it; modules of Python and of installed packages are not replaced.

    Args:
        folder: The bundle's folder; None where it has no scripts.
    """
    if folder is None:
        yield
        return
    finder = _Beside(folder / PACKAGE)
    names = {PACKAGE, *finder.names}
    others = _forget(names)
    sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, finder)
    importlib.invalidate_caches()
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.meta_path.remove(finder)
        sys.path.remove(str(folder))
        _forget(names)
        sys.modules.update(others)


def is_installed(name: str) -> bool:
    """Whether a module is Python's own, or of an installed package."""
    return name in sys.stdlib_module_names or name in _installed()


class _Beside(MetaPathFinder):
    """Finds the modules in a folder by their own names.

    Attributes:
        names: Of the modules and packages in the folder that are not installed ones.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        found = {path.stem for path in folder.glob("*.py")}
        found |= {path.parent.name for path in folder.glob("*/*.py")}
        self.names = {name for name in found - {"__init__"} if not is_installed(name)}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module of that name in the folder."""
        if path is None and fullname in self.names:
            return PathFinder.find_spec(fullname, [self._folder])
        return None


@lru_cache(maxsize=1)
def _installed() -> frozenset[str]:
    return frozenset(packages_distributions())


def _forget(names: set[str]) -> dict[str, ModuleType]:
    found = [name for name in sys.modules if name.split(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}
