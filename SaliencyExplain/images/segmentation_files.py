"""Segmentations that consist of a file for each lesion or structure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.images.segment_labels import PALETTE
from SaliencyExplain.images.segmentation import (
    EMPTY_NOTE,
    Segment,
    Segmentation,
    read_ground_truth,
)

_NUMBER = re.compile(r"[_\-. (]*\d+\)?$")
_SUFFIXES = re.compile(r"(\.seg)?\.(nii\.gz|[a-z]+)$", re.IGNORECASE)


def read_ground_truths(
    paths: Sequence[Path], reference: MetaTensor
) -> tuple[Segmentation | None, tuple[str, ...]]:
    """Reads a segmentation from one or several files onto the grid of an image.

    Numbered files (``x_mask.png``, ``x_mask_1.png``) are parts of one segment, which is their
    union. Other files (``liver.nii.gz``, ``spleen.nii.gz``) are one segment each, named after the
    file, or after the folder if files in different folders have the same name.

    Args:
        paths: The files, at least one.
        reference: The image, (C, *S) with its affine.

    Returns:
        See :func:`SaliencyExplain.images.segmentation.read_ground_truth`; with several files the
        notes name those in which nothing is marked.

    Raises:
        InputError: See :func:`SaliencyExplain.images.segmentation.read_ground_truth`.
    """
    if len(paths) == 1:
        return read_ground_truth(paths[0], reference)
    masks: dict[str, NDArray[np.bool_]] = {}
    empty: list[str] = []
    notes: list[str] = []
    for path, name in zip(paths, segment_names(paths), strict=True):
        found, said = read_ground_truth(path, reference)
        if found is None:
            empty.append(path.name)
            continue
        notes += said
        for segment in found.segments:
            whole = name if len(found.segments) == 1 else f"{name} {segment.name}"
            masks[whole] = masks[whole] | segment.mask if whole in masks else segment.mask
    if not masks:
        return None, (EMPTY_NOTE,)
    if empty:
        notes.append(f"nothing is marked in {', '.join(empty)}")
    segments = tuple(
        Segment(name, PALETTE[number % len(PALETTE)], mask)
        for number, (name, mask) in enumerate(masks.items())
    )
    told = tuple(dict.fromkeys(notes))
    return Segmentation(segments, reference.affine.numpy().astype(np.float64), told), told


def segment_names(paths: Sequence[Path]) -> list[str]:
    """The segments' names of several files; files with equal names are parts of one segment.

    Args:
        paths: The files.
    """
    stems = [_SUFFIXES.sub("", path.name) for path in paths]
    bare = [_NUMBER.sub("", stem) for stem in stems]
    by_folder: dict[Path, set[str]] = defaultdict(set)
    for path, stem in zip(paths, bare, strict=True):
        by_folder[path.parent].add(stem)
    if len(by_folder) > 1 and all(len(names) == 1 for names in by_folder.values()):
        return [path.parent.name for path in paths]
    if len(set(bare)) == 1:
        return ["segmentation"] * len(paths)
    # The common prefix is the image's name.
    first, last = min(stems), max(stems)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    shared = first[:same]
    cut = max(shared.rfind(separator) for separator in "_-. ") + 1
    return [stem[cut:] or stem for stem in stems]
