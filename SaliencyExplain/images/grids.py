"""Values carried from one grid to another, and grids made upright.

What a grid is, and where its voxels lie: :mod:`SaliencyExplain.voxel_grids`, whose names are
found here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from SaliencyExplain.voxel_grids import LPS_TO_RAS as LPS_TO_RAS
from SaliencyExplain.voxel_grids import coinciding as coinciding
from SaliencyExplain.voxel_grids import corners as corners
from SaliencyExplain.voxel_grids import same_grid as same_grid
from SaliencyExplain.voxel_grids import spacing_of as spacing_of

#: Cosine between two axes above which a grid counts as sheared. Directions rounded to
#: four decimals, as scanners write them, stay below; ITK (hence 3D Slicer) takes no shear.
SHEAR_TOLERANCE = 1e-3


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
