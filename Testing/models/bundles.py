"""The files of a MONAI bundle, and bundles as zip files."""

from __future__ import annotations

import zipfile
from pathlib import Path

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"


def zip_of(folder: Path, out: Path, top: str = "") -> Path:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{top}{path.relative_to(folder)}")
    return out
