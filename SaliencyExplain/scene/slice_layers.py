"""Layers and positions of the slice views."""

from __future__ import annotations

import numpy as np
import slicer

from SaliencyExplain.scene.arrays import world_affine
from SaliencyExplain.scene.nodes import composite_nodes, slice_nodes

#: Opacity of the strongest heat over the anatomy, as in the pictures.
OPACITY = 0.7

_MARGIN = 1.05


def show(
    scene: slicer.vtkMRMLScene,
    image: slicer.vtkMRMLVolumeNode | None,
    attribution: slicer.vtkMRMLVolumeNode | None = None,
    opacity: float | None = None,
    label_map: slicer.vtkMRMLLabelMapVolumeNode | None = None,
) -> None:
    """Shows an image in all slice views, with an attribution and a label map over it.

    Slicer's slice views are added if the scene has none. Views that showed another image are
    moved so that the whole image is visible.

    Args:
        scene: The scene.
        image: Background; None: nothing.
        attribution: Foreground; None: nothing.
        opacity: Opacity of the attribution, [0, 1]; None keeps the view's opacity, or sets
            `OPACITY` if that is 0 as in a new scene.
        label_map: Label layer; None: nothing.
    """
    for composite in composite_nodes(scene):
        new = image is not None and composite.GetBackgroundVolumeID() != image.GetID()
        modified = composite.StartModify()
        composite.SetBackgroundVolumeID(_id(image))
        composite.SetForegroundVolumeID(_id(attribution))
        composite.SetLabelVolumeID(_id(label_map))
        if opacity is not None:
            composite.SetForegroundOpacity(opacity)
        elif composite.GetForegroundOpacity() == 0:
            composite.SetForegroundOpacity(OPACITY)
        composite.EndModify(modified)
        if new and image is not None:
            for view in slice_nodes(scene):
                if view.GetLayoutName() == composite.GetLayoutName():
                    fit(view, image)


def set_opacity(scene: slicer.vtkMRMLScene, opacity: float) -> None:
    """Sets the opacity of the attribution, [0, 1], in all slice views."""
    for composite in composite_nodes(scene):
        composite.SetForegroundOpacity(opacity)


def link_views(scene: slicer.vtkMRMLScene, on: bool) -> None:
    """Links the slice views, so that all have the same zoom and layers, or unlinks them."""
    for composite in composite_nodes(scene):
        composite.SetLinkedControl(on)
        composite.SetHotLinkedControl(on)


def jump_to(scene: slicer.vtkMRMLScene, ras: tuple[float, float, float]) -> None:
    """Moves all slice views so that a point of the world, RAS mm, lies in their planes."""
    for view in slice_nodes(scene):
        view.JumpSliceByOffsetting(*ras)


def fit(view: slicer.vtkMRMLSliceNode, image: slicer.vtkMRMLVolumeNode) -> None:
    """Centres a slice view on a volume and zooms so that the whole volume is visible.

    This needs no slice logic; desktop Slicer already has one for each view.
    """
    box = bounds(image)
    matrix = view.GetSliceToRAS()
    axes = np.array([[matrix.GetElement(row, column) for column in range(3)] for row in range(3)])
    corners = np.array(np.meshgrid(*box.T)).reshape(3, -1).T @ axes
    size = (corners.max(axis=0) - corners.min(axis=0)) * _MARGIN
    across, down = (max(1, pixels) for pixels in view.GetDimensions()[:2])
    pixel = max(size[0] / across, size[1] / down)
    modified = view.StartModify()
    for row, value in enumerate(box.mean(axis=0)):
        matrix.SetElement(row, 3, value)
    view.UpdateMatrices()
    view.SetFieldOfView(pixel * across, pixel * down, view.GetFieldOfView()[2])
    view.EndModify(modified)


def bounds(image: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """Lower and upper corner of a volume's voxels, including their borders, (2, 3) in RAS mm."""
    shape = np.array(image.GetImageData().GetDimensions())
    ends = np.array(np.meshgrid(*((-0.5, size - 0.5) for size in shape))).reshape(3, -1)
    affine = world_affine(image)
    places = affine[:3, :3] @ ends + affine[:3, 3:]
    return np.stack([places.min(axis=1), places.max(axis=1)])


def _id(node: slicer.vtkMRMLNode | None) -> str | None:
    return None if node is None else node.GetID()
