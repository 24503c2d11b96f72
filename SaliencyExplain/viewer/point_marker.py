"""The clicked place in the views: one point with what it was answered."""

from __future__ import annotations

from typing import Any

import slicer

from SaliencyExplain.viewer.page_clicks import Point

_COLOR = (0.55, 0.95, 1.0)


class PointMarker:
    """A markups point of the scene that saved scenes hold, too."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._node: Any = None

    def show(self, place: Point, text: str = "") -> None:
        """Puts the point somewhere, with a text beside it."""
        node = self._known() or self._made()
        if node.GetNumberOfControlPoints() == 0:
            node.AddControlPoint(place)
        else:
            node.SetNthControlPointPosition(0, *place)
        node.SetNthControlPointLabel(0, text)
        node.SetDisplayVisibility(True)

    def hide(self) -> None:
        """Takes the point out of the views."""
        if self._known() is not None:
            self._node.SetDisplayVisibility(False)

    def _known(self) -> Any:
        return (
            self._node if self._node is not None and self._scene.IsNodePresent(self._node) else None
        )

    def _made(self) -> Any:
        node = slicer.vtkMRMLMarkupsFiducialNode()
        node.SetName("clicked place")
        self._scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        # A click beside it asks anew; a drag of the point is not what a click means here.
        node.SetLocked(True)
        display = node.GetDisplayNode()
        display.SetSelectedColor(*_COLOR)
        display.SetColor(*_COLOR)
        display.SetGlyphTypeFromString("CrossDot2D")
        display.SetGlyphScale(2.5)
        display.SetTextScale(0.0)
        self._node = node
        return node
