"""What the files are that were dropped on the page."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_header import is_dicom
from SaliencyExplain.images.dicom_series import list_series
from SaliencyExplain.studies.case import safe_name
from SaliencyExplain.studies.file_names import parse_name
from SaliencyExplain.studies.pairing import settled

#: Files that are a classifier, as far as their names tell.
CLASSIFIERS = (".zip", ".pt", ".ts", ".pt2")

_SEGMENTATIONS = ("SEG", "RTSTRUCT")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Dropped:
    """Files, each as what it is.

    Attributes:
        classifiers: Classifiers.
        images: Images; a folder is a DICOM series.
        segmentation: On the grid of the first image, or of the one that is open; None: none.
    """

    classifiers: tuple[Path, ...]
    images: tuple[Path, ...]
    segmentation: Path | None


def sort_dropped(paths: Sequence[Path]) -> Dropped:
    """Tells images, segmentations and classifiers apart; runs on any thread.

    Args:
        paths: Files in a folder of their own, none of which lies beside them.

    Raises:
        InputError: There are several segmentations.
    """
    slices = [path for path in paths if is_dicom(path)]
    others = [path for path in paths if path not in slices]
    classifiers = [path for path in others if path.name.lower().endswith(CLASSIFIERS)]
    names = [parse_name(path) for path in others if path not in classifiers]
    masks = [name.path for name in settled("dropped", names) if name.is_mask]
    images = [path for path in others if path not in (*classifiers, *masks)]
    if slices:
        objects = _segmentations_in(slices[0].parent)
        masks += objects
        slices = [path for path in slices if path not in objects]
        if len(slices) > 1:
            # Beside a scanner's slices lie lists and notes, which nobody means.
            series = slices[0].parent / "series"
            series.mkdir()
            for path in slices:
                path.rename(series / path.name)
            images = [series]
        else:
            images += slices
    if len(masks) > 1:
        raise InputError(ErrorCode.SELECTION, "Drop one segmentation at a time.")
    return Dropped(tuple(classifiers), tuple(images), masks[0] if masks else None)


def unpack(path: Path) -> list[Path]:
    """The files of an archive, put beside it; the archive itself where it is a classifier.

    Args:
        path: A file that ``check_archive`` let through; any that is no ``.zip`` stays as it is.
    """
    if path.suffix.lower() != ".zip":
        return [path]
    found = []
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if any(PurePosixPath(entry.filename).match("configs/metadata.*") for entry in entries):
            return [path]
        for entry in entries:
            name = PurePosixPath(entry.filename).name
            if name.startswith("."):
                continue
            out = free_path(path.parent, name)
            with archive.open(entry) as read, out.open("wb") as write:
                shutil.copyfileobj(read, write, _PIECE)
            found.append(out)
    path.unlink()
    return found


def free_path(folder: Path, name: str) -> Path:
    """Where a file of that name can be put: slices of two folders may bear one name."""
    name = safe_name(name)
    path, number = folder / name, 1
    while path.exists():
        path, number = folder / f"{number}-{name}", number + 1
    return path


def _segmentations_in(folder: Path) -> list[Path]:
    """DICOM files in a folder that hold segments of other images."""
    return [
        file
        for series in list_series(folder)
        if series.modality in _SEGMENTATIONS
        for file in series.files
    ]
