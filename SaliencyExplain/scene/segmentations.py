"""Segmentations as nodes, and the segments of any node on the grid of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.scene.arrays import (
    check_right_angles,
    checked_affine,
    image_array,
    make_image,
    stored_values,
    to_numpy,
    to_vtk,
    transform_to_world,
    world_affine,
)
from SaliencyExplain.scene.segment_position import notes_on_position
from SaliencyExplain.scene.subject_hierarchy import item_of

Color = tuple[float, float, float]

BINARY = "Binary labelmap"
SURFACE = "Closed surface"


@dataclass(frozen=True, eq=False)
class SegmentMasks:
    """Segments on the grid of a volume.

    Attributes:
        masks: (N, i, j, k), uint8, 1 inside; segments may overlap.
        names: N names.
        colors: N colours, RGB in [0, 1].
        ids: N IDs of segments, or labels as text if the node is a label map.
        notes: Notes for the user, such as on their position relative to the volume.
    """

    masks: NDArray[np.uint8]
    names: tuple[str, ...]
    colors: tuple[Color, ...]
    ids: tuple[str, ...]
    notes: tuple[str, ...] = ()


def add_segmentation(
    scene: slicer.vtkMRMLScene,
    masks: NDArray[Any],
    names: Sequence[str],
    colors: Sequence[Color],
    affine: NDArray[Any],
    name: str,
) -> slicer.vtkMRMLSegmentationNode:
    """Adds a segmentation; its segments may overlap.

    Args:
        scene: The scene.
        masks: (N, i, j) or (N, i, j, k), not zero inside.
        names: N names.
        colors: N colours, RGB in [0, 1].
        affine: 4x4, voxel indices to RAS mm.
        name: Name of the node.

    Raises:
        InputError: The numbers of masks, names and colours differ, or the geometry is
            invalid or sheared; nothing is added.
    """
    if not len(masks) == len(names) == len(colors):
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"Segmentation '{name}': it has {len(masks)} masks, {len(names)} names and "
            f"{len(colors)} colours. Give one of each for every segment.",
        )
    check_right_angles(checked_affine(affine, name), name)
    if len(masks) == 0:
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"Segmentation '{name}': it has no segments. Give at least one mask.",
        )
    node = new_segmentation(scene.GenerateUniqueName(name))
    segmentation = node.GetSegmentation()
    for number, (mask, title, color) in enumerate(zip(masks, names, colors, strict=True), start=1):
        image = oriented_image((np.asarray(mask) != 0).astype(np.uint8), affine)
        add_segment(segmentation, f"Segment_{number}", title, color, image, 1)
    set_reference_geometry(segmentation, image)
    # Segments that do not overlap share a label map, in memory and in files.
    segmentation.CollapseBinaryLabelmaps(False)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    item_of(scene, node)
    return node


def new_segmentation(name: str) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation node of binary label maps, not yet in a scene."""
    register_conversions()
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(name)
    node.GetSegmentation().SetSourceRepresentationName(BINARY)
    return node


def add_segment(
    segmentation: slicer.vtkSegmentation,
    segment_id: str,
    name: str,
    color: Color,
    image: slicer.vtkOrientedImageData,
    label: int,
) -> None:
    """Adds the voxels of a label as a segment; several segments may share an image."""
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetColor(*color)
    segment.SetLabelValue(label)
    segment.AddRepresentation(BINARY, image)
    segmentation.AddSegment(segment, segment_id)


def oriented_image(values: NDArray[np.uint8], affine: NDArray[Any]) -> slicer.vtkOrientedImageData:
    """Voxels (i, j) or (i, j, k) with their geometry, in the form that segments store."""
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(make_image(values[..., None] if values.ndim == 2 else values))
    image.SetGeometryFromImageToWorldMatrix(to_vtk(np.asarray(affine, dtype=np.float64)))
    return image


def set_reference_geometry(
    segmentation: slicer.vtkSegmentation, image: slicer.vtkOrientedImageData
) -> None:
    """Sets the grid on which segments are drawn, edited and saved."""
    segmentation.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(),
        slicer.vtkSegmentationConverter.SerializeImageGeometry(image),
    )


