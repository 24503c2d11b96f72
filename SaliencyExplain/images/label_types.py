"""The types of a label map and its labels, and the palette for segments without a colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Color = tuple[float, float, float]

#: Colours that colour-blind people can distinguish (Okabe and Ito 2008, "Color Universal Design").
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
    """One segment: the voxels of a layer that have its value.

    Attributes:
        name: The name in the file, else made from the value.
        color: RGB in [0, 1], None if the file has no colour.
        layer: Index of its layer of the label map.
        value: Its value in the layer.
    """

    name: str
    color: Color | None
    layer: int
    value: int


@dataclass(frozen=True)
class LabelMap:
    """Segments on the grid of their file; overlapping segments are in different layers.

    Attributes:
        layers: (L, *S), whole numbers, 0 outside.
        affine: 4x4 to RAS millimetres; None for pictures, which have the image's grid.
        labels: The segments.
        notes: Notes for the user.
        frame_of_reference: DICOM Frame of Reference UID, empty where unknown.
    """

    layers: NDArray[np.integer[Any]] | NDArray[np.bool_]
    affine: NDArray[np.float64] | None
    labels: tuple[Label, ...]
    notes: tuple[str, ...] = ()
    frame_of_reference: str = ""
