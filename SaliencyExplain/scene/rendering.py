"""Attributions, bands and segmentations in the 3D views."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from SaliencyExplain.colormaps import ENTRIES, color_table
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.scene.attributions import is_signed, threshold, window_of
from SaliencyExplain.scene.nodes import register_classes, view_nodes
from SaliencyExplain.scene.segmentations import SURFACE

#: Opacity per unit distance at the threshold and at the window's end. Weak evidence is
#: translucent, so that the strongest evidence inside it is visible.
_LEAST_OPACITY = 0.05
_MOST_OPACITY = 0.6

_POINTS = 32

#: Width of the step at the threshold as a share of the window's end. VTK's tables have one row for
#: each such step in the window.
_STEP = 1 / 256


def show_volume_rendering(attribution_node: slicer.vtkMRMLScalarVolumeNode, on: bool) -> None:
    """Shows an attribution in the 3D views as a volume rendering, or hides it.

    Values below the threshold are not drawn; call again after a change of the threshold.

    Args:
        attribution_node: A node from `attributions.add_attribution`.
        on: Whether it is shown.

    Raises:
        InputError: The node is not an attribution.
    """
    signed = is_signed(attribution_node)
    display = _display(attribution_node)
    if display is None:
        if not on:
            return
        display = _add_display(attribution_node)
    if on:
        prop = display.GetVolumePropertyNode()
        modified = prop.StartModify()
        end, share = window_of(attribution_node), threshold(attribution_node)
        prop.SetColor(_colors(end, signed))
        prop.SetScalarOpacity(_opacities(end, share, signed))
        prop.GetVolumeProperty().ShadeOff()
        prop.GetVolumeProperty().SetInterpolationTypeToLinear()
        prop.EndModify(modified)
    display.SetVisibility(on)


def show_surfaces(segmentation_node: slicer.vtkMRMLSegmentationNode, on: bool) -> None:
    """Shows the surfaces of a segmentation's segments in the 3D views, or hides them.

    Outlines in the slice views are not changed.

    Raises:
        InputError: The segments have no surfaces.
    """
    segmentation_node.CreateDefaultDisplayNodes()
    display = segmentation_node.GetDisplayNode()
    if on:
        if not segmentation_node.CreateClosedSurfaceRepresentation():
            raise InputError(
                ErrorCode.SCENE_NODE,
                f"'{segmentation_node.GetName()}': its segments have no surfaces. Check that they "
                "have voxels.",
            )
        display.SetPreferredDisplayRepresentationName3D(SURFACE)
        if not display.GetVisibility():
            # Shown only in 3D if it was hidden everywhere before.
            display.SetVisibility2D(False)
            display.SetVisibility(True)
    display.SetVisibility3D(on)


def _display(
    node: slicer.vtkMRMLScalarVolumeNode,
) -> slicer.vtkMRMLVolumeRenderingDisplayNode | None:
    for number in range(node.GetNumberOfDisplayNodes()):
        display = node.GetNthDisplayNode(number)
        if display is not None and display.IsA("vtkMRMLVolumeRenderingDisplayNode"):
            return display
    return None


def _add_display(
    node: slicer.vtkMRMLScalarVolumeNode,
) -> slicer.vtkMRMLVolumeRenderingDisplayNode:
    scene = node.GetScene()
    register_classes(scene)
    prop = slicer.vtkMRMLVolumePropertyNode()
    prop.SetName(f"{node.GetName()} rendering")
    scene.AddNode(prop)
    display = slicer.vtkMRMLGPURayCastVolumeRenderingDisplayNode()
    scene.AddNode(display)
    # Slice views use the colour table, 3D views the property that is created here.
    display.SetFollowVolumeDisplayNode(False)
    display.SetAndObserveVolumePropertyNodeID(prop.GetID())
    for view in view_nodes(scene):
        display.AddViewNodeID(view.GetID())
    node.AddAndObserveDisplayNodeID(display.GetID())
    return display


def _colors(end: float, signed: bool) -> vtk.vtkColorTransferFunction:
    function = vtk.vtkColorTransferFunction()
    values = np.linspace(-end if signed else 0.0, end, ENTRIES)
    rows = np.unique(np.linspace(0, ENTRIES - 1, 2 * _POINTS).round().astype(int))
    for value, color in zip(values[rows], color_table(signed)[rows], strict=True):
        function.AddRGBPoint(value, *color)
    return function


def _opacities(end: float, share: float, signed: bool) -> vtk.vtkPiecewiseFunction:
    function = vtk.vtkPiecewiseFunction()
    # A step at the threshold, as in the slices; otherwise interpolated values next to a strong
    # voxel would appear as a halo.
    edge = max(share, 2 * _STEP) * end
    ramp = [(0.0, 0.0), (edge - _STEP * end, 0.0), (edge, _LEAST_OPACITY), (end, _MOST_OPACITY)]
    for value, opacity in ramp:
        function.AddPoint(value, opacity)
        if signed and value > 0:
            function.AddPoint(-value, opacity)
    if not signed:
        function.AddPoint(-end, 0.0)
    return function
