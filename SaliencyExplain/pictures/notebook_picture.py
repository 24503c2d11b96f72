"""A picture for display in a notebook."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from SaliencyExplain.images.image_writing import atomic_file


@dataclass(frozen=True)
class Picture:
    """A PNG in memory; a notebook shows it where it is the last value of a cell.

    Attributes:
        png: The bytes of the file.
        title: What it shows, for readers who do not see it.
    """

    png: bytes = field(repr=False)
    title: str

    def save(self, path: str | Path) -> Path:
        """Writes the PNG and returns its path.

        Raises:
            OutputError: It cannot be written.
        """
        with atomic_file(Path(path)) as temporary:
            temporary.write_bytes(self.png)
        return Path(path)

    def _repr_png_(self) -> bytes:
        return self.png

    def _repr_html_(self) -> str:
        content = base64.b64encode(self.png).decode()
        return f'<img alt="{escape(self.title, quote=True)}" src="data:image/png;base64,{content}">'
