"""Finds the cases of a study in a folder, whichever of the usual layouts it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.boundary import reader
from SaliencyExplain.plugins import STUDY_LAYOUTS, plugins
from SaliencyExplain.records.left_out import LeftOut
from SaliencyExplain.studies.bids import bids_cases, is_bids
from SaliencyExplain.studies.case import Case, describe_cases, single_case, unlike
from SaliencyExplain.studies.case_csv import read_cases
from SaliencyExplain.studies.dicom_masks import with_masks
from SaliencyExplain.studies.dicom_tree import NO_DICOM, UNREADABLE, class_folder_notes, dicom_cases
from SaliencyExplain.studies.file_names import Name, ambiguous, csv_advice, image_suffix, is_picture
from SaliencyExplain.studies.found import Found, left_out_files
from SaliencyExplain.studies.nnunet import is_nnunet, nnunet_cases
from SaliencyExplain.studies.plain_folders import layout_cases
from SaliencyExplain.studies.role_folders import are_masks_alone, is_mask_folder, merge_roles
from SaliencyExplain.studies.study_layout import StudyFolder, plugin_cases
from SaliencyExplain.studies.tree import EMPTY, Tree, of_one_kind, read_tree

__all__ = ["Case", "Found", "LeftOut", "describe_cases", "discover"]

_LOOKED_FOR = (
    "*_image with *_mask (or _label, _seg) pairs; folders 'images' and 'masks'; nnU-Net and the "
    "Decathlon (imagesTr, labelsTr); BIDS (sub-*/anat); a folder per case; DICOM series with "
    "SEG or RTSTRUCT; a folder per class of PNG, JPEG, TIFF or BMP; a CSV of cases; the layouts of "
    "plugins"
)


@reader
def discover(
    path: Path,
    *,
    channels: Sequence[str] = (),
    keep_identifiers: bool = False,
    allowed: Callable[[Path], object] | None = None,
) -> Found:
    """Finds the cases in a study folder or a CSV.

    Layouts, in the order in which they are recognised:

    - a CSV: :func:`SaliencyExplain.studies.case_csv.read_cases`;
    - the layouts of plugins (:mod:`SaliencyExplain.studies.study_layout`), before the general ones
      because each is of one data set;
    - nnU-Net and the Decathlon: ``imagesTr/NAME_0000.nii.gz`` … with ``labelsTr/NAME.nii.gz``;
    - BIDS: ``sub-*/[ses-*/]anat/*_T1w.nii.gz`` …, also under ``rawdata``, with masks in
      ``derivatives``;
    - DICOM trees of any depth with SEG or RTSTRUCT, or segmentations of other formats: named
      ``case-001`` and on;
    - folders of images beside folders of masks, also with equal names, which are then read as
      if all of them lay in one folder, in the following layouts;
    - a folder per class of 2D pictures: the folder's name is the label; folders named
      train, validation and test around them are the parts of a split;
    - a folder per case, also several of them deep: images, and a file named
      ``seg``, ``mask`` or ``label``; several images with one mask are channels
      named by their files, several pairs of image and mask are separate cases;
    - flat: ``NAME_image.*`` or ``NAME.*`` with ``NAME_mask.*`` and the like.

    Args:
        path: The folder, or the CSV.
        channels: The classifier's channels: images of these names become the
            channels of one case, in this order.
        keep_identifiers: Name DICOM cases by their folders, and let outputs name their files.
        allowed: Asked for each path that a CSV names, and for each link in a folder, before it is
            looked up or followed; raises if it is not allowed.

    Returns:
        The cases, sorted as in their files' names (of a CSV: in its order), and the other files,
        each with the reason why it belongs to no case.

    Raises:
        InputError: Nothing was found, or the files cannot be assigned to cases.
    """
    if path.is_file():
        if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise InputError(
                ErrorCode.FILE_FORMAT, f"{path}: is not a study. Give a folder, or a CSV of cases."
            )
        return read_cases(path, channels, keep_identifiers=keep_identifiers, allowed=allowed)
    if not path.is_dir():
        raise InputError(
            ErrorCode.FILE_MISSING, f"{path}: it does not exist. Give a folder or CSV of cases."
        )
    path = path.resolve()
    tree = read_tree(path, allowed)
    folder = StudyFolder(path, tuple(tree.files), tuple(channels), keep_identifiers)
    found, plugin_notes = plugin_cases(folder)
    if found is None:
        found = _layout(path, tree, channels, keep_identifiers)
    cases = unlike(found, [_origin(path, case) for case in found])
    private = any(case.private for case in cases)
    notes = [*plugin_notes, *class_folder_notes(path, cases)]
    return Found(cases, left_out_files(path, _left_out(tree, cases), named=not private), notes)


def background_cases(
    paths: Sequence[Path], channels: Sequence[str] = (), keep_identifiers: bool = False
) -> Found:
    """The cases whose images stand for "nothing in particular".

    Args:
        paths: Each an image of one channel or a colour picture, or what :func:`discover` takes.
        channels: The classifier's channels.
        keep_identifiers: See :func:`discover`.

    Raises:
        InputError: As :func:`discover`.
    """
    cases: list[Case] = []
    left_out: list[LeftOut] = []
    notes: list[str] = []
    for path in paths:
        if path.is_file() and image_suffix(path):
            cases.append(single_case([(None, path)], keep_identifiers=keep_identifiers))
        else:
            found = discover(path, channels=channels, keep_identifiers=keep_identifiers)
            cases += found
            left_out += found.left_out
            notes += found.notes
    return Found(cases, left_out, notes)


def _layout(path: Path, tree: Tree, channels: Sequence[str], keep_identifiers: bool) -> list[Case]:
    for home in _homes(path, tree):
        if is_nnunet(home):
            return nnunet_cases(home, channels)
        if is_bids(home):
            return bids_cases(home, channels, tree.left_out)
    files = list(tree.root.walk())
    images = [name for name in files if not _is_mask(name)]
    series = dicom_cases(path, tree.unknown, tree.left_out, keep_identifiers=keep_identifiers)
    tree.unknown.clear()
    if series:
        return _beside_series(path, tree, series, files)
    if not images and UNREADABLE in tree.left_out.values():
        raise _nothing(path, tree)
    if not images and not files:
        raise _nothing(path, tree)
    if not images and are_masks_alone(tree.root):
        raise ambiguous(str(path), [name.path for name in files], "there are masks but no images")
    return layout_cases(merge_roles(of_one_kind(tree.root, tree.left_out)), channels)


def _homes(path: Path, tree: Tree) -> list[Path]:
    """The folder, and the only folder in it where it holds nothing else."""
    root = tree.root
    only = [root.folders[0].path] if len(root.folders) == 1 and not root.names else []
    return [path, *only]


def _beside_series(path: Path, tree: Tree, series: list[Case], files: list[Name]) -> list[Case]:
    """The cases of a DICOM tree, with what lies beside the series."""
    masks = [name for name in files if _is_mask(name)]
    others = [name for name in files if not _is_mask(name)]
    volumes = [name for name in others if not is_picture(name.path)]
    if volumes:
        raise InputError(
            ErrorCode.CASES_LAYOUT,
            f"{path}: it holds {len(series)} DICOM series and {len(volumes)} volumes of other "
            f"formats ({', '.join(name.path.name for name in volumes[:5])}"
            f"{', …' if len(volumes) > 5 else ''}), which may be other cases, segmentations, or "
            f"copies of the same images. {csv_advice()}",
        )
    for name in others:
        tree.left_out[name.path] = "a picture beside DICOM series"
    return with_masks(path, series, masks, tree.left_out)


def _is_mask(name: Name) -> bool:
    """Whether the file is a segmentation by its name or by the folder in which it lies."""
    return (name.is_mask and not name.weak) or is_mask_folder(name.path.parent.name)


def _nothing(path: Path, tree: Tree) -> InputError:
    reasons = Counter(tree.left_out.values())
    found = "; ".join(
        reason if reason == EMPTY else f"{count} file{'s' if count != 1 else ''}: {reason}"
        for reason, count in sorted(reasons.items())
    )
    return InputError(
        ErrorCode.CASES_MISSING,
        f"{path}: no images found ({found or 'nothing'}). Looked for: {_LOOKED_FOR} "
        f"({', '.join(plugins(STUDY_LAYOUTS)) or 'none'}).",
    )


def _origin(root: Path, case: Case) -> str:
    """What identifies a case: its first image, relative to the study's folder."""
    return f"{case.paths[0].relative_to(root).as_posix()}\0{case.series or ''}"


def _left_out(tree: Tree, cases: Sequence[Case]) -> dict[Path, str]:
    """The files of the tree that belong to no case, each with the reason."""
    used = {file for case in cases for file in case.files}
    reasons = {file: why for file, why in tree.left_out.items() if file not in used}
    for file in tree.unknown:
        if file not in used:
            reasons.setdefault(file, NO_DICOM)
    for name in tree.root.walk():
        if name.path not in used:
            kind = "a segmentation" if _is_mask(name) else "an image"
            reasons.setdefault(name.path, f"{kind} that belongs to no case of this layout")
    return reasons