def register_conversions() -> None:
    """Registers the conversions between voxels and surfaces for new segmentations.

    In desktop Slicer modules register them at the start.
    """
    factory = slicer.vtkSegmentationConverterFactory.GetInstance()
    for rule in (
        slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule,
        slicer.vtkClosedSurfaceToBinaryLabelmapConversionRule,
    ):
        if not any(isinstance(known, rule) for known in factory.GetConverterRules()):
            factory.RegisterConverterRule(rule())


def outline(node: slicer.vtkMRMLSegmentationNode, on: bool = True) -> None:
    """Shows a segmentation in slices as outlines, or filled again."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility2DOutline(True)
    display.SetVisibility2DFill(not on)
    display.SetOpacity2DOutline(1.0)
    display.SetSliceIntersectionThickness(2 if on else 1)


def masks_on_grid(
    node: slicer.vtkMRMLNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    segment_ids: Sequence[str] | None = None,
) -> SegmentMasks:
    """The segments of a node as masks on the grid of a volume.

    A voxel belongs to a segment if its centre lies in one of the segment's voxels, in world
    coordinates. Transforms above both nodes are applied; those above the segments may be
    non-linear. Segments that have only surfaces are converted to voxels of the volume's grid.

    Args:
        node: A segmentation or a label map volume, on any grid.
        volume_node: The volume with the target grid.
        segment_ids: IDs of segments, or labels as text; None: all.

    Raises:
        InputError: A segment does not exist, has no voxel or none in the volume, the node has no
            segments, or its header cannot belong to this volume.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        sources = _of_segmentation(node, volume_node, segment_ids)
    elif node.IsA("vtkMRMLLabelMapVolumeNode"):
        sources = _of_label_map(node, segment_ids)
    else:
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"'{node.GetName()}': it is neither a segmentation nor a label map. Choose one.",
        )
    if not sources:
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"'{node.GetName()}': it has no segments. Draw or load a segment first.",
        )
    shape = volume_node.GetImageData().GetDimensions() if volume_node.GetImageData() else (0, 0, 0)
    if 0 in shape:
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"'{volume_node.GetName()}': the volume has no voxels. Choose another volume.",
        )
    notes = notes_on_position(
        node, volume_node, [(source.image, source.affine, source.label) for source in sources]
    )
    masks = np.zeros((len(sources), *shape), dtype=np.uint8)
    to_ras = world_affine(volume_node)
    for mask, source in zip(masks, sources, strict=True):
        mask[...] = _sampled(source, node, to_ras, shape)
        if not mask.any():
            where = "no voxel" if source.empty else f"no voxel in '{volume_node.GetName()}'"
            raise InputError(
                ErrorCode.SCENE_NODE,
                f"Segment '{source.name}' of '{node.GetName()}': it has {where}. Choose another "
                "segment, or draw it.",
            )
    return SegmentMasks(
        masks,
        tuple(source.name for source in sources),
        tuple(source.color for source in sources),
        tuple(source.id for source in sources),
        notes,
    )


def label_name(node: slicer.vtkMRMLLabelMapVolumeNode, label: int) -> str:
    """Name of a label in the node's colour table, or for example ``label 3``."""
    table = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() else None
    name = table.GetColorName(label) if table is not None else ""
    return name if name and name != "(none)" else f"label {label}"


def sample_segment(
    node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    to_ras: NDArray[np.float64],
    shape: tuple[int, int, int],
) -> NDArray[np.bool_]:
    """The points of a grid that lie in a segment's voxels; none if it has only a surface.

    Args:
        node: The segmentation; transforms above it are applied.
        segment_id: The segment's ID.
        to_ras: 4x4 from the grid's indices to RAS mm of the world.
        shape: Points along each axis.

    Returns:
        (*shape).
    """
    return _sampled(_segment_source(node.GetSegmentation(), segment_id), node, to_ras, shape)


@dataclass(frozen=True, eq=False)
class _Source:
    """The voxels of one label: an image, and the affine from its indices to the node's space."""

    id: str
    name: str
    color: Color
    image: vtk.vtkImageData | None
    affine: NDArray[np.float64]
    label: int

    @property
    def empty(self) -> bool:
        return self.image is None or not (image_array(self.image) == self.label).any()


