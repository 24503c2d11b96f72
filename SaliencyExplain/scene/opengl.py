"""Whether this machine draws in 3D."""

from __future__ import annotations

import vtk

from SaliencyExplain.errors import ErrorCode, OutputError


def check_opengl() -> None:
    """Finds out whether pictures in 3D can be drawn off screen.

    Raises:
        OutputError: The machine has no OpenGL; libraries would crash when they draw.
    """
    # Asked whether it supports OpenGL, a window without any says yes, and crashes when it draws.
    # A window of its own: one that was made current before it has a renderer crashes, too.
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
            "This machine draws no 3D pictures: it has no OpenGL. On Debian and Ubuntu the "
            "packages libegl1 and libgl1-mesa-dri bring it.",
        )
