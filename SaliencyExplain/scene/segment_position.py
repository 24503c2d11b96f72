"""The position of the grid of segments relative to a volume's grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from SaliencyExplain.mask_position import Grid, outside_note, position_notes, share_inside
from SaliencyExplain.scene import names
from SaliencyExplain.scene.arrays import image_array, to_numpy, world_affine

#: Number of marked voxels that gives the share inside the image to 0.1 %.
_SAMPLE = 1_000_000


def notes_on_position(
    node: slicer.vtkMRMLNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    images: Sequence[tuple[vtk.vtkImageData | None, NDArray[np.float64], int]],
) -> tuple[str, ...]:
    """Notes for segments on another grid than the volume's.

    There are no notes if a transform lies above one of the nodes, because the user has placed it,
    or if a segmentation does not store the grid that it was drawn on.

    Args:
        node: A segmentation or a label map volume.
        volume_node: The volume that its segments are used for.
        images: For each segment its voxels, their affine and its label.

    Returns:
        The notes of its file, those of :func:`SaliencyExplain.mask_position.position_notes`, and
        one on the share outside the volume.

    Raises:
        InputError: The header of its file cannot belong to this volume.
    """
    kept = tuple(json.loads(node.GetAttribute(names.FILE_NOTES) or "[]"))
    placed = any(one.GetParentTransformNode() is not None for one in (node, volume_node))
    grid = None if placed else _grid_of(node)
    if grid is None or any(not _on(grid, affine) for image, affine, _ in images if image):
        return kept
    shape = tuple(volume_node.GetImageData().GetDimensions())
    volume = Grid(shape, world_affine(volume_node))
    if grid.same(volume):
        return kept
    title = node.GetName()
    found = position_notes(title, grid, volume)
    marked = [
        _marked(image, affine, label, grid) for image, affine, label in images if image is not None
    ]
    together = np.concatenate([*marked, np.empty((0, 3), dtype=int)])
    # Voxels of segments that overlap count once.
    _, first = np.unique(together @ (1 << 40, 1 << 20, 1), return_index=True)
    together = together[first]
    if len(together):
        inside = share_inside(together, grid, volume)
        outside = outside_note(title, grid, volume, together, inside)
        found += [outside] if outside else []
    return (*kept, *found)


def keep_notes(node: slicer.vtkMRMLNode, notes: Sequence[str]) -> None:
    """Stores the notes on a segmentation's file with its node."""
    node.SetAttribute(names.FILE_NOTES, json.dumps(list(notes)))


def _grid_of(node: slicer.vtkMRMLNode) -> Grid | None:
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return Grid(tuple(node.GetImageData().GetDimensions()), world_affine(node))
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    text = node.GetSegmentation().GetConversionParameter(name)
    image = slicer.vtkOrientedImageData()
    if not text or not slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image, False):
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = to_numpy(matrix)
    extent = image.GetExtent()
    start = np.array([extent[0], extent[2], extent[4], 1.0])
    affine[:, 3] = affine @ start
    shape = tuple(extent[n + 1] - extent[n] + 1 for n in (0, 2, 4))
    return Grid(shape, affine) if min(shape) > 0 else None


def _on(grid: Grid, affine: NDArray[Any]) -> bool:
    """Whether voxels with this affine lie on the grid; segments store only the box they fill."""
    to_index = np.linalg.inv(grid.affine) @ affine
    return bool(
        np.abs(to_index[:3, :3] - np.eye(3)).max() < 1e-3
        and np.abs(to_index[:3, 3] - np.rint(to_index[:3, 3])).max() < 0.05
    )


def _marked(
    image: vtk.vtkImageData, affine: NDArray[Any], label: int, grid: Grid
) -> NDArray[np.int64]:
    """Indices of marked voxels in the grid, or of a sample if there are very many."""
    values = image_array(image)
    held = np.flatnonzero(values == label)
    held = held[:: max(1, held.size // _SAMPLE)]
    # VTK's affine refers to index 0, which may differ from the first voxel's index.
    first = np.array(image.GetExtent()[::2])
    indices = np.stack(np.unravel_index(held, values.shape), axis=1) + first
    offset = np.rint((np.linalg.inv(grid.affine) @ affine)[:3, 3]).astype(int)
    return indices + offset
