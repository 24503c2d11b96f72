"""Cases from a tree of DICOM files: series, and the SEG or RTSTRUCT that outlines them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.boundary import reading
from SaliencyExplain.images.dicom_header import (
    DICOM_SUFFIXES,
    is_cut_off,
    is_dicom,
    is_index,
    kind_of,
    read_header,
    text,
)
from SaliencyExplain.images.dicom_series import (
    SERIES_TAGS,
    is_image,
    is_localizer,
    is_screenshot,
    series_uid,
)
from SaliencyExplain.studies.case import Case, safe_name
from SaliencyExplain.studies.file_names import csv_advice

#: DICOM 2024d, newer than the table of names in pydicom 3.0.
_LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_SEGMENTATIONS = (SegmentationStorage, _LABEL_MAP_SEGMENTATION_STORAGE, RTStructureSetStorage)
_SEGMENTATION_MODALITIES = ("SEG", "RTSTRUCT")
#: Images that are not classified.
_TREATMENT_IMAGE = "RTIMAGE"
_TAGS = [*SERIES_TAGS, "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"]


@dataclass
class _Series:
    uid: str
    study: str
    frame: str
    number: str
    modality: str
    folder: Path
    files: list[Path] = field(default_factory=list)
    planning: bool = True

    def add(self, path: Path, planning: bool) -> None:
        """Adds a file; `planning`: a localizer or a screenshot, made to plan others on it."""
        self.files.append(path)
        self.planning &= planning
        if path.parent != self.folder:
            self.folder = Path(os.path.commonpath([self.folder, path.parent]))


@dataclass
class _Outline:
    path: Path
    study: str
    frames: set[str] = field(default_factory=set)
    series: set[str] = field(default_factory=set)


#: Why a file of a DICOM tree belongs to no case.
_INDEX = "a DICOMDIR, the index of a storage medium"
_PLANNING = "a localizer or screenshot beside other series of the study"
NO_DICOM = "neither an image of a known format nor DICOM"
UNREADABLE = "DICOM that cannot be read: cut off or damaged"


def dicom_cases(
    root: Path, files: Iterable[Path], left_out: dict[Path, str], *, keep_identifiers: bool
) -> list[Case]:
    """Groups DICOM files into series and gives each its segmentation.

    A SEG or RTSTRUCT belongs to the series that it references. If none of the series found is
    referenced, it belongs to the series in the same frame of reference, and among several of those
    to the one that lies nearest in the
    folders; the case's notes say so. In a study with segmentations only the series
    that have one are cases; in a study without, every series is one, but for those of
    localizers or screenshots alone beside others. The files of a series may lie in several
    folders.

    Args:
        root: The tree's root.
        files: The files that may be DICOM.
        left_out: Receives the files that are neither image nor segmentation, each with the reason.
        keep_identifiers: Name cases by their folders, which are often patient IDs,
            instead of ``case-001`` and on in the order of their paths.

    Returns:
        The cases in the order of their paths; none where no file is a DICOM image.

    Raises:
        InputError: A segmentation could belong to several series, or to one that is unreadable or
            missing, or several segmentations to one.
    """
    series, outlines = _scan(files, left_out)
    within = _series_within(series)
    series = {uid: one for uid, one in series.items() if one.modality != _TREATMENT_IMAGE}
    planning = _leave_out_planning(series, outlines, left_out)
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
        if planning[one.study]:
            notes.append(
                f"{planning[one.study]} series of localizers or screenshots of this study left out"
            )
        cases.append(
            Case(
                case=names[one.uid],
                images=((None, one.folder),),
                segmentation=mine[0][0].path if mine else None,
                series=one.uid if len(within[one.folder]) > 1 else None,
                private=not keep_identifiers,
                notes=tuple(notes),
            )
        )
    return cases


def class_folder_notes(root: Path, cases: Sequence[Case]) -> list[str]:
    """A note if DICOM images may lie in a folder per class: folders give no labels.

    Args:
        root: The tree's root.
        cases: All cases found there.
    """
    images = [(case, path) for case in cases if case.label is None for path in case.paths]
    dicom = [path for case, path in images if case.series or path.is_dir() or is_dicom(path)]
    homes = [path if path.is_dir() else path.parent for path in dicom]
    folders = {home.name for home in homes if home != root}
    # Folders of patients hold one series each, or have numbers for names.
    shared = len(homes) > len(set(homes))
    if len(folders) < 2 or not (shared or not any(c.isdigit() for c in "".join(folders))):
        return []
    return [
        "DICOM cases have no labels: the names of their folders are not read as classes. If the "
        "folders are classes, write a CSV with the columns case,image,label."
    ]


def _check_not_of_unreadable(
    outline: _Outline, ordered: list[_Series], unreadable: list[Path]
) -> None:
    """Refuses a segmentation whose series is probably among the files that cannot be read.

    Raises:
        InputError: It references none of the series found, and unreadable files lie at least
            as near to it as any series.
    """
    here = outline.path.parent
    if not unreadable or any(s.uid in outline.series for s in ordered):
        return
    nearest = max(_common_depth(s.folder, here) for s in ordered)
    if max(_common_depth(path.parent, here) for path in unreadable) >= nearest:
        raise InputError(
            ErrorCode.CASES_LAYOUT,
            f"The segmentation {outline.path.name} references none of the series read, and "
            f"{len(unreadable)} DICOM files near it are cut off or damaged. {csv_advice()}",
        )


def _scan(
    files: Iterable[Path], left_out: dict[Path, str]
) -> tuple[dict[str, _Series], list[_Outline]]:
    series: dict[str, _Series] = {}
    outlines: list[_Outline] = []
    for path in files:
        # Values are decoded on access; damaged ones raise an error then.
        try:
            with reading(path):
                _add(path, series, outlines, left_out)
        except InputError:
            left_out[path] = UNREADABLE
    return series, outlines


def _add(
    path: Path, series: dict[str, _Series], outlines: list[_Outline], left_out: dict[Path, str]
) -> None:
    header = _header(path, left_out)
    if header is None:
        return
    study = text(header, "StudyInstanceUID")
    modality = text(header, "Modality")
    sop_class = text(header, "SOPClassUID")
    if sop_class in _SEGMENTATIONS or modality in _SEGMENTATION_MODALITIES:
        outlines.append(_outline(path, study, header))
    elif is_image(header):
        uid = series_uid(path, header)
        planning = is_localizer(header) or is_screenshot(header)
        if uid not in series:
            frame, number = text(header, "FrameOfReferenceUID"), text(header, "SeriesNumber")
            series[uid] = _Series(uid, study, frame, number.zfill(6), modality, path.parent)
        series[uid].add(path, planning)
    else:
        left_out[path] = f"a DICOM object that is not an image ({kind_of(header)})"


def _header(path: Path, left_out: dict[Path, str]) -> Dataset | None:
    """A file's header; None, with the reason in `left_out`, if it belongs to no case."""
    try:
        if not is_dicom(path):
            named = path.suffix.lower() in DICOM_SUFFIXES
            left_out[path] = UNREADABLE if named else NO_DICOM
            return None
        header = read_header(path, _TAGS)
    except (InputError, OSError):
        left_out[path] = UNREADABLE
        return None
    if is_index(header):
        left_out[path] = _INDEX
    elif is_cut_off(header):
        left_out[path] = UNREADABLE
    else:
        return header
    return None


