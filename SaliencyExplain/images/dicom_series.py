"""DICOM files in folders: which series there are, and which one is meant."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.boundary import reader

# Warnings of pydicom and highdicom quote values of the header, which may identify a patient.
warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)\b")

#: Modalities whose objects say something about images and are none to look at.
NOT_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "REG", "FID", "RWV", "DOC")
_OTHER_FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif")
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
]
DAMAGED = (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError)


@dataclass(frozen=True)
class DicomSeries:
    """The files of one series.

    Attributes:
        uid: SeriesInstanceUID.
        modality: Such as "CT", "MR", "SEG", "RTSTRUCT".
        frames: Slices, those of multi-frame files counted.
        rows: Height of a slice in pixels, 0 where there are none.
        columns: Width of a slice in pixels, 0 where there are none.
        files: Its files, each instance once, sorted by path.
        copies: How many files were left out for holding an instance a second time.
    """

    uid: str
    modality: str
    frames: int
    rows: int
    columns: int
    files: tuple[Path, ...]
    copies: int

    @property
    def is_image(self) -> bool:
        """Whether it holds images to look at, rather than segments, plans or reports."""
        return self.rows > 0 and self.modality not in NOT_IMAGES


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its first bytes; old files have no preamble."""
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return True
    # Without a preamble the file starts with an element of group 0002 or 0008, little
    # endian, then its type in two capitals or its length in four bytes.
    element, after = head[:4], head[4:8]
    return (
        len(head) == 132
        and element[0] in (2, 8)
        and element[1] == 0
        and element[3] == 0
        and ((after[:2].isalpha() and after[:2].isupper()) or after[1:] == b"\0\0\0")
    )


@reader
def list_series(folder: Path) -> tuple[DicomSeries, ...]:
    """Finds the DICOM series in a folder and all folders within.

    Args:
        folder: Where to look; files that are not DICOM are passed over.

    Returns:
        All series, SEG and RTSTRUCT as well, sorted by their first file.
    """
    found: dict[str, list[tuple[Path, Dataset]]] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file() or not is_dicom(path):
            continue
        try:
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=_TAGS)
        except DAMAGED as error:
            raise damaged(path, error) from error
        if header.get("SeriesInstanceUID"):
            found.setdefault(str(header.SeriesInstanceUID), []).append((path, header))
    return tuple(_series(uid, members) for uid, members in found.items())


def _series(uid: str, members: list[tuple[Path, Dataset]]) -> DicomSeries:
    instances: dict[str, tuple[Path, Dataset]] = {}
    for path, header in members:
        instances.setdefault(str(header.get("SOPInstanceUID", path)), (path, header))
    headers = [header for _, header in instances.values()]
    first = headers[0]
    return DicomSeries(
        uid=uid,
        modality=str(first.get("Modality", "")),
        frames=sum(int(header.get("NumberOfFrames") or 1) for header in headers),
        rows=int(first.get("Rows") or 0),
        columns=int(first.get("Columns") or 0),
        files=tuple(path for path, _ in instances.values()),
        copies=len(members) - len(instances),
    )


def choose_series(folder: Path, uid: str | None = None) -> DicomSeries:
    """Chooses the image series of a folder.

    Args:
        folder: Where to look, folders within included.
        uid: SeriesInstanceUID of the one that is meant; not needed where there is one.

    Raises:
        InputError: There is none, none of this UID, or several and none was named.
            They are then listed, without anything that tells of a patient.
    """
    images = [series for series in list_series(folder) if series.is_image]
    if not images:
        raise InputError(ErrorCode.FILE_FORMAT, f"{folder}: {_what_else(folder)}")
    if uid is not None:
        images = [series for series in images if series.uid == uid] or images
        if images[0].uid != uid:
            raise InputError(
                ErrorCode.NAME_UNKNOWN, f"{folder}: has no series {uid}. It has: {_listed(images)}."
            )
    if len(images) > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{folder}: holds {len(images)} series. Name one by its SeriesInstanceUID: "
            f"{_listed(images)}.",
        )
    return images[0]


def _listed(images: list[DicomSeries]) -> str:
    shown = "; ".join(
        f"{series.uid} ({series.modality}, {series.frames} slices of "
        f"{series.columns}x{series.rows})"
        for series in images[:20]
    )
    return shown + ("; …" if len(images) > 20 else "")


def _what_else(folder: Path) -> str:
    names = [path.name for path in sorted(folder.rglob("*")) if path.is_file()]
    if not names:
        return "the folder is empty."
    others = [name for name in names if name.lower().endswith(_OTHER_FORMATS)]
    if others:
        return f"the folder holds no DICOM images. Name a file in it, such as {others[0]}."
    return f"the folder holds no DICOM images among its {len(names)} files."


def damaged(path: Path, error: Exception) -> InputError:
    """The error for a DICOM file that cannot be read, without values of its header."""
    return InputError(
        ErrorCode.FILE_DAMAGED,
        f"{path}: cannot be read as DICOM, it may be damaged or cut off ({type(error).__name__}).",
    )
