"""Finds the cases of a study in a folder, whichever of the usual layouts it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.matlab import SUFFIX
from SaliencyExplain.study.bids import bids_cases, is_bids
from SaliencyExplain.study.case import Case, check_unique, describe_cases, single_case
from SaliencyExplain.study.case_csv import read_cases
from SaliencyExplain.study.dicom_tree import dicom_cases
from SaliencyExplain.study.files import (
    PART_NAMES,
    PICTURE_SUFFIXES,
    VOLUME_SUFFIXES,
    image_suffix,
    is_other_file,
    parse_name,
    visible,
)
from SaliencyExplain.study.folders import class_folder_cases, flat_cases, folder_cases
from SaliencyExplain.study.nnunet import is_nnunet, nnunet_cases
from SaliencyExplain.study.tumour_set import tumour_set_cases

__all__ = ["Case", "describe_cases", "discover"]

_LOOKED_FOR = (
    "*_image with *_mask (or _label, _seg) pairs; nnU-Net (imagesTr, labelsTr); BIDS "
    "(sub-*/anat); a folder per case; DICOM series with SEG or RTSTRUCT; a folder per class of "
    "PNG, JPEG, BMP or TIFF; MATLAB files of the brain tumour set; or a CSV of cases"
)


def discover(
    path: Path, *, channels: Sequence[str] = (), keep_identifiers: bool = False
) -> list[Case]:
    """Finds the cases in a study folder or a CSV.

    Layouts, in the order in which they are recognised:

    - a CSV: :func:`SaliencyExplain.study.case_csv.read_cases`;
    - nnU-Net: ``imagesTr/NAME_0000.nii.gz`` … with ``labelsTr/NAME.nii.gz``;
    - BIDS: ``sub-*/[ses-*/]anat/*_T1w.nii.gz`` … with masks in ``derivatives``;
    - DICOM trees of any depth with SEG or RTSTRUCT: named ``case-001`` and on;
    - a folder per class of 2D pictures: the folder's name is the label; folders named
      train, validation and test around them are the parts of a split;
    - MATLAB files of the brain tumour set (:mod:`SaliencyExplain.images.matlab`);
    - a folder per case, also several of them deep: images, and a file named
      ``seg``, ``mask`` or ``label``; several images with one mask are channels
      named by their files, several image and mask pairs are cases of their own;
    - flat: ``NAME_image.*`` or ``NAME.*`` with ``NAME_mask.*`` and the like.

    Args:
        path: The folder, or the CSV.
        channels: The classifier's channels: images of these names become the
            channels of one case, in this order.
        keep_identifiers: Name DICOM cases by their folders, and let outputs name their files.

    Returns:
        The cases, sorted as in their files' names (of a CSV: in its order).

    Raises:
        InputError: Nothing was found, or what belongs together cannot be told.
    """
    if path.is_file():
        if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise InputError(
                ErrorCode.FILE_FORMAT, f"{path}: a study is a folder, or a CSV of cases."
            )
        return check_unique(read_cases(path, channels, keep_identifiers=keep_identifiers))
    if not path.is_dir():
        raise InputError(
            ErrorCode.FILE_MISSING, f"{path}: there is no such folder or CSV of cases."
        )
    path = path.resolve()
    return check_unique(_layout(path, channels, keep_identifiers))


def background_cases(
    paths: Sequence[Path], channels: Sequence[str] = (), keep_identifiers: bool = False
) -> tuple[Case, ...]:
    """The cases whose images stand for "nothing in particular".

    Args:
        paths: Each an image of one channel or a colour picture, or what :func:`discover` takes.
        channels: The classifier's channels.
        keep_identifiers: See :func:`discover`.

    Raises:
        InputError: As :func:`discover`.
    """
    cases: list[Case] = []
    for path in paths:
        if path.is_file() and image_suffix(path):
            cases.append(single_case([(None, path)], keep_identifiers=keep_identifiers))
        else:
            cases += discover(path, channels=channels, keep_identifiers=keep_identifiers)
    return tuple(cases)


def _layout(path: Path, channels: Sequence[str], keep_identifiers: bool) -> list[Case]:
    if is_nnunet(path):
        return nnunet_cases(path, channels)
    if is_bids(path):
        return bids_cases(path, channels)
    pictures, volumes, others = _sorted_by_kind(path)
    # Segmentations alone, beside DICOM slices, do not make it a folder of volumes.
    if all(parse_name(volume).is_mask for volume in volumes):
        found = dicom_cases(path, others, keep_identifiers=keep_identifiers)
        if found:
            return found
    slices = [file for file in _walk(path) if file.suffix.lower() == SUFFIX]
    if slices and not pictures and not volumes:
        return tumour_set_cases(path, slices)
    if not pictures and not volumes:
        count = f"{len(others)} other files" if others else "nothing"
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{path}: no images found ({count}). Looked for: {_LOOKED_FOR}.",
        )
    here = [file for file in visible(path) if file.is_file() and image_suffix(file)]
    below = [folder for folder in visible(path) if folder.is_dir()]
    if here:
        return flat_cases(path, here, channels)
    if pictures and not volumes and len(below) > 1 and all(_pictures_only(f) for f in below):
        return class_folder_cases(below)
    if pictures and not volumes and _are_parts(below):
        return [
            case
            for part in below
            for case in class_folder_cases(
                [folder for folder in visible(part) if folder.is_dir()], split=part.name
            )
        ]
    return folder_cases(path, channels)


def _sorted_by_kind(path: Path) -> tuple[list[Path], list[Path], list[Path]]:
    pictures: list[Path] = []
    volumes: list[Path] = []
    others: list[Path] = []
    for file in _walk(path):
        suffix = image_suffix(file)
        if suffix in PICTURE_SUFFIXES:
            pictures.append(file)
        elif suffix in VOLUME_SUFFIXES:
            volumes.append(file)
        elif not is_other_file(file):
            others.append(file)
    return pictures, volumes, others


def _walk(path: Path) -> Iterator[Path]:
    for entry in visible(path):
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry


def _are_parts(folders: Sequence[Path]) -> bool:
    """Whether these are the parts of a split, with a folder per class in each."""
    return len(folders) > 1 and all(
        folder.name.casefold() in PART_NAMES
        and all(_pictures_only(one) for one in visible(folder) if one.is_dir())
        and any(one.is_dir() for one in visible(folder))
        for folder in folders
    )


def _pictures_only(folder: Path) -> bool:
    entries = [entry for entry in visible(folder) if not (entry.is_file() and is_other_file(entry))]
    return bool(entries) and all(image_suffix(entry) in PICTURE_SUFFIXES for entry in entries)
