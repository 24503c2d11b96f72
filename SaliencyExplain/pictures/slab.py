"""The planes of a picture of a map, and the first plane as a separate grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.peak import Peak, find_peak
from SaliencyExplain.pictures.planes import Plane, View, view_through
from SaliencyExplain.pictures.reading_aids import (
    GreyWindow,
    HeatWindow,
    Segment,
    field_of_view,
    grey_window,
    heat_window,
)


@dataclass(frozen=True)
class PeakView:
    """The planes through a map's peak, and what is needed to draw them.

    Attributes:
        peak: The voxel that the planes go through.
        heat: The window of the map; None where there is nothing to draw.
        greys: The window of the anatomy.
        box: The part of the grid that is drawn.
        view: The planes.
    """

    peak: Peak
    heat: HeatWindow | None
    greys: GreyWindow
    box: tuple[slice, ...]
    view: View


def peak_view(
    image: NDArray[np.floating],
    values: NDArray[np.floating],
    affine: NDArray[np.float64],
    segments: Sequence[Segment],
    *,
    signed: bool,
    resolution_mm: float = 0.0,
) -> PeakView:
    """The planes through the peak of a map; see :func:`~SaliencyExplain.pictures.draw_planes`.

    Raises:
        InputError: The volume has no plane to draw.
    """
    peak = find_peak(values, signed, affine, resolution_mm)
    heat = heat_window(values, signed)
    greys = grey_window(image)
    box = tuple(slice(0, size) for size in values.shape)
    if values.ndim == 3:
        box = field_of_view(image, values, segments, peak.index, greys, heat)
    return PeakView(peak, heat, greys, box, view_through(peak.index, box, affine))


@dataclass(frozen=True)
class Slab:
    """One plane of a picture as a grid: a voxel thick in 3D, the whole image in 2D.

    Attributes:
        box: The part of the image's grid that it is.
        affine: 4x4 of the slab, RAS mm.
        plane: Takes an array on the slab to the plane's pixels.
    """

    box: tuple[slice, ...]
    affine: NDArray[np.float64]
    plane: Plane

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels per axis, as many axes as the image."""
        return tuple(side.stop - side.start for side in self.box)


def slab_of(seen: PeakView, affine: NDArray[np.float64]) -> Slab:
    """The first plane of a picture as a slab, for what is to be drawn in the same place.

    Args:
        seen: The planes of the picture.
        affine: 4x4 of the image's grid, RAS mm.
    """
    axis = seen.view.planes[0].axis
    index = list(seen.peak.index)
    box = list(seen.box)
    if axis < len(box):
        box[axis] = slice(index[axis], index[axis] + 1)
    corner = [side.start for side in box]
    shifted = np.array(affine, dtype=np.float64)
    shifted[:3, 3] += shifted[:3, : len(box)] @ corner
    inside = tuple(int(at) for at in np.subtract(index, corner))
    whole = tuple(slice(0, side.stop - side.start) for side in box)
    return Slab(tuple(box), shifted, view_through(inside, whole, shifted).planes[0])
