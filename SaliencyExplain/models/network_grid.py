"""The positions of an image's voxels before and after a classifier's preprocessing.

MONAI's transforms keep an image's affine true, so no inverse transforms are needed: a map on the
network's grid is resampled by the two affines.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.field_of_view import outside_planes
from SaliencyExplain.geometry import same_grid
from SaliencyExplain.images.resampling import resample

# For a plane whose normal is nearest to the x, y or z axis: the direction to the right
# and the direction downwards of a radiological display, in RAS.
_DISPLAY = (
    (np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, -1.0])),
    (np.array([-1.0, 0.0, 0.0]), np.array([0.0, 0.0, -1.0])),
    (np.array([-1.0, 0.0, 0.0]), np.array([0.0, -1.0, 0.0])),
)


def plane_frame(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rigid frame in which a 2D image is a plane picture.

    MONAI reads only the upper left 2x2 part of a 2D image's affine, which is singular
    for a sagittal or coronal slice. In this frame the first axis runs to the left of a
    radiological display and the second upwards, so that for an axial slice it is the
    patient's own R and A, and the plane is z = 0.

    Args:
        affine: 4x4, RAS, in millimetres; its first two columns are the image's axes.

    Returns:
        4x4, from the frame's coordinates to RAS, a rotation and a translation.

    Raises:
        InputError: The two axes of the image are parallel.
    """
    first, second = affine[:3, 0], affine[:3, 1]
    normal = np.cross(first, second)
    length = np.linalg.norm(normal)
    if not length > 1e-9 * np.linalg.norm(first) * np.linalg.norm(second):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            "The two axes of the image are parallel: its affine cannot be used.",
        )
    normal = normal / length
    right, down = _DISPLAY[int(np.argmax(np.abs(normal)))]
    up = -down + np.dot(down, normal) * normal
    up /= np.linalg.norm(up)
    across = np.cross(up, normal)
    if np.dot(across, right) > 0:
        across = -across
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1], frame[:3, 2] = across, up, np.cross(across, up)
    frame[:3, 3] = normal * np.dot(normal, affine[:3, 3])
    return frame


def to_plane(affine: NDArray[np.float64], frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine of a 2D image in the coordinates of a :func:`plane_frame`."""
    inside = np.linalg.inv(frame) @ affine
    plane = np.eye(4)
    plane[:2, :2] = inside[:2, :2]
    plane[:2, 3] = inside[:2, 3]
    return plane


def squeeze_slice(image: MetaTensor) -> MetaTensor:
    """Turns a 3D image ``(C, *S)`` of a single slice into the 2D image of that slice.

    Raises:
        InputError: The image has more than one slice along each of its axes.
    """
    singles = [axis for axis in range(3) if image.shape[axis + 1] == 1]
    if not singles:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"The classifier takes 2D images, and this one has "
            f"{'x'.join(map(str, image.shape[1:]))} voxels: give a single slice.",
        )
    single = singles[-1]
    kept = [axis for axis in range(3) if axis != single]
    affine = image.affine.numpy()[:, [*kept, single, 3]]
    values = image.as_tensor().squeeze(single + 1)
    return MetaTensor(values, affine=torch.from_numpy(affine.copy()), meta=other_meta(image))


def resample_inside(
    values: NDArray[np.float32],
    affine: NDArray[np.float64],
    to_affine: NDArray[np.float64],
    to_shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """Brings a map onto another grid by linear interpolation, whole up to its border.

    Args:
        values: ``(*S)``, two or three axes.
        affine: 4x4 of ``values``.
        to_affine: 4x4 of the wanted grid, in the same world.
        to_shape: The wanted grid's shape, as many axes as ``values``.

    Returns:
        float32 of ``to_shape``. The outer half of a border voxel has the value of its
        voxel (a coarse map would fade there); outside the field of view is 0.
    """
    if same_grid(values.shape, affine, to_shape, to_affine, tolerance=1e-4):
        return np.array(values, dtype=np.float32)
    shifted = affine @ _translation(-np.ones(values.ndim))
    framed = np.pad(values, 1, mode="edge")
    result: NDArray[np.float32] = resample(framed, shifted, to_affine, to_shape, nearest=False)
    for index, outside in enumerate(_outside(values.shape, affine, to_affine, to_shape)):
        result[index][outside] = 0.0
    return result


def share_inside(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    of_shape: tuple[int, ...],
    of_affine: NDArray[np.float64],
) -> float:
    """Share of a grid's voxels, in [0, 1], whose centres lie inside another grid's voxels.

    Args:
        shape: The grid, two or three axes.
        affine: 4x4 of it.
        of_shape: The other grid, as many axes.
        of_affine: 4x4 of it, in the same world.
    """
    outside = sum(np.count_nonzero(plane) for plane in _outside(of_shape, of_affine, affine, shape))
    return 1.0 - outside / float(np.prod(shape))


def inside_mask(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    of_shape: tuple[int, ...],
    of_affine: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """The voxels of a grid whose centres lie inside another grid's voxels.

    Arguments as for :func:`share_inside`; the result has the grid's shape.
    """
    return ~np.stack(list(_outside(of_shape, of_affine, affine, shape)))


def _outside(
    field: tuple[int, ...],
    affine: NDArray[np.float64],
    to_affine: NDArray[np.float64],
    to_shape: tuple[int, ...],
) -> Iterator[NDArray[np.bool_]]:
    """For each index of a grid's first axis, the voxels outside a field of view."""
    yield from outside_planes(field, np.linalg.inv(affine) @ to_affine, to_shape)


def _translation(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[: len(steps), 3] = steps
    return matrix


def other_meta(image: MetaTensor) -> dict[str, object]:
    """The metadata of an image other than its affine, which changes with the grid."""
    return {key: value for key, value in image.meta.items() if key != "affine"}
