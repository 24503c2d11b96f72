"""The result of every reader: voxels, their affine, and notes for the user."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import directions_of, spacing_of


@dataclass(frozen=True)
class Volume:
    """Voxels as stored in a file.

    Attributes:
        values: (L, *S) in the file's own numbers (scaled if the header has a scaling):
            L layers on S of 2 or 3 axes. Several layers are the colours of a picture, the
            volumes of a time series or the layers of a segmentation.
        affine: 4x4, voxel indices to RAS millimetres.
        notes: Notes on what was assumed, resampled or left out.
        header: Text fields of the file that describe the labels.
        frame_of_reference: DICOM Frame of Reference UID, empty where unknown.
        modality: DICOM modality, empty where unknown.
        colour: Whether the layers are red, green and blue.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    header: dict[str, str] = field(default_factory=dict)
    frame_of_reference: str = ""
    modality: str = ""
    colour: bool = False


def checked_affine(path: Path, affine: NDArray[np.float64]) -> None:
    """Raises InputError if an affine maps different voxels to the same position."""
    if not np.isfinite(affine).all() or min(spacing_of(affine, 3)) == 0:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: its affine has no inverse. Correct the affine.",
        )
    if abs(np.linalg.det(directions_of(affine))) < 1e-6:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: two axes of its affine have the same direction. Correct the affine.",
        )


def one_number(path: Path, components: int, sizes: Sequence[int], several: bool) -> None:
    """Checks that a file holds one number per voxel and one volume, unless several are allowed.

    Args:
        path: The file, for messages.
        components: Numbers per voxel.
        sizes: Sizes along each axis of the grid; from the fourth on they count volumes.
        several: Whether several are allowed.

    Raises:
        InputError: It holds several, and `several` is false.
    """
    count = components * math.prod(sizes[3:])
    if several or count == 1:
        return
    if components in (3, 4) and len(sizes) < 4:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{path}: holds colours or vectors ({components} values per voxel) instead of one "
            "number per voxel. Convert it to a volume of grey values.",
        )
    raise InputError(ErrorCode.IMAGE_AMBIGUOUS, several_volumes(path, count))


def several_volumes(path: Path, count: int) -> str:
    """The message for a file of several volumes instead of one."""
    return (
        f"{path}: holds {count} volumes (4D) instead of one (3D). Save one of them as a separate "
        "file."
    )


def unannounced(more: int) -> tuple[str, ...]:
    """The note for a file with more voxels than its header announces."""
    return ("the file holds more bytes of voxels than its header announces",) if more else ()
