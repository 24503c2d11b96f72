"""Importing the Python files that a trusted bundle brings along."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

PACKAGE = "scripts"


@contextmanager
def importable(folder: Path | None) -> Iterator[None]:
    """Lets a bundle import its ``scripts`` package, each bundle its own.

    Args:
        folder: The bundle's folder; None where it has no scripts.
    """
    if folder is None:
        yield
        return
    others = _forget()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(folder))
        _forget()
        sys.modules.update(others)


def _forget() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.split(".")[0] == PACKAGE]
    return {name: sys.modules.pop(name) for name in names}
