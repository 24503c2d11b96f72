"""Where the shipped demo classifiers lie; needs neither torch nor MONAI."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import SaliencyExplain
from SaliencyExplain.errors import unknown_name

#: Stands before the name of a shipped classifier where a path could stand.
DEMO = "demo:"


def shipped_classifiers() -> dict[str, Path]:
    """The folders of all shipped demo classifiers by name.

    In a checkout the bundles lie beside the package, in ``Resources/Classifiers``, where
    the Slicer extension and the training look for them; a wheel carries that folder
    inside the package, since nothing else of a wheel has a place that can be relied on.
    """
    package = Path(SaliencyExplain.__file__).resolve().parent
    found: dict[str, Path] = {}
    for home in (package.parent, package):
        for metadata in sorted((home / "Resources" / "Classifiers").glob("*/configs")):
            found[metadata.parent.name] = metadata.parent
    return found


def classifier_folder(name: str) -> Path:
    """The folder of a shipped demo classifier.

    Args:
        name: Such as ``phantom-3d-honest``.

    Raises:
        InputError: There is no such classifier; the message has the nearest name.
    """
    found = shipped_classifiers()
    if name not in found:
        raise unknown_name("demo classifier", name, found)
    return found[name]


def classifier_path(text: str | PathLike[str]) -> Path:
    """The path of a classifier: a file or folder, or ``demo:NAME`` for a shipped one.

    Raises:
        InputError: There is no shipped classifier of that name.
    """
    path = Path(text)
    if not str(text).startswith(DEMO) or path.exists():
        return path
    return classifier_folder(str(text)[len(DEMO) :])
