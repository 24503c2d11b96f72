"""What every reader hands on: voxels, their place in the world, and what to say aloud."""

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
    """Voxels as a file holds them.

    Attributes:
        values: (L, *S) in the file's own numbers (scaled where the header says so):
            L layers on S of 2 or 3 axes. More than one layer are the colours of a
            picture, the volumes of a series in time or the layers of a segmentation.
        affine: 4x4, voxel indices to RAS millimetres.
        notes: What was guessed, resampled or dropped on the way.
        header: Text fields of the file that say what the labels mean.
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
    """Raises InputError where an affine takes different voxels to the same place."""
    if not np.isfinite(affine).all() or min(spacing_of(affine, 3)) == 0:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: its header gives voxels no valid place (affine without inverse).",
        )
    if abs(np.linalg.det(directions_of(affine))) < 1e-6:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY, f"{path}: two axes of its header's affine point the same way."
        )


def one_number(path: Path, components: int, sizes: Sequence[int], several: bool) -> None:
    """Makes sure that a file holds one number at each voxel of one volume, where that is wanted.

    Args:
        path: The file, for messages.
        components: Numbers at each voxel.
        sizes: Along each axis of the grid; from the fourth on they number volumes.
        several: Whether several are wanted.

    Raises:
        InputError: It holds several, and one is wanted.
    """
    count = components * math.prod(sizes[3:])
    if several or count == 1:
        return
    if components in (3, 4) and len(sizes) < 4:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{path}: holds colours or vectors ({components} values at each voxel), not one number "
            "each. Convert it to a volume of grey values.",
        )
    raise InputError(ErrorCode.IMAGE_AMBIGUOUS, several_volumes(path, count))


def several_volumes(path: Path, count: int) -> str:
    """The message for a file of several volumes where one is wanted."""
    return (
        f"{path}: holds {count} volumes (4D), and one (3D) is wanted. Save the one you mean as a "
        "file of its own."
    )


def unannounced(more: int) -> tuple[str, ...]:
    """What is said aloud of a file that holds more voxels than its header announces."""
    return ("the file holds more bytes of voxels than its header announces",) if more else ()
