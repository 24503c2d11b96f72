"""Cases from a tree of DICOM files: series, and the SEG or RTSTRUCT that outlines them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.study.case import Case, csv_advice, safe_name

#: DICOM 2024d, newer than the table of names in pydicom 3.0.
_LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_SEGMENTATIONS = (SegmentationStorage, _LABEL_MAP_SEGMENTATION_STORAGE, RTStructureSetStorage)
#: Objects with rows and columns that are no images of the patient to be classified.
_NO_IMAGES = frozenset({"SEG", "RTSTRUCT", "RTDOSE", "RTIMAGE", "PR", "REG", "SR", "KO", "RTPLAN"})
_TAGS = [
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "SeriesNumber",
    "Rows",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
]


@dataclass
class _Series:
    uid: str
    study: str
    frame: str
    number: str
    folder: Path
    files: int = 0


@dataclass
class _Outline:
    path: Path
    study: str
    frames: set[str] = field(default_factory=set)
    series: set[str] = field(default_factory=set)


#: Why a file of a DICOM tree is no part of its cases.
NO_DICOM = "neither an image of a known format nor DICOM"
UNREADABLE = "DICOM that cannot be read: cut off or damaged"
_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")


def dicom_cases(
    root: Path, files: Iterable[Path], left_out: dict[Path, str], *, keep_identifiers: bool
) -> list[Case]:
    """Groups DICOM files into series and gives each its segmentation.

    A SEG or RTSTRUCT belongs to the series that it references. Where the
    reference resolves to nothing, it belongs to the series in the same frame of
    reference, and among several of those to the one that lies nearest in the
    folders; the case's notes say so. In a study with segmentations only the series
    that have one are cases; in a study without, every series is one.

    Args:
        root: The tree's root.
        files: The files that may be DICOM.
        left_out: Gets the files that are no image and no segmentation, each with the reason.
        keep_identifiers: Name cases by their folders, which are often patient IDs,
            instead of ``case-001`` and on in the order of their paths.

    Returns:
        The cases in the order of their paths; none where no file is a DICOM image.

    Raises:
        InputError: A segmentation could belong to several series, or to one that cannot be
            read or is not here, or several segmentations to one.
    """
    series, outlines = _scan(files, left_out)
    if not series:
        if outlines:
            raise InputError(
                ErrorCode.CASES_LAYOUT,
                f"{root}: holds {len(outlines)} DICOM segmentations "
                f"({', '.join(one.path.name for one in outlines[:5])}) and no DICOM image that "
                f"can be read. {csv_advice()}",
            )
        return []
    unreadable = [path for path, reason in left_out.items() if reason == UNREADABLE]
    ordered = sorted(series.values(), key=lambda s: (s.folder.parts, s.number, s.uid))
    names = _names(root, ordered, keep_identifiers)
    belongs: dict[str, list[tuple[_Outline, str]]] = defaultdict(list)
    for outline in outlines:
        _check_not_of_unreadable(outline, ordered, unreadable)
        uid, note = _series_of(outline, ordered, names)
        belongs[uid].append((outline, note))
    outlined_studies = {series[uid].study for uid in belongs}
    unoutlined: dict[str, int] = defaultdict(int)
    for one in ordered:
        unoutlined[one.study] += one.study in outlined_studies and one.uid not in belongs
    in_folder = Counter(one.folder for one in ordered)
    cases = []
    for one in ordered:
        mine = belongs.get(one.uid, [])
        if not mine and one.study in outlined_studies:
            continue
        if len(mine) > 1:
            raise InputError(
                ErrorCode.CASES_LAYOUT,
                f"{names[one.uid]} (folder {_shown(one.folder, root, keep_identifiers)}) has "
                f"{len(mine)} segmentations: {', '.join(sorted(o.path.name for o, _ in mine))}. "
                f"{csv_advice()}",
            )
        notes = [note for _, note in mine if note]
        if unoutlined[one.study]:
            notes.append(
                f"{unoutlined[one.study]} further series of this study without segmentation left "
                "out"
            )
        cases.append(
            Case(
                case=names[one.uid],
                images=((None, one.folder),),
                segmentation=mine[0][0].path if mine else None,
                series=one.uid if in_folder[one.folder] > 1 else None,
                private=not keep_identifiers,
                notes=tuple(notes),
            )
        )
    return cases


def _check_not_of_unreadable(
    outline: _Outline, ordered: list[_Series], unreadable: list[Path]
) -> None:
    """Refuses a segmentation whose series is probably among the files that cannot be read.

    Raises:
        InputError: Its references resolve to nothing, and files that cannot be read lie nearer
            to it than any series, or as near.
    """
    here = outline.path.parent
    if not unreadable or any(s.uid in outline.series for s in ordered):
        return
    nearest = max(_common_depth(s.folder, here) for s in ordered)
    if max(_common_depth(path.parent, here) for path in unreadable) >= nearest:
        raise InputError(
            ErrorCode.CASES_LAYOUT,
            f"The segmentation {outline.path.name} references no series that can be read, and "
            f"{len(unreadable)} DICOM files near it are cut off or damaged. {csv_advice()}",
        )


def _scan(
    files: Iterable[Path], left_out: dict[Path, str]
) -> tuple[dict[str, _Series], list[_Outline]]:
    series: dict[str, _Series] = {}
    outlines: list[_Outline] = []
    for path in files:
        header = _header(path)
        if header is None:
            left_out[path] = UNREADABLE if _says_dicom(path) else NO_DICOM
            continue
        study = str(header.get("StudyInstanceUID", ""))
        if header.get("SOPClassUID") in _SEGMENTATIONS:
            outlines.append(_outline(path, study, header))
        elif header.get("Modality") not in _NO_IMAGES and header.get("Rows"):
            uid = str(header.get("SeriesInstanceUID", path))
            one = series.setdefault(
                uid,
                _Series(
                    uid,
                    study,
                    str(header.get("FrameOfReferenceUID", "")),
                    f"{int(header.get('SeriesNumber') or 0):06d}",
                    path.parent,
                ),
            )
            one.files += 1
        else:
            what = header.get("Modality") or "no rows and columns"
            left_out[path] = f"a DICOM object that is no image ({what})"
    return series, outlines


def _says_dicom(path: Path) -> bool:
    """Whether a file calls itself DICOM, by its ending or by the four letters in front."""
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return True


def _header(path: Path) -> pydicom.Dataset | None:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except (InvalidDicomError, OSError, ValueError, KeyError, AttributeError, NotImplementedError):
        # A file that pydicom cannot parse is no image that discovery could name; a
        # series with such a slice is refused by the reader, as a gap between slices.
        return None


def _outline(path: Path, study: str, header: pydicom.Dataset) -> _Outline:
    outline = _Outline(path, study)
    if header.get("FrameOfReferenceUID"):
        outline.frames.add(str(header.FrameOfReferenceUID))
    for item in header.get("ReferencedSeriesSequence", []):
        outline.series.add(str(item.get("SeriesInstanceUID", "")))
    for frame in header.get("ReferencedFrameOfReferenceSequence", []):
        outline.frames.add(str(frame.get("FrameOfReferenceUID", "")))
        for referenced_study in frame.get("RTReferencedStudySequence", []):
            for item in referenced_study.get("RTReferencedSeriesSequence", []):
                outline.series.add(str(item.get("SeriesInstanceUID", "")))
    return outline


def _series_of(outline: _Outline, ordered: list[_Series], names: dict[str, str]) -> tuple[str, str]:
    referenced = [s for s in ordered if s.uid in outline.series]
    if len(referenced) == 1:
        return referenced[0].uid, ""
    same_frame = [s for s in ordered if s.frame and s.frame in outline.frames]
    same_study = [s for s in ordered if s.study and s.study == outline.study]
    candidates = referenced or same_frame or same_study or ordered
    how = (
        "several referenced series"
        if referenced
        else "the same frame of reference"
        if same_frame
        else "the same study"
        if same_study
        else "the whole tree"
    )
    if len(candidates) == 1 and (same_frame or same_study):
        return candidates[0].uid, (
            f"the segmentation references no series that is here; matched by {how}"
        )
    depths = {s.uid: _common_depth(s.folder, outline.path.parent) for s in candidates}
    nearest = [s for s in candidates if depths[s.uid] == max(depths.values())]
    if len(nearest) == 1:
        return nearest[0].uid, (
            "the segmentation references no single series that is here; matched by the nearest "
            f"folder among those of {how}"
        )
    raise InputError(
        ErrorCode.CASES_LAYOUT,
        f"The segmentation {outline.path.name} could belong to any of {len(nearest)} series "
        f"({', '.join(names[s.uid] for s in nearest[:10])}): its references resolve to nothing "
        f"and they lie equally near. {csv_advice()}",
    )


def _common_depth(one: Path, other: Path) -> int:
    depth = 0
    for a, b in zip(one.parts, other.parts, strict=False):
        if a != b:
            break
        depth += 1
    return depth


def _names(root: Path, ordered: list[_Series], keep_identifiers: bool) -> dict[str, str]:
    if not keep_identifiers:
        digits = max(3, len(str(len(ordered))))
        return {s.uid: f"case-{n:0{digits}d}" for n, s in enumerate(ordered, start=1)}
    names: dict[str, str] = {}
    taken: set[str] = set()
    for one in ordered:
        name = base = safe_name("-".join(one.folder.relative_to(root).parts) or root.name)
        number = 2
        while name.casefold() in taken:
            name = f"{base}-{number}"
            number += 1
        taken.add(name.casefold())
        names[one.uid] = name
    return names


def _shown(folder: Path, root: Path, keep_identifiers: bool) -> str:
    if keep_identifiers:
        return str(folder.relative_to(root))
    return "hidden, as it may name the patient; --keep-identifiers shows it"
