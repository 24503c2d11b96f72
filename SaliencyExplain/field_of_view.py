"""Which voxels of an image a classifier's network sees: outside of them a map is undefined.

A preprocessing that crops leaves a part of the image out. A map of the network's input has no
value there; files and panels hold 0, which is drawn as nothing, and what the map is held against is
held against it within the field of view. numpy only: Slicer's own Python needs it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The keys of a map's provenance: what the network sees, and its share of the image.
FIELD_OF_VIEW, SEEN_SHARE = "field_of_view", "seen_share"

#: Parts of a voxel by which a centre may lie outside all the same.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class FieldOfView:
    """The network's grid in an image.

    Attributes:
        shape: Voxels of the network's grid per axis.
        from_image: 4x4, from the image's voxel indices to those of the network's grid; of a 3D
            image that is a single slice, without the axis of that slice.
        box: Of a region of interest, its first voxel and the one after its last along each axis of
            the image. The network's grid may reach further, with padding. None: no region is cut
            out.
    """

    shape: tuple[int, ...]
    from_image: tuple[tuple[float, ...], ...]
    box: tuple[tuple[int, int], ...] | None = None

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> FieldOfView | None:
        """That of a map's provenance; None where the network sees the whole image."""
        found = provenance.get(FIELD_OF_VIEW)
        if not found:
            return None
        rows = tuple(tuple(map(float, row)) for row in found["from_image"])
        box = tuple((int(low), int(high)) for low, high in found.get("box") or ())
        return cls(tuple(map(int, found["shape"])), rows, box or None)

    def as_json(self) -> dict[str, Any]:
        """For a map's provenance."""
        found = {"shape": list(self.shape), "from_image": [list(row) for row in self.from_image]}
        return found if self.box is None else {**found, "box": [list(edge) for edge in self.box]}

    def seen(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which voxels of the image ``(*S)`` have their centres in the network's grid.

        Of a region of interest only those in its box.
        """
        axes = list(shape)
        if len(axes) > len(self.shape):
            single = max(axis for axis, size in enumerate(axes) if size == 1)
            del axes[single]
        outside = list(outside_planes(self.shape, np.array(self.from_image), tuple(axes)))
        seen = ~np.stack(outside).reshape(shape)
        if self.box is not None:
            cut = np.zeros_like(seen)
            cut[tuple(slice(low, high) for low, high in self.box)] = True
            seen &= cut
        return seen


def common(fields: Iterable[FieldOfView | None]) -> FieldOfView | None:
    """The field of view of maps that have the same; None where they differ."""
    found = set(fields)
    return found.pop() if len(found) == 1 else None


def outside_planes(
    shape: tuple[int, ...], from_image: NDArray[np.float64], of_shape: tuple[int, ...]
) -> Iterator[NDArray[np.bool_]]:
    """For each index of an image's first axis, which of its voxels lie outside of a grid.

    Args:
        shape: Voxels of the grid, two or three axes.
        from_image: 4x4, from voxel indices of the image to those of the grid.
        of_shape: Voxels of the image, as many axes.
    """
    rest = np.ogrid[tuple(slice(0, size) for size in of_shape[1:])]
    for index in range(of_shape[0]):
        outside: NDArray[np.bool_] = np.zeros(of_shape[1:], dtype=bool)
        for axis, size in enumerate(shape):
            place = from_image[axis, 3] + from_image[axis, 0] * index
            for other, steps in enumerate(rest, start=1):
                if from_image[axis, other]:
                    place = place + from_image[axis, other] * steps
            outside |= (place < -0.5 - _TOLERANCE) | (place > size - 0.5 + _TOLERANCE)
        yield outside
