"""What the views show, as one picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

from SaliencyExplain.viewer.views import Views

_GAP = 2


def screenshot(views: Views) -> NDArray[np.uint8]:
    """The views of the layout as they are arranged on the page.

    Returns:
        (height, width, 3), uint8.
    """
    rows = [
        np.concatenate(_same_height([_pixels(view) for view in row]), axis=1)
        for row in views.arranged()
    ]
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0))) for row in rows]
    )


def _pixels(view: Any) -> NDArray[np.uint8]:
    grab = vtkWindowToImageFilter()
    grab.SetInput(view.render_window())
    grab.ReadFrontBufferOff()
    grab.Update()
    output = grab.GetOutput()
    width, height, _ = output.GetDimensions()
    pixels = vtk_to_numpy(output.GetPointData().GetScalars()).reshape(height, width, -1)
    return np.ascontiguousarray(pixels[::-1, :, :3])


def _same_height(pictures: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    height = max(picture.shape[0] for picture in pictures)
    return [
        np.pad(picture, ((0, height - picture.shape[0]), (0, _GAP), (0, 0))) for picture in pictures
    ]
