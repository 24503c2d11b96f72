"""Where the voxels of a grid lie in the world, and whether two grids are one.

A grid is a shape and a 4x4 affine that takes voxel indices (i, j, k) to millimetres
in RAS. Images of two axes have the same 4x4 affine; their third axis is one voxel.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Takes LPS (DICOM, ITK) to RAS (NIfTI, MRML) and back: it is its own inverse.
LPS_TO_RAS: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0])


def spacing_of(affine: NDArray[Any], axes: int) -> tuple[float, ...]:
    """Distance of neighbouring voxel centres along each axis.

    Args:
        affine: 4x4, voxel indices to millimetres.
        axes: How many axes the image has, 2 or 3.

    Returns:
        A distance for each axis, in millimetres.
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :axes]
    return tuple(float(length) for length in np.linalg.norm(columns, axis=0))


def corners(shape: Sequence[int], affine: NDArray[Any]) -> NDArray[np.float64]:
    """Places of the outermost voxel centres.

    Args:
        shape: Voxels along each of the 2 or 3 axes.
        affine: 4x4, voxel indices to RAS millimetres.

    Returns:
        (2 ** axes, 3) points in RAS millimetres.
    """
    ends = [(0, size - 1) for size in shape]
    indices = np.zeros((2 ** len(shape), 4))
    indices[:, : len(shape)] = list(itertools.product(*ends))
    indices[:, 3] = 1.0
    return (indices @ np.asarray(affine, dtype=np.float64).T)[:, :3]


def same_grid(
    shape: Sequence[int],
    affine: NDArray[Any],
    other_shape: Sequence[int],
    other_affine: NDArray[Any],
    tolerance: float = 0.05,
) -> bool:
    """Whether two grids are one: equal shapes, and voxels at the same places.

    Args:
        shape: Voxels along each axis of one grid.
        affine: Its 4x4 affine.
        other_shape: Voxels along each axis of the other.
        other_affine: Its 4x4 affine.
        tolerance: Largest distance of two corner voxels that still counts as the
            same place, as a share of the smallest spacing. Headers hold rounded
            numbers (NIfTI has 32 bits), hence not zero.
    """
    if tuple(shape) != tuple(other_shape):
        return False
    apart = np.linalg.norm(corners(shape, affine) - corners(shape, other_affine), axis=1)
    return bool(apart.max() <= tolerance * min(spacing_of(affine, len(shape))))


def coinciding(affine: NDArray[Any], to_affine: NDArray[Any], to_shape: Sequence[int]) -> bool:
    """Whether the voxels of two grids fall on each other one by one.

    So it is for flipped, permuted, cropped and padded copies: carrying values from
    one to the other then loses nothing but what lies outside.

    Args:
        affine: 4x4 affine of the grid that values come from.
        to_affine: 4x4 affine of the grid that they are carried to.
        to_shape: Its shape.
    """
    axes = len(to_shape)
    to_index = (np.linalg.inv(affine) @ to_affine)[:axes, [*range(axes), 3]]
    steps = np.rint(to_index[:, :axes])
    if not np.array_equal(np.sort(np.abs(steps), axis=1)[:, -1], np.ones(axes)):
        return False
    if np.abs(steps).sum() != axes or abs(np.linalg.det(steps)) != 1:
        return False
    drift = np.abs(to_index[:, :axes] - steps) @ np.array(to_shape, dtype=float)
    start = np.abs(to_index[:, axes] - np.rint(to_index[:, axes]))
    return bool((drift + start).max() <= 0.05)
