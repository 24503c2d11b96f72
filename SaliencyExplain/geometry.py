"""Grids of voxels and the millimetres of the world: affines, indices, boxes.

A grid is a shape and a 4x4 affine that takes voxel indices (i, j, k) to millimetres in RAS. Images
of two axes have the same 4x4 affine; their third axis is one voxel. numpy only: Slicer's own Python
has no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Takes LPS (DICOM, ITK) to RAS (NIfTI, MRML) and back: it is its own inverse.
LPS_TO_RAS: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0])

#: Cosine between two axes above which a grid counts as sheared. Directions rounded to four
#: decimals, as scanners write them, stay below. ITK, hence 3D Slicer, takes no shear.
SHEAR_TOLERANCE = 1e-3

#: Distance of two voxel centres that still counts as the same place, as a share of the smallest
#: spacing. Headers hold rounded numbers (NIfTI has 32 bits), hence not zero.
SAME_PLACE = 0.05

#: Determinant of an affine below which it counts as singular.
_SINGULAR = 1e-12


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


def directions_of(affine: NDArray[Any], axes: int = 3) -> NDArray[np.float64]:
    """Unit vectors of a grid's axes in the world, (3, axes), one in each column."""
    columns = np.asarray(affine, dtype=np.float64)[:3, :axes]
    directions: NDArray[np.float64] = columns / np.linalg.norm(columns, axis=0)
    return directions


def shear_of(affine: NDArray[Any]) -> float:
    """Largest cosine between two axes of a grid: 0 where all are at right angles."""
    unit = directions_of(affine)
    return float(np.abs(unit.T @ unit - np.eye(3)).max())


def is_invertible(affine: NDArray[Any]) -> bool:
    """Whether a 4x4 affine has finite numbers and takes different voxels to different places."""
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    return bool(np.isfinite(affine).all()) and abs(np.linalg.det(columns)) >= _SINGULAR


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
    tolerance: float = SAME_PLACE,
) -> bool:
    """Whether two grids have the same shape and their voxels at the same places.

    Args:
        shape: Voxels along each axis of one grid.
        affine: Its 4x4 affine.
        other_shape: Voxels along each axis of the other.
        other_affine: Its 4x4 affine.
        tolerance: Largest distance of two corner voxels that still counts as the
            same place, as a share of the smallest spacing.
    """
    if tuple(shape) != tuple(other_shape):
        return False
    apart = np.linalg.norm(corners(shape, affine) - corners(shape, other_affine), axis=1)
    return bool(apart.max() <= tolerance * min(spacing_of(affine, len(shape))))


def coinciding(affine: NDArray[Any], to_affine: NDArray[Any], to_shape: Sequence[int]) -> bool:
    """Whether the voxels of two grids coincide one by one.

    They do for flipped, permuted, cropped and padded copies: resampling from one to the other
    then loses nothing but what lies outside.

    Args:
        affine: 4x4 affine of the grid that values come from.
        to_affine: 4x4 affine of the grid that they are resampled to.
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
    return bool((drift + start).max() <= SAME_PLACE)


def upright_grid(
    shape: Sequence[int], affine: NDArray[Any]
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """The right-angled grid that holds all voxels of a sheared one.

    Its first axis keeps the direction of the first axis and its first two span the
    same plane: slices of a CT with tilted gantry stay slices, only shifted in
    their plane. The third axis is the planes' normal, spacing their distance.

    Args:
        shape: Voxels along each of three axes.
        affine: 4x4 affine, may be sheared.

    Returns:
        The shape and affine of the right-angled grid.
    """
    orthonormal, triangle = np.linalg.qr(np.asarray(affine, dtype=np.float64)[:3, :3])
    matrix = orthonormal @ np.diag(np.diag(triangle))
    indices = np.linalg.solve(matrix, corners(shape, affine).T).T
    # Counted from the first voxel, so that the planes stay where they were. Rounding to
    # 1e-6 voxels keeps an axis without shear from growing by one voxel.
    start = np.linalg.solve(matrix, np.asarray(affine, dtype=np.float64)[:3, 3])
    low = start + np.floor(np.round(indices.min(axis=0) - start, 6))
    high = start + np.ceil(np.round(indices.max(axis=0) - start, 6))
    upright = np.eye(4)
    upright[:3, :3] = matrix
    upright[:3, 3] = matrix @ low
    return tuple(int(size) for size in np.rint(high - low) + 1), upright


def indices_of(points: NDArray[Any], affine: NDArray[Any]) -> NDArray[np.float64]:
    """Points of the world (N, 3), in mm, as fractional voxel indices (N, 3) of a grid."""
    inverse = np.linalg.inv(np.asarray(affine, dtype=np.float64))
    indices: NDArray[np.float64] = points @ inverse[:3, :3].T + inverse[:3, 3]
    return indices


def indices_between(
    indices: NDArray[Any], affine: NDArray[Any], to_affine: NDArray[Any]
) -> NDArray[np.float64]:
    """Voxel indices (N, D) of one grid as fractional indices (N, D) of another in the same world.

    Args:
        indices: Of the grid with `affine`, D of 2 or 3.
        affine: 4x4 of the grid that they come from.
        to_affine: 4x4 of the other grid.
    """
    axes = indices.shape[1]
    to_index = np.linalg.inv(to_affine) @ affine
    found: NDArray[np.float64] = indices @ to_index[:axes, :axes].T + to_index[:axes, 3]
    return found


def within_grid(
    indices: NDArray[Any], shape: Sequence[int], tolerance: float = 1e-3
) -> NDArray[np.bool_]:
    """Which fractional indices (..., D) lie in a voxel of a grid of D axes.

    Args:
        indices: In voxels; a voxel reaches half a voxel beyond its centre.
        shape: Voxels along each axis.
        tolerance: In voxels: a centre on the rim is inside, whatever the rounding.
    """
    low, high = -0.5 - tolerance, np.array(shape) - 0.5 + tolerance
    return np.asarray(((indices > low) & (indices < high)).all(axis=-1))


def world_vectors(indices: NDArray[Any], affine: NDArray[Any]) -> NDArray[np.float64]:
    """Index vectors (..., D) as vectors (..., 3) in mm, without the grid's origin.

    The origin is left out because only differences are wanted; a volume far from it would
    cost digits.
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, : indices.shape[-1]]
    vectors: NDArray[np.float64] = np.asarray(indices, dtype=np.float64) @ columns.T
    return vectors


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds all True voxels of a mask; the mask has at least one."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def widened_box(box: Sequence[slice], margins: Sequence[int]) -> tuple[slice, ...]:
    """A box with so many voxels more at both ends of each axis, cut off at index 0.

    The ends may lie beyond the grid; arrays cut them off.
    """
    return tuple(
        slice(max(0, side.start - margin), side.stop + margin)
        for side, margin in zip(box, margins, strict=True)
    )
