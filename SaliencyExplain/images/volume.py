"""What every reader hands on: voxels, their place in the world, and what to say aloud."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
