"""A point in the world as a voxel of the network's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import indices_of, within_grid


def voxel_of_point(
    point: NDArray[np.float64],
    image: MetaTensor,
    affine: NDArray[np.float64],
    shape: Sequence[int],
    length_unit: str,
) -> NDArray[np.float64]:
    """A point in voxel indices of the network's grid, not rounded.

    Args:
        point: Right, anterior, superior in mm.
        image: ``(C, *S)``, with as many spatial axes as the network's grid.
        affine: 4x4 of the network's grid.
        shape: Voxels per axis of the network's grid.
        length_unit: For messages.

    Raises:
        InputError: It is no point, or lies outside of the image or of the network's grid.
    """
    if point.shape != (3,) or not np.isfinite(point).all():
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The point {point.tolist()} must be three finite numbers in mm (right, anterior, "
            "superior).",
        )
    shown = ", ".join(f"{value:.1f}" for value in point)
    where = f"({shown}) {length_unit} RAS"
    image_affine = image.affine.numpy().astype(np.float64)
    if not _within(indices_of(point, image_affine), image.shape[1:]):
        raise InputError(ErrorCode.PLACE_OUTSIDE, f"The point {where} lies outside of the image.")
    centre = indices_of(point, affine)[: len(shape)]
    if not _within(centre, shape):
        raise InputError(
            ErrorCode.PLACE_OUTSIDE,
            f"The point {where} lies in the image, but outside of what the network sees of it: "
            "the preprocessing, or the window around the explained region, cuts it off.",
        )
    return centre


def _within(index: NDArray[np.float64], shape: Sequence[int]) -> bool:
    """Whether a place lies in a grid, half a voxel beyond its outermost centres included."""
    sizes = [*shape, *[1] * (len(index) - len(shape))]
    return bool(within_grid(index, sizes, tolerance=1e-4))
