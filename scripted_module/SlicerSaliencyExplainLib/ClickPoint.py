"""The point of "Click to explain": a markups point that is placed by clicks and can be dragged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import slicer

from SaliencyExplain.scene.nodes import slice_nodes

Point = tuple[float, float, float]

_NODE_NAME = "Click to explain"
_CLASS = "vtkMRMLMarkupsFiducialNode"
_GLYPH_SCALE, _TEXT_SCALE = 2.0, 2.5
#: A mouse this near to the point wants to drag it: share of a slice view's width. Markups take
#: hold of a point from farther away, so that the hold does not end at once.
_NEAR = 0.012
#: Markups notice the mouse with its next move.
_GRACE_SECONDS = 0.5


class ClickPoint:
    """One point in the scene, and word of where it is.

    Attributes:
        node: The markups node; None before :meth:`attach`.
        placing: Whether the next click in a view places the point.
    """

    def __init__(self, scene: Any, moved: Callable[[Point, bool], None]) -> None:
        """Adds nothing yet.

        Args:
            scene: Where it will be.
            moved: Called with the place, RAS mm, and whether it is final: false while the
                point is being dragged.
        """
        self.node: Any = None
        self.placing = False
        self._scene = scene
        self._moved = moved
        self._tags: list[int] = []
        self._told: tuple[Point, bool] | None = None
        self._dragging = False
        self._surplus = False
        self._hovered = False
        self._leave = False
        self._since = 0.0

    def attach(self, node: Any = None) -> Any:
        """Watches a node, a new one where none is given."""
        if node is None:
            node = slicer.vtkMRMLMarkupsFiducialNode()
            node.SetName(_NODE_NAME)
            self._scene.AddNode(node)
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            display.SetGlyphScale(_GLYPH_SCALE)
            display.SetTextScale(_TEXT_SCALE)
            # Its label is the result, and empty before.
            node.SetControlPointLabelFormat("")
        if node is self.node:
            return node
        self.detach()
        self.node = node
        self._told = (self.place(), True) if self.place() is not None else None
        for event, handler in (
            (node.PointPositionDefinedEvent, self._on_defined),
            (node.PointModifiedEvent, self._on_modified),
            (node.PointStartInteractionEvent, self._on_drag),
            (node.PointEndInteractionEvent, self._on_drop),
        ):
            self._tags.append(node.AddObserver(event, handler))
        return node

    def detach(self) -> None:
        """Stops watching; the node is kept."""
        if self.node is not None:
            for tag in self._tags:
                self.node.RemoveObserver(tag)
        self._tags = []
        self.node = None
        self._told = None
        self._dragging = self._surplus = self._hovered = self._leave = False

    def place(self) -> Point | None:
        """The newest point, RAS mm of the world; None: no point yet."""
        index = self._newest()
        if index is None:
            return None
        ras = [0.0, 0.0, 0.0]
        self.node.GetNthControlPointPositionWorld(index, ras)
        return ras[0], ras[1], ras[2]

    def move_to(self, point: Point) -> None:
        """Puts the point somewhere, as a click there does."""
        index = self._newest()
        if index is None:
            self.node.AddControlPointWorld(list(point))
        else:
            self.node.SetNthControlPointPositionWorld(index, list(point))

    def label(self, text: str) -> None:
        """Writes the label of the point."""
        index = self._newest()
        if index is not None and self.node.GetNthControlPointLabel(index) != text:
            self.node.SetNthControlPointLabel(index, text)

    def start_placing(self) -> None:
        """Each click in a view places the point, until :meth:`stop_placing`.

        Over the point itself the mouse takes hold of it, so that it can be dragged.
        """
        self.placing = True
        self._hovered = False
        self._take_clicks()

    def stop_placing(self) -> None:
        """Clicks in views mean again what they meant before; the point can still be dragged."""
        self.placing = self._hovered = False
        self._leave_clicks()

    def tidy(self) -> None:
        """Does what must not be done from within the events of a click or of the mouse."""
        if self.node is None:
            return
        if self._surplus:
            self._surplus = False
            newest = self._newest()
            for index in reversed(range(newest or 0)):
                if self._is_defined(index):
                    self.node.RemoveNthControlPoint(index)
        if self._leave:
            self._leave = False
            self._leave_clicks()
        elif self._hovered and not self._dragging and not self._is_held():
            self._hovered = False
            if self.placing:
                self._take_clicks()

    def _take_clicks(self) -> None:
        selection, interaction = self._singletons()
        if selection is not None and interaction is not None:
            selection.SetReferenceActivePlaceNodeClassName(_CLASS)
            selection.SetActivePlaceNodeID(self.node.GetID())
            interaction.SetPlaceModePersistence(1)
            interaction.SetCurrentInteractionMode(interaction.Place)

    def _leave_clicks(self) -> None:
        _, interaction = self._singletons()
        if interaction is not None and interaction.GetCurrentInteractionMode() == interaction.Place:
            interaction.SetPlaceModePersistence(0)
            interaction.SwitchToViewTransformMode()

    def _is_held(self) -> bool:
        """Whether the mouse is over the point, or has only just come there."""
        display = self.node.GetDisplayNode()
        if display is not None and display.GetActiveComponentType() != display.ComponentNone:
            return True
        return time.monotonic() - self._since < _GRACE_SECONDS

    def _near(self, index: int) -> bool:
        """Whether the preview of the next point is over the point that is there."""
        here = self.place()
        preview = [0.0, 0.0, 0.0]
        self.node.GetNthControlPointPositionWorld(index, preview)
        width = min((view.GetFieldOfView()[0] for view in slice_nodes(self._scene)), default=0.0)
        return here is not None and math.dist(here, preview) < _NEAR * width

    def _singletons(self) -> tuple[Any, Any]:
        return tuple(
            self._scene.GetNodeByID(f"vtkMRML{name}NodeSingleton")
            for name in ("Selection", "Interaction")
        )

    def _newest(self) -> int | None:
        if self.node is None:
            return None
        defined = [i for i in range(self.node.GetNumberOfControlPoints()) if self._is_defined(i)]
        return defined[-1] if defined else None

    def _is_defined(self, index: int) -> bool:
        # A point that still follows the mouse, before the click, is a preview.
        return (
            self.node.GetNthControlPointPositionStatus(index)
            == slicer.vtkMRMLMarkupsNode.PositionDefined
        )

    def _on_defined(self, _caller: Any, _event: str) -> None:
        self._surplus = True
        self._tell(True)

    def _on_modified(self, _caller: Any, _event: str) -> None:
        last = self.node.GetNumberOfControlPoints() - 1
        if self.placing and not self._hovered and last >= 0 and not self._is_defined(last):
            if self._near(last):
                self._hovered = self._leave = True
                self._since = time.monotonic()
            return
        self._tell(not self._dragging)

    def _on_drag(self, _caller: Any, _event: str) -> None:
        self._dragging = True

    def _on_drop(self, _caller: Any, _event: str) -> None:
        self._dragging = False
        self._tell(True)

    def _tell(self, final: bool) -> None:
        place = self.place()
        # A label, a colour or the preview of the next point changes the node too.
        if place is None or self._told in ((place, final), (place, True)):
            return
        self._told = (place, final)
        self._moved(place, final)
