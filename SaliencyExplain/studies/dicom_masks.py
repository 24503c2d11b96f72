"""Segmentations of other formats (NIfTI, NRRD) beside the series of a DICOM tree."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.dicom_tree import UNREADABLE
from SaliencyExplain.studies.file_names import Name, ambiguous, same_key
from SaliencyExplain.studies.pairing import together
from SaliencyExplain.studies.role_folders import is_mask_folder


def with_masks(
    root: Path, cases: Sequence[Case], masks: Sequence[Name], left_out: dict[Path, str]
) -> list[Case]:
    """Assigns segmentations in other formats to the cases of a DICOM tree.

    A segmentation belongs to the series in whose folders its name occurs, else to the only
    series of the folder in which it lies (``P1/seg.nii.gz`` or ``P1/masks/seg.nii.gz`` beside
    ``P1/ct``).

    Args:
        root: The tree's root.
        cases: The cases of the series, each with its folder.
        masks: Files that are segmentations by their name or folder.
        left_out: Files that are left out, with the reason; receives the masks whose series is
            unreadable.

    Raises:
        InputError: A segmentation belongs to no series or to several, or a series has several.
    """
    own: dict[str, list[Name]] = defaultdict(list)
    for mask in masks:
        case = _case_of(root, cases, mask, left_out)
        if case is not None:
            own[case.case].append(mask)
    found = []
    for case in cases:
        mine = own.get(case.case, [])
        if mine and case.segmentation is not None:
            files = [*(mask.path for mask in mine), case.segmentation]
            raise ambiguous(
                case.case, files, "the case has a DICOM segmentation and other segmentations"
            )
        if mine:
            first, *further = together(case.case, mine)
            case = dataclasses.replace(
                case, segmentation=first, further_segmentations=tuple(further)
            )
        found.append(case)
    return found


def _case_of(
    root: Path, cases: Sequence[Case], mask: Name, left_out: dict[Path, str]
) -> Case | None:
    named = [case for case in cases if set(mask.keys) & set(_folder_names(root, case))]
    if len(named) == 1:
        return named[0]
    home = mask.path.parent
    while is_mask_folder(home.name) and home != root:
        home = home.parent
    inside = [case for case in named or cases if case.paths[0].is_relative_to(home)]
    damaged = [p for p, why in left_out.items() if why == UNREADABLE and p.is_relative_to(home)]
    if len(inside) == 1 and not damaged:
        return inside[0]
    if not inside and damaged:
        left_out[mask.path] = "a segmentation whose DICOM series cannot be read"
        return None
    question = (
        "no DICOM series matches the segmentation by name or folder"
        if not inside
        else "the segmentation lies beside several series, or beside unreadable files"
    )
    raise ambiguous("DICOM series beside other files", [mask.path], question)


def _folder_names(root: Path, case: Case) -> list[str]:
    return [same_key(part) for part in case.paths[0].relative_to(root).parts]
