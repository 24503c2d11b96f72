"""Where the shipped demo classifiers lie; needs neither torch nor MONAI."""

from __future__ import annotations

from pathlib import Path

import SaliencyExplain
from SaliencyExplain.errors import unknown_name


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
