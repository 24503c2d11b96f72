"""Values of image, maps and segments at one point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from SaliencyExplain.scene import names
from SaliencyExplain.scene.arrays import image_array, stored_values, voxel_at, world_affine
from SaliencyExplain.scene.attributions import attributions_of
from SaliencyExplain.scene.nodes import given_label_maps, given_segmentations
from SaliencyExplain.scene.segmentations import BINARY, SURFACE, label_name

Point = tuple[float, float, float]


@dataclass(frozen=True)
class MapReading:
    """The value of a map at a point.

    Attributes:
        label: The map's label.
        title: The method's name for display.
        target_name: The class that it explains.
        value: Value of the voxel at the point, in the map's own unit; None outside the map.
        percentile: Share of the map's voxels, in per cent, whose value is below this one.
            Equal values do not count, so that a map of zeros has 0 and not 100. Signed maps
            are ranked by signed value; 0 is the most negative voxel. None outside the map.
    """

    label: str
    title: str
    target_name: str
    value: float | None
    percentile: float | None


@dataclass(frozen=True)
class PointReadings:
    """The values at one point.

    Attributes:
        image_value: First component of the image's voxel at the point; None outside.
        maps: A reading of each of the image's attributions.
        segments: Names of the segments, including those of label maps, that contain the point;
            bands of attributions do not count.
    """

    image_value: float | None
    maps: tuple[MapReading, ...]
    segments: tuple[str, ...]


def readings_at(
    scene: slicer.vtkMRMLScene, image_node: slicer.vtkMRMLVolumeNode, ras: Point
) -> PointReadings:
    """Reads image, attributions and segmentations at a point of the world.

    Args:
        scene: The scene.
        image_node: The image whose attributions are read.
        ras: The point, RAS mm. Every node is read at the voxel that contains it.

    Raises:
        InputError: The image or a map is under a transform that is not linear.
    """
    maps = []
    for node in attributions_of(scene, image_node):
        values = stored_values(node)
        value = _value(node, values, ras)
        below = None if value is None else 100 * float(np.count_nonzero(values < value))
        maps.append(
            MapReading(
                label=node.GetAttribute(names.LABEL),
                title=node.GetAttribute(names.TITLE),
                target_name=node.GetAttribute(names.TARGET),
                value=None if value is None else float(value),
                percentile=None if below is None else below / values.size,
            )
        )
    image_value = _value(image_node, stored_values(image_node), ras)
    return PointReadings(
        image_value=None if image_value is None else float(image_value),
        maps=tuple(maps),
        segments=tuple(dict.fromkeys([*_segments(scene, ras), *_labels(scene, ras)])),
    )


def _value(
    node: slicer.vtkMRMLVolumeNode, values: NDArray[np.generic], ras: Point
) -> np.generic | None:
    scalars = values[0] if values.ndim == 4 else values
    index = voxel_at(world_affine(node), ras)
    if any(not 0 <= at < size for at, size in zip(index, scalars.shape, strict=True)):
        return None
    return scalars[index]


def _segments(scene: slicer.vtkMRMLScene, ras: Point) -> list[str]:
    found = []
    for node in given_segmentations(scene):
        local = list(ras)
        if node.GetParentTransformNode() is not None:
            node.TransformPointFromWorld(list(ras), local)
        segmentation = node.GetSegmentation()
        for number in range(segmentation.GetNumberOfSegments()):
            segment = segmentation.GetNthSegment(number)
            if _holds(segment, local):
                found.append(segment.GetName())
    return found


def _holds(segment: slicer.vtkSegment, place: list[float]) -> bool:
    image = segment.GetRepresentation(BINARY)
    if image is None:
        surface = segment.GetRepresentation(SURFACE)
        if surface is None or not surface.GetNumberOfPoints():
            return False
        test = vtk.vtkImplicitPolyDataDistance()
        test.SetInput(surface)
        return bool(test.EvaluateFunction(place) <= 0)
    if not image.GetNumberOfPoints():
        return False
    matrix = vtk.vtkMatrix4x4()
    image.GetWorldToImageMatrix(matrix)
    index = np.floor(np.array(matrix.MultiplyPoint([*place, 1.0])[:3]) + 0.5).astype(int)
    start = np.array(image.GetExtent()[::2])
    array = image_array(image)
    at = index - start
    if (at < 0).any() or (at >= array.shape).any():
        return False
    return bool(array[tuple(at)] == segment.GetLabelValue())


def _labels(scene: slicer.vtkMRMLScene, ras: Point) -> list[str]:
    found = []
    for node in given_label_maps(scene):
        if node.GetImageData() is None:
            continue
        label = _value(node, stored_values(node), ras)
        if label is not None and label != 0:
            found.append(label_name(node, int(label)))
    return found
