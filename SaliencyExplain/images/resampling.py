"""Resampling of values from one grid to another (:mod:`SaliencyExplain.geometry`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def resample(
    values: NDArray[Any],
    affine: NDArray[Any],
    to_affine: NDArray[Any],
    to_shape: Sequence[int],
    nearest: bool,
    outside: float = 0.0,
) -> NDArray[Any]:
    """Resamples values from their grid to another (scipy.ndimage.affine_transform).

    Args:
        values: (*S) of 2 or 3 axes.
        affine: 4x4 affine of `values`.
        to_affine: 4x4 affine of the target grid.
        to_shape: Its shape, with as many axes as `values`.
        nearest: Nearest-voxel interpolation (labels), else linear (images).
        outside: Value outside the voxels of `values`.

    Returns:
        (*to_shape), the data type of `values` when `nearest` (bool too), else float32.
    """
    axes = values.ndim
    to_index = np.linalg.inv(np.asarray(affine, dtype=np.float64)) @ to_affine

    def sampled(source: NDArray[Any], order: int, mode: str, cval: float) -> NDArray[Any]:
        matrix, offset = to_index[:axes, :axes], to_index[:axes, 3]
        return ndimage.affine_transform(
            source, matrix, offset, tuple(to_shape), order=order, mode=mode, cval=cval
        )

    # "grid-constant", because with "constant" a voxel at index -1e-12, which is rounding, counts as
    # outside and the border of the image is lost.
    if nearest and values.dtype == bool:
        return sampled(values.view(np.uint8), 0, "grid-constant", outside).view(bool)
    if nearest:
        return sampled(values, 0, "grid-constant", outside)
    result = sampled(np.asarray(values, dtype=np.float32), 1, "nearest", outside)
    # As in ITK, the image extends half a voxel beyond its outermost centres.
    covered = sampled(np.ones(values.shape, dtype=np.uint8), 0, "grid-constant", 0)
    result[covered == 0] = outside
    return result