def _of_segmentation(
    node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    wanted: Sequence[str] | None,
) -> list[_Source]:
    segmentation = node.GetSegmentation()
    known = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    for segment_id in wanted or ():
        if segment_id not in known:
            raise unknown_name("segment", segment_id, known)
    if known and not segmentation.ContainsRepresentation(BINARY):
        segmentation = _with_voxels(node, volume_node)
    return [_segment_source(segmentation, i) for i in (known if wanted is None else wanted)]


def _segment_source(segmentation: slicer.vtkSegmentation, segment_id: str) -> _Source:
    segment = segmentation.GetSegment(segment_id)
    image = segment.GetRepresentation(BINARY)
    matrix = vtk.vtkMatrix4x4()
    if image is not None and image.GetNumberOfPoints():
        image.GetImageToWorldMatrix(matrix)
    else:
        image = None
    return _Source(
        id=segment_id,
        name=segment.GetName(),
        color=tuple(segment.GetColor()),
        image=image,
        affine=to_numpy(matrix),
        label=segment.GetLabelValue(),
    )


def _with_voxels(
    node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode
) -> slicer.vtkSegmentation:
    """A copy of a segmentation of surfaces, converted to voxels of a volume's grid."""
    register_conversions()
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(node.GetSegmentation())
    grid = np.linalg.inv(transform_to_world(node)) @ world_affine(volume_node)
    image = oriented_image(np.zeros(volume_node.GetImageData().GetDimensions(), np.uint8), grid)
    set_reference_geometry(copy, image)
    if not copy.CreateRepresentation(BINARY):
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"'{node.GetName()}': its surfaces cannot be converted to voxels. Create a binary "
            "label map in the module Segmentations.",
        )
    return copy


def _of_label_map(
    node: slicer.vtkMRMLLabelMapVolumeNode, wanted: Sequence[str] | None
) -> list[_Source]:
    labels = [int(label) for label in np.unique(stored_values(node)) if label != 0]
    for text in wanted or ():
        if text not in map(str, labels):
            raise unknown_name("label", text, map(str, labels))
    table = node.GetDisplayNode().GetColorNode() if node.GetDisplayNode() else None
    affine = np.linalg.inv(transform_to_world(node)) @ world_affine(node)
    sources = []
    for label in labels if wanted is None else map(int, wanted):
        rgba = [0.5, 0.5, 0.5, 1.0]
        if table is not None:
            table.GetColor(label, rgba)
        name = label_name(node, label)
        image = node.GetImageData()
        sources.append(_Source(str(label), name, (rgba[0], rgba[1], rgba[2]), image, affine, label))
    return sources


def _sampled(
    source: _Source,
    node: slicer.vtkMRMLTransformableNode,
    to_ras: NDArray[np.float64],
    shape: Sequence[int],
) -> NDArray[np.bool_]:
    """The points of a grid of the world, (*shape), that lie in the source's voxels."""
    if source.image is None:
        return np.zeros(tuple(shape), dtype=bool)
    indices = vtk.vtkImageData()
    indices.ShallowCopy(source.image)
    indices.SetOrigin(0, 0, 0)
    indices.SetSpacing(1, 1, 1)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(indices)
    reslice.SetResliceTransform(_to_index(source, node, to_ras))
    reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetBackgroundLevel(0)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(*(end for size in shape for end in (0, size - 1)))
    reslice.Update()
    return image_array(reslice.GetOutput()) == source.label


def _to_index(
    source: _Source, node: slicer.vtkMRMLTransformableNode, to_ras: NDArray[np.float64]
) -> vtk.vtkAbstractTransform:
    """The transform from a grid's indices through the world to the source's indices."""
    parent = node.GetParentTransformNode()
    if parent is None or parent.IsTransformToWorldLinear():
        matrix = np.linalg.inv(transform_to_world(node) @ source.affine) @ to_ras
        if np.abs(matrix - np.rint(matrix)).max() < 1e-6:
            # For identical grids rounding must not decide between two neighbouring voxels.
            matrix = np.rint(matrix)
        linear = vtk.vtkTransform()
        linear.SetMatrix(to_vtk(matrix))
        return linear
    warp = vtk.vtkGeneralTransform()
    parent.GetTransformFromWorld(warp)
    chain = vtk.vtkGeneralTransform()
    chain.PostMultiply()
    chain.Concatenate(to_vtk(to_ras))
    chain.Concatenate(warp)
    chain.Concatenate(to_vtk(np.linalg.inv(source.affine)))
    return chain
