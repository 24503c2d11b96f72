"""Check for OpenGL."""

from __future__ import annotations

import vtk

from SaliencyExplain.errors import ErrorCode, OutputError


def check_opengl() -> None:
    """Checks that 3D pictures can be drawn off screen.

    Raises:
        OutputError: The machine has no OpenGL; libraries would crash when drawing.
    """
    # A window without OpenGL reports that it supports it, and crashes when drawing. The check uses
    # its own window, because one that was made current before it has a renderer crashes as well.
    told = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.SetGlobalWarningDisplay(False)
    try:
        window = vtk.vtkRenderWindow()
        window.SetOffScreenRendering(True)
        window.Initialize()
        current = window.IsCurrent()
        window.Finalize()
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(told)
    if not current:
        raise OutputError(
            ErrorCode.PACKAGE_MISSING,
            "OpenGL: it is not installed, and 3D pictures need it. On Debian and Ubuntu install "
            "the packages libegl1 and libgl1-mesa-dri.",
        )
