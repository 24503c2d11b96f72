"""Where in the world a user clicks, in slice views and in the 3D view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trame_slicer.views import SliceView
from vtkmodules.vtkCommonCore import vtkCommand
from vtkmodules.vtkRenderingCore import vtkCellPicker

Point = tuple[float, float, float]

#: Pixels that the mouse may move between press and release: more is a drag.
_STILL_PIXELS = 3

#: Opacity from which on a picker takes a cloud's voxel for its surface.
_CLOUD_OPACITY = 0.1


class ClickWatcher:
    """Tells a listener of each click with the left button, as a place of the world.

    Dragging, zooming and scrolling stay with the views.
    """

    def __init__(self, listener: Callable[[Point], None]) -> None:
        self._listener = listener
        self._pressed: dict[int, tuple[int, int]] = {}

    def watch(self, name: str, view: Any) -> None:
        """Watches a view from now on."""
        interactor = view.interactor()
        # Before the views' own interaction, which may take an event for itself.
        interactor.AddObserver(vtkCommand.LeftButtonPressEvent, lambda *_: self._press(view), 100.0)
        interactor.AddObserver(
            vtkCommand.LeftButtonReleaseEvent, lambda *_: self._release(view), 100.0
        )

    def _press(self, view: Any) -> None:
        self._pressed[id(view)] = view.interactor().GetEventPosition()

    def _release(self, view: Any) -> None:
        began = self._pressed.pop(id(view), None)
        at = view.interactor().GetEventPosition()
        if began is None or max(abs(a - b) for a, b in zip(began, at, strict=True)) > _STILL_PIXELS:
            return
        place = _in_slice(view, at) if isinstance(view, SliceView) else _in_3d(view, at)
        if place is not None:
            self._listener(place)


def _in_slice(view: SliceView, at: tuple[int, int]) -> Point:
    matrix = view.get_view_node().GetXYToRAS()
    ras = matrix.MultiplyPoint((float(at[0]), float(at[1]), 0.0, 1.0))
    return (ras[0], ras[1], ras[2])


def _in_3d(view: Any, at: tuple[int, int]) -> Point | None:
    """The nearest surface, slice or cloud under the mouse; None where there is nothing."""
    picker = vtkCellPicker()
    picker.SetTolerance(0.002)
    picker.SetVolumeOpacityIsovalue(_CLOUD_OPACITY)
    if not picker.Pick(float(at[0]), float(at[1]), 0.0, view.renderer()):
        return None
    ras = picker.GetPickPosition()
    return (ras[0], ras[1], ras[2])
