"""Voxel grids: where voxels lie in the world, and values carried from one grid to another.

A grid is a shape and a 4x4 affine that takes voxel indices (i, j, k) to millimetres
in RAS. Images of two axes have the same 4x4 affine; their third axis is one voxel.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Takes LPS (DICOM, ITK) to RAS (NIfTI, MRML) and back: it is its own inverse.
LPS_TO_RAS: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0])

#: Cosine between two axes above which a grid counts as sheared. Directions rounded to
#: four decimals, as scanners write them, stay below; ITK (hence 3D Slicer) takes no shear.
SHEAR_TOLERANCE = 1e-3


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


def resample(
    values: NDArray[Any],
    affine: NDArray[Any],
    to_affine: NDArray[Any],
    to_shape: Sequence[int],
    nearest: bool,
    outside: float = 0.0,
) -> NDArray[Any]:
    """Carries values from their grid to another (scipy.ndimage.affine_transform).

    Args:
        values: (*S) of 2 or 3 axes.
        affine: 4x4 affine of `values`.
        to_affine: 4x4 affine of the wanted grid.
        to_shape: Its shape, as many axes as `values` has.
        nearest: The nearest voxel's value (labels), else linear in between (images).
        outside: What lies beyond the voxels of `values`.

    Returns:
        (*to_shape), the data type of `values` when `nearest` (bool too), else float32.
    """
    axes = values.ndim
    to_index = np.linalg.inv(np.asarray(affine, dtype=np.float64)) @ to_affine

    def carried(source: NDArray[Any], order: int, mode: str, cval: float) -> NDArray[Any]:
        matrix, offset = to_index[:axes, :axes], to_index[:axes, 3]
        return ndimage.affine_transform(
            source, matrix, offset, tuple(to_shape), order=order, mode=mode, cval=cval
        )

    # "grid-constant": with plain "constant" a voxel at index -1e-12, which is rounding,
    # already counts as outside and the rim of the image is lost.
    if nearest and values.dtype == bool:
        return carried(values.view(np.uint8), 0, "grid-constant", outside).view(bool)
    if nearest:
        return carried(values, 0, "grid-constant", outside)
    result = carried(np.asarray(values, dtype=np.float32), 1, "nearest", outside)
    # As ITK has it: the image reaches half a voxel beyond its outermost centres.
    covered = carried(np.ones(values.shape, dtype=np.uint8), 0, "grid-constant", 0)
    result[covered == 0] = outside
    return result


def shear_of(affine: NDArray[Any]) -> float:
    """Largest cosine between two axes of a grid: 0 where all are at right angles."""
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    unit = columns / np.linalg.norm(columns, axis=0)
    return float(np.abs(unit.T @ unit - np.eye(3)).max())


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
