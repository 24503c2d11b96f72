"""What the panel remembers for the user, in all scenes."""

from __future__ import annotations

import qt

_GROUP = "SaliencyExplain"


class Settings:
    """Texts in Slicer's settings, under one group."""

    def read(self, name: str, default: str = "") -> str:
        """The text of that name."""
        value = qt.QSettings().value(f"{_GROUP}/{name}", default)
        return default if value is None else str(value)

    def write(self, name: str, value: str) -> None:
        """Keeps a text."""
        qt.QSettings().setValue(f"{_GROUP}/{name}", value)
