"""Conversion between volume nodes and arrays (i, j, k) with affines to world coordinates.

VTK stores voxels as (k, j, i); only this module depends on that. Affines are 4x4 and map voxel
indices to RAS millimetres of the world. They include the linear transforms above a node, so that
a map computed with such an affine coincides with the displayed image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import SHEAR_TOLERANCE, indices_of, is_invertible, shear_of
from SaliencyExplain.length_unit import length_unit

#: Types that VTK and MRML files support; others become float32.
_KEPT_TYPES = frozenset({"uint8", "int16", "uint16", "int32", "float32", "float64"})


def volume_values(node: slicer.vtkMRMLVolumeNode) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The voxels of a volume node and their affine.

    Args:
        node: A scalar, label map or vector volume.

    Returns:
        A float32 copy of the values, (i, j, k), or (C, i, j, k) for several components; and the
        4x4 affine from voxel indices to RAS mm of the world.

    Raises:
        InputError: The node has no voxels, no invertible geometry, or is under a transform
            that is not linear.
    """
    return np.ascontiguousarray(stored_values(node), dtype=np.float32), world_affine(node)


def stored_values(node: slicer.vtkMRMLVolumeNode) -> NDArray[Any]:
    """A view of the stored voxels, (i, j, k) or (C, i, j, k), in the node's type.

    Raises:
        InputError: The node has no voxels.
    """
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"'{node.GetName()}': the volume has no voxels. Choose another volume.",
        )
    return image_array(image)


def image_array(image: vtk.vtkImageData) -> NDArray[Any]:
    """A view of the scalars of an image, (i, j, k) or (C, i, j, k)."""
    array = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    size = tuple(reversed(image.GetDimensions()))
    if array.ndim == 1:
        return array.reshape(size).transpose(2, 1, 0)
    return array.reshape(*size, array.shape[1]).transpose(3, 2, 1, 0)


def make_image(values: NDArray[Any]) -> vtk.vtkImageData:
    """An image with these voxels, (i, j, k) or (C, i, j, k), origin 0 and spacing 1."""
    if values.dtype == bool:
        values = values.astype(np.uint8)
    elif values.dtype.name not in _KEPT_TYPES:
        # float16 and int64 arrays are not drawn, or fail in filters that are templates over types.
        values = values.astype(np.float32)
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[-3:])
    stored = values.transpose(3, 2, 1, 0) if values.ndim == 4 else values.transpose(2, 1, 0)
    flat = np.ascontiguousarray(stored).reshape(-1, *stored.shape[3:])
    scalars = numpy_support.numpy_to_vtk(flat, deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def set_volume_values(
    node: slicer.vtkMRMLVolumeNode, values: NDArray[Any], affine: NDArray[Any]
) -> None:
    """Sets voxels and geometry of a volume node; observers are notified once.

    Args:
        node: A node of a scene. A linear transform above it is kept; the node's own geometry is
            set so that the voxels have `affine` in the world.
        values: (i, j), (i, j, k), or (C, i, j, k) for vector volumes. A 2D image becomes one
            slice.
        affine: 4x4, voxel indices to RAS mm of the world.

    Raises:
        InputError: The geometry is invalid or sheared, or the node is under a transform that
            is not linear.
    """
    if values.ndim == 2:
        values = values[..., None]
    local = np.linalg.inv(transform_to_world(node)) @ checked_affine(affine, node.GetName())
    check_right_angles(local, node.GetName())
    modified = node.StartModify()
    try:
        node.SetIJKToRASMatrix(to_vtk(local))
        node.SetAndObserveImageData(make_image(values))
    finally:
        node.EndModify(modified)


def world_affine(node: slicer.vtkMRMLVolumeNode) -> NDArray[np.float64]:
    """The affine from a volume's voxel indices to RAS mm of the world, 4x4.

    Raises:
        InputError: It cannot be inverted, or a transform above the node is not linear.
    """
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    local = to_numpy(matrix)
    image = node.GetImageData()
    if image is not None:
        # MRML counts indices from the image's extent, arrays from 0.
        local[:3, 3] += local[:3, :3] @ np.array(image.GetExtent()[::2], dtype=np.float64)
    return checked_affine(transform_to_world(node) @ local, node.GetName())


def length_unit_of(node: slicer.vtkMRMLVolumeNode) -> str:
    """The unit for lengths of a volume in messages; see :func:`length_unit`."""
    image = node.GetImageData()
    shape = (1, 1, 1) if image is None else image.GetDimensions()
    return length_unit(world_affine(node), shape)


def transform_to_world(node: slicer.vtkMRMLTransformableNode) -> NDArray[np.float64]:
    """The linear transform from a node's own space to the world, 4x4; identity without one.

    Raises:
        InputError: A transform above the node is not linear.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"'{node.GetName()}': it is under the transform '{parent.GetName()}', which is not "
            "linear. Harden the transform first.",
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return to_numpy(matrix)


def checked_affine(affine: NDArray[Any], name: str) -> NDArray[np.float64]:
    """The affine as float64.

    Raises:
        InputError: It is not an invertible 4x4 matrix.
    """
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"'{name}': its affine is not a 4x4 matrix of finite numbers. Correct the geometry.",
        )
    if not is_invertible(affine):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"'{name}': its affine cannot be inverted. Correct the geometry in the module Volumes.",
        )
    return affine


def check_right_angles(affine: NDArray[np.float64], name: str) -> None:
    """Raises InputError for a grid whose axes are not orthogonal."""
    if shear_of(affine) > SHEAR_TOLERANCE:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"'{name}': its grid is sheared, which files of 3D Slicer do not support. "
            "Resample it to a grid with right angles first.",
        )


def on_axes(values: NDArray[Any], axes: int) -> NDArray[Any]:
    """An array (i, j, k) of the scene on two or three axes; an image of two has one slice there."""
    return np.ascontiguousarray(values[..., 0] if axes == 2 and values.ndim == 3 else values)


def to_numpy(matrix: vtk.vtkMatrix4x4) -> NDArray[np.float64]:
    """The matrix as an array, 4x4."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def to_vtk(matrix: NDArray[np.floating]) -> vtk.vtkMatrix4x4:
    """The array, 4x4, as a matrix."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(matrix.ravel().tolist())
    return result


def voxel_at(affine: NDArray[np.float64], ras: tuple[float, float, float]) -> tuple[int, int, int]:
    """Index of the voxel that contains a point of the world; may lie outside the grid."""
    index = indices_of(np.array(ras), affine)
    i, j, k = (int(at) for at in np.floor(index + 0.5))
    return i, j, k
