"""Off-screen pictures of a scene: slices without OpenGL, 3D with EGL or Mesa."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util import numpy_support

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.scene import slice_contours
from SaliencyExplain.scene.arrays import image_array, to_numpy
from SaliencyExplain.scene.nodes import composite_nodes, view_nodes
from SaliencyExplain.scene.opengl import check_opengl
from SaliencyExplain.scene.slice_layers import fit

_ORIENTATIONS = {
    "axial": slicer.vtkMRMLSliceNode.GetAxialSliceToRASMatrix,
    "sagittal": slicer.vtkMRMLSliceNode.GetSagittalSliceToRASMatrix,
    "coronal": slicer.vtkMRMLSliceNode.GetCoronalSliceToRASMatrix,
}

_BACKGROUND = (0.0, 0.0, 0.0)


def slice_picture(
    scene: slicer.vtkMRMLScene,
    orientation: str,
    ras: tuple[float, float, float],
    size: tuple[int, int] = (600, 600),
) -> NDArray[np.uint8]:
    """The picture of a slice view: its layers blended as in Slicer, and the segments.

    The patient's right is on the viewer's left in axial and coronal pictures; anterior is on the
    left in sagittal ones. Anterior or superior is at the top. The scene is not changed.

    Args:
        scene: A scene for which `slice_layers.show` has been called.
        orientation: ``axial``, ``sagittal`` or ``coronal``.
        ras: A point of the world in the slice, RAS mm.
        size: Width and height in pixels; the whole image is visible.

    Returns:
        (height, width, 3), uint8.

    Raises:
        InputError: The orientation is unknown, or no view shows an image.
    """
    if orientation not in _ORIENTATIONS:
        raise unknown_name("orientation", orientation, _ORIENTATIONS)
    composite = composite_nodes(scene)[0]
    image = scene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
    if image is None:
        raise InputError(
            ErrorCode.SELECTION, "Slice views: none shows an image. Choose an image first."
        )
    view = _private_view(orientation, size, ras, image)
    pixels = _blend(scene, composite, view)
    slice_contours.draw_segments(pixels, scene, to_numpy(view.GetXYToRAS()))
    # VTK counts rows from the bottom.
    return np.ascontiguousarray(pixels[::-1])


def _private_view(
    orientation: str,
    size: tuple[int, int],
    ras: tuple[float, float, float],
    image: slicer.vtkMRMLVolumeNode,
) -> slicer.vtkMRMLSliceNode:
    """A slice view outside a scene; for one in a scene desktop Slicer would create a window."""
    view = slicer.vtkMRMLSliceNode()
    # True: the patient's right is on the screen's left.
    axes = vtk.vtkMatrix3x3()
    _ORIENTATIONS[orientation](axes, True)
    slicer.vtkAddonMathUtilities.SetOrientationMatrix(axes, view.GetSliceToRAS())
    view.SetDimensions(*size, 1)
    view.UpdateMatrices()
    fit(view, image)
    view.JumpSliceByOffsetting(*ras)
    return view


def _blend(
    scene: slicer.vtkMRMLScene,
    composite: slicer.vtkMRMLSliceCompositeNode,
    view: slicer.vtkMRMLSliceNode,
) -> NDArray[np.uint8]:
    """The layers of a composite node, as vtkMRMLSliceLogic blends them; rows from the bottom."""
    blend = vtk.vtkImageBlend()
    # Whether a foreground that extends beyond the image is cut off there is set in the view.
    blend.SetBlendAlpha(not composite.GetClipToBackgroundVolume())
    layers = []
    for volume_id, opacity, is_label in (
        (composite.GetBackgroundVolumeID(), 1.0, False),
        (composite.GetForegroundVolumeID(), composite.GetForegroundOpacity(), False),
        (composite.GetLabelVolumeID(), composite.GetLabelOpacity(), True),
    ):
        volume = scene.GetNodeByID(volume_id or "")
        if volume is None or volume.GetImageData() is None or volume.GetDisplayNode() is None:
            continue
        layer = slicer.vtkMRMLSliceLayerLogic()
        if is_label:
            layer.IsLabelLayerOn()
        layer.SetMRMLScene(scene)
        layer.SetSliceNode(view)
        layer.SetVolumeNode(volume)
        layers.append(layer)
        blend.AddInputConnection(layer.GetImageDataConnection())
        blend.SetOpacity(len(layers) - 1, opacity)
    blend.Update()
    rgba = image_array(blend.GetOutput())[:, :, :, 0].transpose(2, 1, 0)
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * alpha).round().astype(np.uint8)


def picture_3d(scene: slicer.vtkMRMLScene, size: tuple[int, int] = (600, 600)) -> NDArray[np.uint8]:
    """The picture of the first 3D view: surfaces and volume renderings, from the front.

    The camera is in front of the patient, slightly to the patient's left and above; the patient's
    right is on the viewer's left.

    Args:
        scene: The scene; it is not changed, except that missing views of Slicer are added.
        size: Width and height in pixels.

    Returns:
        (height, width, 3), uint8; the background is black.

    Raises:
        OutputError: The machine has no OpenGL, neither of a window system nor Mesa's.
    """
    check_opengl()
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(*_BACKGROUND)
    # Depth peeling draws translucent surfaces in the right order. With several samples per pixel
    # they vanish in Mesa.
    renderer.SetUseDepthPeeling(True)
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    managers = [
        slicer.vtkMRMLModelDisplayableManager(),
        slicer.vtkMRMLSegmentationsDisplayableManager3D(),
        slicer.vtkMRMLVolumeRenderingDisplayableManager(),
    ]
    try:
        for manager in managers:
            group.AddDisplayableManager(manager)
        group.SetMRMLDisplayableNode(view_nodes(scene)[0])
        camera = renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(-0.5, 1.0, 0.45)
        camera.SetViewUp(0, 0, 1)
        renderer.ResetCamera()
        window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(window)
        grab.ReadFrontBufferOff()
        grab.Update()
        output = grab.GetOutput()
        pixels = numpy_support.vtk_to_numpy(output.GetPointData().GetScalars())
        width, height, _ = output.GetDimensions()
        return np.ascontiguousarray(pixels.reshape(height, width, -1)[::-1, :, :3])
    finally:
        group.SetMRMLDisplayableNode(None)
        window.Finalize()
