"""The DICOM series in a folder, and the choice of one of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.apart import apart
from SaliencyExplain.images.dicom_header import (
    NOT_IMAGES,
    has_place,
    is_cut_off,
    is_dicom,
    is_index,
    is_other_object,
    kind_of,
    read_header,
    text,
)

_OTHER_FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif")
#: Elements that are read from each file to find the series.
SERIES_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "ImagePositionPatient",
    "SharedFunctionalGroupsSequence",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "DirectoryRecordSequence",
]


@dataclass(frozen=True)
class DicomSeries:
    """The files of one series that are of one kind.

    Attributes:
        uid: SeriesInstanceUID; if the files have none, a name made from their folder, study and
            series number.
        modality: Modality, such as "CT", "MR", "SEG", "RTSTRUCT".
        frames: Number of slices, including those in multi-frame files.
        rows: Height of a slice in pixels, 0 without pixels.
        columns: Width of a slice in pixels, 0 without pixels.
        files: Its files, sorted by path.
        notes: Notes for the user on other objects of the series that are left out.
    """

    uid: str
    modality: str
    frames: int
    rows: int
    columns: int
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether it consists of images, and not of segments, plans or reports."""
        return self.rows > 0 and self.modality not in NOT_IMAGES


Member = tuple[Path, Dataset]


def series_uid(path: Path, header: Dataset) -> str:
    """The SeriesInstanceUID, or a name for series without one.

    Args:
        path: The file.
        header: Its header, with at least :data:`SERIES_TAGS`.

    Returns:
        The UID, or "unnamed-" and eight hexadecimal digits that are the same for all files
        of one folder, study and series number.
    """
    uid = text(header, "SeriesInstanceUID").strip()
    if uid:
        return uid
    parts = [str(path.resolve().parent)]
    parts += [text(header, keyword) for keyword in ("StudyInstanceUID", "SeriesNumber")]
    return f"unnamed-{hashlib.sha256(repr(parts).encode()).hexdigest()[:8]}"


def is_image(header: Dataset) -> bool:
    """Whether an object is an image, and not segments, plans or reports."""
    return bool(header.get("Rows")) and text(header, "Modality") not in NOT_IMAGES


def is_localizer(header: Dataset) -> bool:
    """Whether an image was acquired for planning others (a localizer)."""
    return "LOCALIZER" in (header.get("ImageType") or [])


def is_screenshot(header: Dataset) -> bool:
    """Whether an image is a secondary capture: a picture of a screen or a scanned sheet."""
    return "Secondary Capture" in UID(text(header, "SOPClassUID")).name


@apart
def list_series(folder: Path) -> tuple[DicomSeries, ...]:
    """Finds the DICOM series in a folder and its subfolders.

    Objects of different kinds in one series are listed separately. Localizers and screenshots in
    a series of other images are left out, with a note.

    Args:
        folder: The folder; files that are not DICOM, and DICOMDIRs, are skipped.

    Returns:
        All series, including SEG and RTSTRUCT, sorted by their first file.

    Raises:
        InputError: A DICOM file is damaged.
    """
    found: dict[str, list[Member]] = {}
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file() or not is_dicom(path):
            continue
        header = read_header(path, SERIES_TAGS)
        if is_cut_off(header):
            raise InputError(
                ErrorCode.FILE_DAMAGED,
                f"{path}: this DICOM file is cut off or damaged: its header is incomplete. Copy it "
                "again, or remove it from the folder.",
            )
        if not is_index(header):
            found.setdefault(series_uid(path, header), []).append((path, header))
    _adopt_unnamed(found)
    return tuple(one for uid, members in found.items() for one in split_series(uid, members))


def _adopt_unnamed(found: dict[str, list[Member]]) -> None:
    """Assigns files without SeriesInstanceUID to the series that fits, if there is only one."""
    named = {uid: _origins(members) for uid, members in found.items() if not _is_unnamed(members)}
    for uid, members in list(found.items()):
        if _is_unnamed(members):
            fitting = [other for other in named if _origins(members) <= named[other]]
            if len(fitting) == 1:
                found[fitting[0]] += found.pop(uid)
                found[fitting[0]].sort(key=lambda member: member[0])


def _is_unnamed(members: Sequence[Member]) -> bool:
    return not any(text(header, "SeriesInstanceUID").strip() for _, header in members)


def _origins(members: Sequence[Member]) -> set[tuple[str, ...]]:
    """Folders, studies and series numbers of files, and the kind and size of their images."""
    keys = ("StudyInstanceUID", "SeriesNumber", "Modality", "Rows", "Columns")
    return {(str(path.parent), *(text(header, key) for key in keys)) for path, header in members}


