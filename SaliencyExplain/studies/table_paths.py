"""The file that a cell of a table names, with tolerance of its spelling."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path


def find_path(
    folder: Path, text: str, allowed: Callable[[Path], object] | None = None
) -> Path | None:
    """The file or folder that a cell names; None where there is none.

    Windows' backslashes are accepted on other systems, and accents that the table stores as one
    character and the file system as two (macOS), or the other way about.

    Args:
        folder: Where relative paths begin.
        text: The cell.
        allowed: Called with each path before it is looked up; raises if it is not allowed.
    """
    spelled = dict.fromkeys([text, text.replace("\\", "/")])
    for spelling in spelled:
        try:
            path = folder / Path(spelling).expanduser()
        except RuntimeError:
            # '~name' of a user without an account here.
            path = folder / spelling
        if allowed is not None:
            allowed(path)
        found = _met(path)
        if found is not None:
            return found
    return None


def _met(path: Path) -> Path | None:
    """The path itself, or the one whose names differ by how their accents are stored."""
    if _exists(path):
        return path
    if path.name.isascii() and path.parent.as_posix().isascii():
        return None
    met = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if _exists(met / part):
            met = met / part
            continue
        wanted = unicodedata.normalize("NFC", part)
        try:
            same = [
                one for one in met.iterdir() if unicodedata.normalize("NFC", one.name) == wanted
            ]
        except OSError:
            return None
        if len(same) != 1:
            return None
        met = same[0]
    return met


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # A name that is too long for any file system, or holds what none allows.
        return False
