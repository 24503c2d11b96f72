"""What the names of a study folder's files say: image or mask, and of which case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.study.case import csv_advice

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
#: Files that lie in study folders and are neither images nor DICOM.
_OTHER_SUFFIXES = (
    *(".md", ".txt", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".xlsx"),
    *(".bval", ".bvec", ".py", ".zip", ".gz", ".raw", ".zraw", ".npy", ".npz", ".mat", ".pt"),
)
_OTHER_NAMES = ("DICOMDIR", "README", "LICENSE", "CHANGES")
#: How tables and folders call the parts of a split, each with the name that it has here.
PART_NAMES = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "ts", "held-out", "held out", "holdout"), "test"),
}
#: 3D Slicer names segmentations ``*.seg.nrrd``.
_SLICER_SEGMENTATION = ".seg"
_RESULTS = ("journal.jsonl", "explanation.json")
_MASK_WORDS = frozenset(
    {"mask", "masks", "label", "labels", "seg", "segmentation", "segmentations", "msk", "roi"}
    | {"lesion", "lesions", "dseg", "annotation", "contour"}
)
_IMAGE_WORDS = frozenset({"image", "images", "img", "volume", "scan"})


@dataclass(frozen=True)
class Name:
    """A file's name, taken apart.

    Attributes:
        path: The file.
        key: What is left without the word for image or mask; image and mask of one
            key belong together. Empty for a file named ``seg`` or ``image`` alone.
        is_mask: Whether the name says that it is a segmentation.
    """

    path: Path
    key: str
    is_mask: bool


def image_suffix(path: Path) -> str:
    """The file's image suffix in lower case, such as ``.nii.gz``; empty for other files."""
    name = path.name.lower()
    return next((s for s in (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES) if name.endswith(s)), "")


def stem(path: Path) -> str:
    """The file's name without its image suffix, and without ``.seg`` before it."""
    name = path.name[: len(path.name) - len(image_suffix(path))]
    return name[: -len(_SLICER_SEGMENTATION)] if _is_slicer_segmentation(path) else name


def _is_slicer_segmentation(path: Path) -> bool:
    return path.name.lower().endswith(f"{_SLICER_SEGMENTATION}.nrrd")


def is_other_file(path: Path) -> bool:
    """Whether the name says that this is neither an image nor DICOM."""
    return path.suffix.lower() in _OTHER_SUFFIXES or path.name in _OTHER_NAMES


def visible(folder: Path) -> list[Path]:
    """The folder's entries in natural order (2 before 10).

    Without hidden and system files, and without results of this program: a study's
    output folder often lies in its input folder.

    Raises:
        InputError: The folder cannot be read.
    """
    try:
        entries = [
            entry
            for entry in folder.iterdir()
            if not entry.name.startswith((".", "__MACOSX"))
            and not any((entry / name).is_file() for name in _RESULTS)
        ]
    except OSError as error:
        raise InputError(
            ErrorCode.FILE_UNREADABLE, f"{folder}: the folder cannot be read ({error.strerror})."
        ) from None
    return sorted(entries, key=natural)


def natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Sort key that puts ``case 2`` before ``case 10``."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple((int(part), part) if part.isdecimal() else (-1, part) for part in parts)


def parse_name(path: Path) -> Name:
    """Takes a file's name apart: ``P1_t1_image``, ``P1_t1_mask``, ``seg-expert``, ``mask_7``."""
    words = re.split(r"([_\-. ]+)", stem(path))
    last, first = words[-1].lower(), words[0].lower()
    if last in _MASK_WORDS or last in _IMAGE_WORDS:
        return Name(path, "".join(words[:-2]), last in _MASK_WORDS)
    if first in _MASK_WORDS or first in _IMAGE_WORDS:
        return Name(path, "".join(words[2:]), first in _MASK_WORDS)
    return Name(path, stem(path), _is_slicer_segmentation(path))


def ambiguous(where: str, found: Sequence[Path], question: str) -> InputError:
    """The error for files of which discovery cannot tell what belongs together."""
    names = ", ".join(path.name for path in found[:8]) + (", …" if len(found) > 8 else "")
    return InputError(
        ErrorCode.CASES_LAYOUT, f"{where}: {question} (found: {names}). {csv_advice()}"
    )
