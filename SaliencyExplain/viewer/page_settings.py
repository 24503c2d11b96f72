"""What a viewer is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """How a viewer is reached, and what it opens.

    Attributes:
        images: ``(channel name or None, path)`` of the images that are open at first.
        classifier: That is open at first.
        segmentation: That is open at first, on the grid of the first image.
        study: Output folder of a study whose cases are offered.
        data: Folders in which the page may look for files.
        host: Address to listen on.
        port: 0: a free one.
        names: Further names by which the page may be called.
        trust: Whether code that comes with a classifier may run.
        largest_upload: Most bytes that are taken from the page at once.
    """

    images: tuple[tuple[str | None, Path], ...] = ()
    classifier: Path | None = None
    segmentation: Path | None = None
    study: Path | None = None
    data: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    names: tuple[str, ...] = field(default=())
    trust: bool = False
    largest_upload: int = 2048 * 1024**2
