"""The bands of an attribution as a label map node and as a segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
from numpy.typing import NDArray

from SaliencyExplain.bands import BANDS, label_bands
from SaliencyExplain.scene import names
from SaliencyExplain.scene.arrays import (
    set_volume_values,
    stored_values,
    transform_to_world,
    world_affine,
)
from SaliencyExplain.scene.attributions import is_signed
from SaliencyExplain.scene.colors import band_table
from SaliencyExplain.scene.nodes import referring
from SaliencyExplain.scene.segmentations import (
    BINARY,
    SURFACE,
    add_segment,
    new_segmentation,
    oriented_image,
    set_reference_geometry,
)
from SaliencyExplain.scene.subject_hierarchy import put_beside

_SHARES = frozenset(band.share for band in BANDS)

#: Opacities of surfaces in 3D, from the narrowest band to the widest.
_SURFACE_OPACITIES = (1.0, 0.4, 0.2, 0.1)


@dataclass(frozen=True)
class BandNodes:
    """The two nodes of an attribution's bands.

    Attributes:
        label_map: For the label layer of slice views.
        segmentation: For 3D views, outlines and measurements; one segment for each band.
    """

    label_map: slicer.vtkMRMLLabelMapVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode


def add_bands(
    scene: slicer.vtkMRMLScene, attribution_node: slicer.vtkMRMLScalarVolumeNode
) -> BandNodes:
    """Creates or updates the bands of an attribution.

    The label map is `SaliencyExplain.bands.label_bands` of the map, on the map's own grid, as in
    the files of a study. Signed maps also have bands of negative values.

    Args:
        scene: The scene.
        attribution_node: A node from `attributions.add_attribution`.

    Raises:
        InputError: The node is not an attribution.
    """
    signed = is_signed(attribution_node)
    labels = label_bands(np.asarray(stored_values(attribution_node), dtype=np.float32))
    label_map, segmentation = _known(scene, attribution_node)
    if label_map is None:
        label_map = _add_label_map(scene, attribution_node)
    label_map.SetAndObserveTransformNodeID(attribution_node.GetTransformNodeID())
    set_volume_values(label_map, labels, world_affine(attribution_node))
    if segmentation is None:
        segmentation = _add_segmentation(scene, attribution_node)
    segmentation.SetAndObserveTransformNodeID(attribution_node.GetTransformNodeID())
    _set_segments(segmentation, attribution_node, labels, signed)
    return BandNodes(label_map, segmentation)


def bands_of(
    scene: slicer.vtkMRMLScene, attribution_node: slicer.vtkMRMLScalarVolumeNode
) -> BandNodes | None:
    """The bands of an attribution; None if `add_bands` was not called for it."""
    label_map, segmentation = _known(scene, attribution_node)
    if label_map is None or segmentation is None:
        return None
    return BandNodes(label_map, segmentation)


def _segment_id(label: int) -> str:
    # As in the files of a study.
    return f"Segment_{label}"


def _known(
    scene: slicer.vtkMRMLScene, attribution_node: slicer.vtkMRMLScalarVolumeNode
) -> tuple[slicer.vtkMRMLLabelMapVolumeNode | None, slicer.vtkMRMLSegmentationNode | None]:
    found = {
        node.GetAttribute(names.KIND): node
        for node in referring(scene, attribution_node, names.ATTRIBUTION_ROLE)
    }
    return found.get(names.BAND_LABELS), found.get(names.BAND_SEGMENTS)


def _set_segments(
    node: slicer.vtkMRMLSegmentationNode,
    attribution_node: slicer.vtkMRMLScalarVolumeNode,
    labels: NDArray[np.uint8],
    signed: bool,
) -> None:
    """Sets the voxels of each band; display settings of the user are kept."""
    local = np.linalg.inv(transform_to_world(attribution_node)) @ world_affine(attribution_node)
    image = oriented_image(labels, local)
    wanted = [band for band in BANDS if band.sign > 0 or signed]
    segments = node.GetSegmentation()
    modified = node.StartModify()
    try:
        had_surfaces = segments.ContainsRepresentation(SURFACE)
        segments.RemoveRepresentation(SURFACE)
        set_reference_geometry(segments, image)
        for band in wanted:
            segment = segments.GetSegment(_segment_id(band.label))
            if segment is not None:
                segment.AddRepresentation(BINARY, image)
                continue
            add_segment(segments, _segment_id(band.label), band.name, band.color, image, band.label)
            # Wide bands surround narrow ones, which must be visible through them.
            opacity = _SURFACE_OPACITIES[sorted(_SHARES).index(band.share)]
            node.GetDisplayNode().SetSegmentOpacity3D(_segment_id(band.label), opacity)
        for band in BANDS:
            if band not in wanted and segments.GetSegment(_segment_id(band.label)) is not None:
                segments.RemoveSegment(_segment_id(band.label))
        if had_surfaces:
            node.CreateClosedSurfaceRepresentation()
    finally:
        node.EndModify(modified)


def _add_label_map(
    scene: slicer.vtkMRMLScene, attribution_node: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkMRMLLabelMapVolumeNode:
    table = band_table(scene)
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetName(scene.GenerateUniqueName(f"{attribution_node.GetName()} bands"))
    scene.AddNode(node)
    display = slicer.vtkMRMLLabelMapVolumeDisplayNode()
    scene.AddNode(display)
    display.SetAndObserveColorNodeID(table.GetID())
    node.SetAndObserveDisplayNodeID(display.GetID())
    _mark(scene, node, attribution_node, names.BAND_LABELS)
    return node


def _add_segmentation(
    scene: slicer.vtkMRMLScene, attribution_node: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkMRMLSegmentationNode:
    name = scene.GenerateUniqueName(f"{attribution_node.GetName()} bands segmentation")
    node = new_segmentation(name)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    # The label map shows the bands in slices; shown together they would cover each other.
    node.GetDisplayNode().SetVisibility(False)
    _mark(scene, node, attribution_node, names.BAND_SEGMENTS)
    return node


def _mark(
    scene: slicer.vtkMRMLScene,
    node: slicer.vtkMRMLNode,
    attribution_node: slicer.vtkMRMLScalarVolumeNode,
    kind: str,
) -> None:
    node.SetAttribute(names.KIND, kind)
    node.SetNodeReferenceID(names.ATTRIBUTION_ROLE, attribution_node.GetID())
    put_beside(scene, node, attribution_node)
