"""What a label map is, and the palette for segments without a colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Color = tuple[float, float, float]

#: Colours that the colour-blind tell apart (Okabe and Ito 2008, "Color Universal Design").
PALETTE: tuple[Color, ...] = tuple(
    (red / 255, green / 255, blue / 255)
    for red, green, blue in (
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
    )
)


@dataclass(frozen=True)
class Label:
    """One segment: the voxels of a layer that hold its value.

    Attributes:
        name: As the file has it, else made from the value.
        color: RGB in [0, 1], None where the file names none.
        layer: Which layer of the label map it lies in.
        value: Its value there.
    """

    name: str
    color: Color | None
    layer: int
    value: int


@dataclass(frozen=True)
class LabelMap:
    """Segments on the grid of their file; layers hold what overlaps.

    Attributes:
        layers: (L, *S), whole numbers, 0 outside.
        affine: 4x4 to RAS millimetres; None for pictures, which lie where the image does.
        labels: The segments.
        notes: What should be said aloud.
        frame_of_reference: DICOM Frame of Reference UID, empty where unknown.
    """

    layers: NDArray[np.integer[Any]] | NDArray[np.bool_]
    affine: NDArray[np.float64] | None
    labels: tuple[Label, ...]
    notes: tuple[str, ...] = ()
    frame_of_reference: str = ""
