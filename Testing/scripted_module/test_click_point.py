"""The clicked point, with real markups."""

from __future__ import annotations

from typing import Any

import pytest
import slicer
from SlicerSaliencyExplainLib.ClickPoint import ClickPoint

from SaliencyExplain.scene.nodes import slice_nodes


@pytest.fixture
def heard() -> list[tuple[tuple[float, float, float], bool]]:
    return []


@pytest.fixture
def point(scene: Any, heard: list[Any]) -> ClickPoint:
    for kind in ("Selection", "Interaction"):
        node = getattr(slicer, f"vtkMRML{kind}Node")()
        node.SetSingletonTag("Singleton")
        scene.AddNode(node)
    point = ClickPoint(scene, lambda place, final: heard.append((place, final)))
    point.attach()
    return point


def _click(point: ClickPoint, place: tuple[float, float, float]) -> None:
    """What a click in a view does in place mode: a preview that becomes a point."""
    node = point.node
    node.AddControlPointWorld(list(place))
    node.InvokeEvent(node.PointPositionDefinedEvent)


def test_a_click_is_final_and_told_once(point: ClickPoint, heard: list[Any]) -> None:
    _click(point, (10.0, -20.0, 30.0))
    assert heard == [((10.0, -20.0, 30.0), True)]
    point.label("glioma 0.9 to 0.3")
    point.node.GetDisplayNode().SetTextScale(5)
    assert len(heard) == 1
    assert point.node.GetNthControlPointLabel(0) == "glioma 0.9 to 0.3"


def test_only_the_newest_click_stays(point: ClickPoint, heard: list[Any]) -> None:
    for place in ((1.0, 0.0, 0.0), (2.0, 0.0, 0.0), (3.0, 0.0, 0.0)):
        _click(point, place)
    point.tidy()
    assert point.node.GetNumberOfControlPoints() == 1
    assert point.place() == (3.0, 0.0, 0.0)
    assert [place for place, _ in heard] == [(1.0, 0.0, 0.0), (2.0, 0.0, 0.0), (3.0, 0.0, 0.0)]


def test_what_is_dragged_is_not_final_before_it_is_dropped(
    point: ClickPoint, heard: list[Any]
) -> None:
    _click(point, (0.0, 0.0, 0.0))
    node = point.node
    node.InvokeEvent(node.PointStartInteractionEvent)
    for x in (1.0, 2.0, 3.0):
        node.SetNthControlPointPositionWorld(0, [x, 0.0, 0.0])
    node.InvokeEvent(node.PointEndInteractionEvent)
    assert heard[1:] == [
        ((1.0, 0.0, 0.0), False),
        ((2.0, 0.0, 0.0), False),
        ((3.0, 0.0, 0.0), False),
        ((3.0, 0.0, 0.0), True),
    ]


def test_clicks_are_taken_while_it_is_on(point: ClickPoint, scene: Any) -> None:
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    point.start_placing()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert interaction.GetPlaceModePersistence() == 1
    assert selection.GetActivePlaceNodeID() == point.node.GetID()
    point.stop_placing()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    _click(point, (1.0, 2.0, 3.0))
    assert point.place() == (1.0, 2.0, 3.0)


def test_over_the_point_the_mouse_takes_hold_of_it(point: ClickPoint, scene: Any) -> None:
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    width = slice_nodes(scene)[0].GetFieldOfView()[0]
    _click(point, (0.0, 0.0, 0.0))
    point.start_placing()
    node = point.node
    preview = node.AddControlPointWorld([width / 4, 0.0, 0.0])
    node.SetNthControlPointPosition(preview, width / 4, 0.0, 0.0, node.PositionPreview)
    point.tidy()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    node.SetNthControlPointPosition(preview, width / 1000, 0.0, 0.0, node.PositionPreview)
    point.tidy()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    # Markups hold the point while the mouse is over it; then clicks are taken again.
    display = node.GetDisplayNode()
    display.SetActiveComponent(display.ComponentControlPoint, 0)
    point._since -= 10
    point.tidy()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    display.SetActiveComponent(display.ComponentNone, -1)
    point.tidy()
    assert interaction.GetCurrentInteractionMode() == interaction.Place


def test_a_transform_above_it_counts(point: ClickPoint, scene: Any) -> None:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 100.0)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix)
    _click(point, (5.0, 6.0, 7.0))
    point.node.SetAndObserveTransformNodeID(transform.GetID())
    assert point.place() == (105.0, 6.0, 7.0)
    point.move_to((1.0, 2.0, 3.0))
    assert point.place() == (1.0, 2.0, 3.0)