def _series_within(series: dict[str, _Series]) -> dict[Path, set[str]]:
    """The UIDs of the series that have files in a folder or in those within it."""
    within: dict[Path, set[str]] = defaultdict(set)
    for uid, one in series.items():
        for folder in {file.parent for file in one.files}:
            for above in (folder, *folder.parents):
                within[above].add(uid)
    return within


def _leave_out_planning(
    series: dict[str, _Series], outlines: list[_Outline], left_out: dict[Path, str]
) -> dict[str, int]:
    """Takes out series of localizers or screenshots beside others of their study.

    Returns:
        How many were taken out of each study.
    """
    outlined = {uid for outline in outlines for uid in outline.series}
    others = {one.study for one in series.values() if not one.planning}
    count: dict[str, int] = defaultdict(int)
    for uid, one in list(series.items()):
        if one.planning and one.study in others and uid not in outlined:
            count[one.study] += 1
            left_out.update(dict.fromkeys(one.files, _PLANNING))
            del series[uid]
    return count


def _outline(path: Path, study: str, header: Dataset) -> _Outline:
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
            f"the segmentation references none of the series found; matched by {how}"
        )
    depths = {s.uid: _common_depth(s.folder, outline.path.parent) for s in candidates}
    nearest = [s for s in candidates if depths[s.uid] == max(depths.values())]
    if len(nearest) == 1:
        return nearest[0].uid, (
            "the segmentation does not reference exactly one of the series found; matched by the "
            f"nearest folder among those of {how}"
        )
    raise InputError(
        ErrorCode.CASES_LAYOUT,
        f"The segmentation {outline.path.name} could belong to any of {len(nearest)} series "
        f"({', '.join(names[s.uid] for s in nearest[:10])}): it references none or "
        f"several of them, and they lie equally near. {csv_advice()}",
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
