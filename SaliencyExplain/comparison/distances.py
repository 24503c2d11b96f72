"""Distances in millimetres between sets of voxels, exact for any affine.

All distances are between voxel centres in world space, so oblique, anisotropic and sheared
grids need no special case. MONAI's ``compute_hausdorff_distance`` and
``compute_average_surface_distance`` support a spacing but no shear. On grids without shear the
metrics here equal theirs (a test checks this); one search gives both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from SaliencyExplain.geometry import bounding_box, world_vectors


class SurfaceDistances(NamedTuple):
    """Distances between two surfaces.

    Attributes:
        hausdorff95: 95th percentile of the distances, the larger of the two directions, mm.
        mean: Mean over the distances of both directions together, mm.
    """

    hausdorff95: float
    mean: float


def surface_distances(
    first: NDArray[np.bool_], second: NDArray[np.bool_], affine: NDArray[np.float64]
) -> SurfaceDistances:
    """Hausdorff and mean surface distance between two sets of voxels.

    Equals MONAI's ``compute_hausdorff_distance(percentile=95, directed=False)`` and
    ``compute_average_surface_distance(symmetric=True)`` with the grid's spacing.

    Args:
        first: A set of voxels, bool, (*S).
        second: Another one, same shape.
        affine: 4x4 of the grid, RAS mm.

    Returns:
        Both in mm, NaN where a set is empty.
    """
    if not first.any() or not second.any():
        return SurfaceDistances(float("nan"), float("nan"))
    points = [world_vectors(surface_voxels(voxels), affine) for voxels in (first, second)]
    there, _ = KDTree(points[1]).query(points[0])
    back, _ = KDTree(points[0]).query(points[1])
    hausdorff = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return SurfaceDistances(hausdorff, float(np.concatenate((there, back)).mean()))


def within_distance(
    voxels: NDArray[np.bool_],
    segment: NDArray[np.bool_],
    affine: NDArray[np.float64],
    distance_mm: float,
) -> int:
    """How many of some voxels lie in a segment or within a distance of it.

    Args:
        voxels: The voxels asked for, bool, (*S).
        segment: The segment, same shape, with at least one voxel.
        affine: 4x4 of the grid, RAS mm.
        distance_mm: The distance between voxel centres that still counts, mm.

    Returns:
        The number of voxels.
    """
    inside = int(np.count_nonzero(voxels & segment))
    asked = world_vectors(np.argwhere(voxels & ~segment), affine)
    surface = world_vectors(surface_voxels(segment), affine)
    low, high = surface.min(axis=0) - distance_mm, surface.max(axis=0) + distance_mm
    # A constant map needs every voxel of the volume: those outside the box need no search.
    asked = asked[np.all((asked >= low - 1e-6) & (asked <= high + 1e-6), axis=1)]
    if len(asked) == 0:
        return inside
    # The bound of the search is exclusive, and 5 mm computed through an oblique affine may be
    # 5.0000000001: a thousandth of a micrometre more counts as reached.
    nearest, _ = KDTree(surface).query(asked, distance_upper_bound=distance_mm + 2e-6)
    return inside + int(np.count_nonzero(nearest <= distance_mm + 1e-6))


def surface_voxels(voxels: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices (N, D) of the voxels that have a face on the outside or on the grid's border."""
    box = bounding_box(voxels)
    cropped = voxels[box]
    surface = cropped & ~ndimage.binary_erosion(cropped)
    return np.argwhere(surface) + np.array([side.start for side in box])
