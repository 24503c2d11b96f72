"""Masks on a grid: balls in millimetres, and segments of another grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.geometry import bounding_box, indices_between, spacing_of
from SaliencyExplain.images.resampling import resample

#: Largest number of parts of a voxel along an axis, for the share that a segment fills.
_MOST_PARTS = 16


def ball(
    centre: NDArray[np.float64],
    radius_mm: float,
    affine: NDArray[np.float64],
    shape: Sequence[int],
) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """The voxels of a grid within a radius of a point; at least the voxel at the point.

    Args:
        centre: The point in voxel indices, one number for each of the grid's axes.
        radius_mm: Radius in mm, above 0.
        affine: 4x4 of the grid, voxel indices to mm.
        shape: Shape of the grid, which contains the point; the ball is cut off at its border.

    Returns:
        The first voxel of the bounding box, and the mask in that box.
    """
    axes = len(centre)
    columns = affine[:3, :axes]
    metric = columns.T @ columns
    # Half the length of an ellipsoid's bounding box along axis i is r sqrt((G^-1)_ii).
    half = radius_mm * np.sqrt(np.diag(np.linalg.inv(metric)))
    nearest = np.clip(np.floor(centre + 0.5), 0, np.asarray(shape) - 1).astype(int)
    first = np.minimum(np.maximum(np.ceil(centre - half), 0).astype(int), nearest)
    last = np.maximum(np.minimum(np.floor(centre + half).astype(int) + 1, shape), nearest + 1)
    steps = np.meshgrid(
        *(np.arange(a, b) - c for a, b, c in zip(first, last, centre, strict=True)), indexing="ij"
    )
    offsets = np.stack(steps, axis=-1)
    distance2 = np.einsum("...i,ij,...j", offsets, metric, offsets)
    place = distance2 <= radius_mm**2 * (1 + 1e-9)
    place[tuple(nearest - first)] = True
    return tuple(first.tolist()), place


def carried_shares(
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    to_affine: NDArray[np.float64],
    to_shape: tuple[int, ...],
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """The share of each voxel of another grid that a mask fills.

    Along each axis a voxel of the other grid is divided into as many parts as it spans voxels of
    the mask's grid; each part belongs to the nearest voxel of the mask.

    Args:
        mask: ``(*S)``, not empty.
        affine: 4x4 of its grid.
        to_affine: 4x4 of the other grid, in the same world.
        to_shape: The other grid's shape, as many axes as ``mask``.

    Returns:
        The first voxel of a box that contains all filled voxels, and the shares in that box;
        the box is empty if the mask lies outside the other grid.
    """
    axes = mask.ndim
    ends = [(side.start - 0.5, side.stop - 0.5) for side in bounding_box(mask)]
    reached = indices_between(np.array(list(itertools.product(*ends))), affine, to_affine)
    first = np.maximum(np.floor(reached.min(axis=0)).astype(int), 0)
    last = np.minimum(np.ceil(reached.max(axis=0)).astype(int) + 1, to_shape)
    shape = np.maximum(last - first, 0)
    if not shape.all():
        return tuple(first.tolist()), np.zeros(tuple(shape))
    finest = min(spacing_of(affine, axes))
    parts = [
        int(np.clip(np.ceil(spacing / finest - 1e-3), 1, _MOST_PARTS))
        for spacing in spacing_of(to_affine, axes)
    ]
    fine = np.eye(4)
    for axis, (start, count) in enumerate(zip(first, parts, strict=True)):
        fine[axis, axis] = 1 / count
        fine[axis, 3] = start - 0.5 + 0.5 / count
    wanted = [int(size) * count for size, count in zip(shape, parts, strict=True)]
    inside = resample(mask, affine, to_affine @ fine, wanted, nearest=True)
    split = [n for size, count in zip(shape, parts, strict=True) for n in (int(size), count)]
    shares = inside.reshape(split).mean(axis=tuple(range(1, 2 * axes, 2)))
    return tuple(first.tolist()), shares


def filled_voxels(
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    to_affine: NDArray[np.float64],
    to_shape: tuple[int, ...],
) -> tuple[tuple[int, ...], NDArray[np.bool_], bool]:
    """The voxels of another grid that a mask fills by at least half.

    If there is none, the voxel that the mask fills most is returned.

    Args:
        mask: See :func:`carried_shares`.
        affine: See :func:`carried_shares`.
        to_affine: See :func:`carried_shares`.
        to_shape: See :func:`carried_shares`.

    Returns:
        The first voxel of a box, the mask in that box, and whether the mask fills a voxel by
        half. The mask has no true voxel if the segment lies outside the other grid.
    """
    corner, shares = carried_shares(mask, affine, to_affine, to_shape)
    if not shares.size or not shares.any():
        return corner, np.zeros(shares.shape, dtype=bool), False
    place = shares >= 0.5
    if place.any():
        return corner, place, True
    return corner, shares == shares.max(), False


def label_map_on(
    masks: Sequence[NDArray[np.bool_]],
    affine: NDArray[np.float64],
    to_affine: NDArray[np.float64],
    to_shape: tuple[int, ...],
) -> NDArray[np.int64]:
    """Masks as one label map on another grid.

    Args:
        masks: ``(*S)`` each, not empty.
        affine: 4x4 of their grid.
        to_affine: 4x4 of the other grid, in the same world.
        to_shape: The other grid's shape, as many axes as the masks.

    Returns:
        0 outside all masks, else 1 + the index of the last mask that has the voxel by
        :func:`filled_voxels`.
    """
    labels = np.zeros(to_shape, dtype=np.int64)
    for label, mask in enumerate(masks, start=1):
        corner, place, _ = filled_voxels(mask, affine, to_affine, to_shape)
        box = tuple(slice(a, a + size) for a, size in zip(corner, place.shape, strict=True))
        labels[box][place] = label
    return labels