def split_series(uid: str, members: Sequence[Member]) -> list[DicomSeries]:
    """The series of one UID: its images, and separately other objects of each kind.

    Args:
        uid: UID or name, see :func:`series_uid`.
        members: Its files with their headers.
    """
    modalities = {text(header, "Modality") for _, header in members if is_image(header)}
    images: list[Member] = []
    others: list[Member] = []
    for member in members:
        # A file of the images' modality without rows is an image that is cut off.
        same = text(member[1], "Modality") in modalities and not is_other_object(member[1])
        (images if is_image(member[1]) or same else others).append(member)
    images, left_out = _without_others(images)
    left_out += [f"{kind_of(header)} object" for _, header in others]
    notes = [
        f"{count} {what}{'s' if count > 1 else ''} in the same series left out"
        for what, count in Counter(left_out).items()
    ]
    unnamed = sum(not text(header, "SeriesInstanceUID").strip() for _, header in members)
    if unnamed:
        notes.append(
            f"{unnamed} files have no SeriesInstanceUID; files of one folder, study and series "
            "number are treated as one series"
        )
    listed = []
    for group, told in ((images, notes), (_without_copies(others), [])):
        kinds: dict[str, list[Member]] = {}
        for member in group:
            kinds.setdefault(kind_of(member[1]), []).append(member)
        listed += [_series(uid, each, told) for each in kinds.values()]
    return listed


def _without_others(images: list[Member]) -> tuple[list[Member], list[str]]:
    """Removes localizers, screenshots and similar images, unless there are no others."""
    left_out: list[str] = []
    # If at least half of a series are secondary captures, they are slices stored in that form.
    for what, is_other, least in (
        ("screenshot", is_screenshot, len(images) // 2 + 1),
        ("localizer", is_localizer, 1),
    ):
        kept = [member for member in images if not is_other(member[1])]
        if len(kept) >= least:
            left_out += [what] * (len(images) - len(kept))
            images = kept
    placed = {_likeness(header) for _, header in images if has_place(header)}
    if placed:
        # An image similar to the others is a slice that lacks its position, and is refused later.
        kept = [each for each in images if has_place(each[1]) or _likeness(each[1]) in placed]
        left_out += ["image without a position in the patient"] * (len(images) - len(kept))
        images = kept
    return images, left_out


def _likeness(header: Dataset) -> tuple[str, ...]:
    """Properties that the slices of one series share, except their position."""
    keys = ("SOPClassUID", "ImageType", "SamplesPerPixel", "Rows", "Columns")
    return tuple(text(header, key) for key in keys)


def _without_copies(members: list[Member]) -> list[Member]:
    """Removes copies: files of the same instance that are equal byte by byte."""
    kept: dict[tuple[str, bytes], Member] = {}
    instances = Counter(text(header, "SOPInstanceUID") for _, header in members)
    for path, header in members:
        uid = text(header, "SOPInstanceUID")
        alone = not uid or instances[uid] == 1
        content = str(path).encode() if alone else hashlib.sha256(path.read_bytes()).digest()
        kept.setdefault((uid, content), (path, header))
    return list(kept.values())


def _series(uid: str, members: Sequence[Member], notes: Sequence[str]) -> DicomSeries:
    headers = [header for _, header in members]
    first = next((header for header in headers if header.get("Rows")), headers[0])
    return DicomSeries(
        uid=uid,
        modality=text(first, "Modality"),
        frames=sum(int(header.get("NumberOfFrames") or 1) for header in headers),
        rows=int(first.get("Rows") or 0),
        columns=int(first.get("Columns") or 0),
        files=tuple(path for path, _ in members),
        notes=tuple(notes),
    )


def choose_series(folder: Path, uid: str | None = None) -> DicomSeries:
    """Chooses the image series of a folder.

    Args:
        folder: The folder; subfolders are included.
        uid: SeriesInstanceUID of the series; not needed if the folder has only one.

    Raises:
        InputError: There is no series, none with this UID, or there are several and no UID was
            given. The message lists them without information on the patient.
    """
    listed = list_series(folder)
    images = [series for series in listed if series.is_image]
    if not images:
        raise InputError(ErrorCode.FILE_FORMAT, f"{folder}: {_what_else(folder, listed)}")
    if uid is not None:
        named = [series for series in images if series.uid == uid]
        if not named:
            raise InputError(
                ErrorCode.NAME_UNKNOWN,
                f"{folder}: it has no series {uid}. Use one of: {_listed(images)}.",
            )
        images = named
    if len({series.uid for series in images}) > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{folder}: holds {len(images)} series. Name one by its SeriesInstanceUID: "
            f"{_listed(images)}.",
        )
    if len(images) > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{folder}: images of {len(images)} modalities have the same SeriesInstanceUID: "
            f"{_listed(images)}. Put the images of one modality into a separate folder.",
        )
    return images[0]


def _listed(images: list[DicomSeries]) -> str:
    shown = "; ".join(
        f"{series.uid} ({series.modality}, {series.frames} slices of "
        f"{series.columns}x{series.rows})"
        for series in images[:20]
    )
    return shown + ("; …" if len(images) > 20 else "")


def _what_else(folder: Path, listed: Sequence[DicomSeries]) -> str:
    names = [path.name for path in sorted(folder.rglob("*")) if path.is_file()]
    if not names:
        return "the folder is empty."
    if listed:
        kinds = Counter[str]()
        for series in listed:
            kinds[series.modality or "of no stated kind"] += len(series.files)
        objects = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        return f"its DICOM files are not images ({objects}). Give the folder of the images."
    others = [name for name in names if name.lower().endswith(_OTHER_FORMATS)]
    if others:
        return f"the folder holds no DICOM images. Give a file in it, such as {others[0]}."
    return f"the folder has {len(names)} files and none is a DICOM image. Give another folder."
