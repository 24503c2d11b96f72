"""What a bare scene lacks and desktop 3D Slicer always has; and finding nodes.

Nothing here changes a scene that has its views and colours already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import slicer

from SaliencyExplain.scene import names

_GREY = "vtkMRMLColorTableNodeGrey"

#: Classes of nodes that are made here and that a bare scene does not know by itself. Desktop
#: Slicer's modules register them.
_CLASSES = (
    "vtkMRMLSegmentationNode",
    "vtkMRMLSegmentationDisplayNode",
    "vtkMRMLSegmentationStorageNode",
    "vtkMRMLVolumePropertyNode",
    "vtkMRMLVolumePropertyStorageNode",
    "vtkMRMLVolumePropertyJsonStorageNode",
    "vtkMRMLGPURayCastVolumeRenderingDisplayNode",
    "vtkMRMLCPURayCastVolumeRenderingDisplayNode",
    "vtkMRMLMarkupsFiducialNode",
    "vtkMRMLMarkupsDisplayNode",
    "vtkMRMLMarkupsFiducialDisplayNode",
    "vtkMRMLMarkupsJsonStorageNode",
)


def new_scene() -> slicer.vtkMRMLScene:
    """A scene outside of desktop Slicer, which can open and save all that is made here."""
    scene = slicer.vtkMRMLScene()
    register_classes(scene)
    return scene


def register_classes(scene: slicer.vtkMRMLScene) -> None:
    """Makes a scene know the classes of nodes that its files may hold."""
    for name in _CLASSES:
        if not scene.IsNodeClassRegistered(name):
            scene.RegisterNodeClass(getattr(slicer, name)())


def nodes_of(scene: slicer.vtkMRMLScene, class_name: str) -> list[Any]:
    """All nodes of a class and the classes derived from it, in the scene's order."""
    count = scene.GetNumberOfNodesByClass(class_name)
    return [scene.GetNthNodeByClass(number, class_name) for number in range(count)]


def nodes_of_kind(scene: slicer.vtkMRMLScene, class_name: str, kind: str) -> list[Any]:
    """Nodes of a class that were made here as `kind`."""
    return [node for node in nodes_of(scene, class_name) if node.GetAttribute(names.KIND) == kind]


def given_segmentations(scene: slicer.vtkMRMLScene) -> list[Any]:
    """The segmentations that were given, the ground truth among them: all but bands of maps."""
    return [
        node
        for node in nodes_of(scene, "vtkMRMLSegmentationNode")
        if node.GetAttribute(names.KIND) != names.BAND_SEGMENTS
    ]


def given_label_maps(scene: slicer.vtkMRMLScene) -> list[Any]:
    """The label maps that were given: all but bands of maps."""
    return [
        node
        for node in nodes_of(scene, "vtkMRMLLabelMapVolumeNode")
        if node.GetAttribute(names.KIND) != names.BAND_LABELS
    ]


def referring(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode, role: str) -> Iterator[Any]:
    """Nodes made here that refer to `node` in a role."""
    for other in nodes_of(scene, "vtkMRMLNode"):
        if other.GetAttribute(names.KIND) and other.GetNodeReferenceID(role) == node.GetID():
            yield other


def remove_with_parts(node: slicer.vtkMRMLNode) -> None:
    """Removes a node with its display, storage and rendering nodes, which no other node uses."""
    scene = node.GetScene()
    parts = []
    if node.IsA("vtkMRMLDisplayableNode"):
        for number in range(node.GetNumberOfDisplayNodes()):
            display = node.GetNthDisplayNode(number)
            if display is not None and display.IsA("vtkMRMLVolumeRenderingDisplayNode"):
                parts.append(display.GetVolumePropertyNode())
            parts.append(display)
    if node.IsA("vtkMRMLStorableNode"):
        parts.append(node.GetStorageNode())
    scene.RemoveNode(node)
    for part in parts:
        if part is not None and scene.IsNodePresent(part):
            scene.RemoveNode(part)


def grey_table(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLColorTableNode:
    """The table of greys that images are shown with: Slicer's own, made in a bare scene."""
    table = scene.GetNodeByID(_GREY)
    if table is None:
        # As vtkMRMLColorLogic makes it; the logic itself takes its tables away when it goes.
        table = slicer.vtkMRMLColorTableNode()
        table.SetTypeToGrey()
        table.SetName("Grey")
        table.SetSingletonTag("Grey")
        table.SaveWithSceneOff()
        table = scene.AddNode(table)
    return table


def slice_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceNode]:
    """The slice views of a scene; a bare scene gets Slicer's Red, Green and Yellow."""
    if not nodes_of(scene, "vtkMRMLSliceNode"):
        _add_views(scene)
    return nodes_of(scene, "vtkMRMLSliceNode")


def composite_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceCompositeNode]:
    """What the slice views show, a node for each view."""
    known = {node.GetLayoutName() for node in nodes_of(scene, "vtkMRMLSliceCompositeNode")}
    for view in slice_nodes(scene):
        if view.GetLayoutName() not in known:
            composite = slicer.vtkMRMLSliceCompositeNode()
            composite.SetLayoutName(view.GetLayoutName())
            scene.AddNode(composite)
    return nodes_of(scene, "vtkMRMLSliceCompositeNode")


def view_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLViewNode]:
    """The 3D views of a scene; a bare scene gets Slicer's first."""
    if not nodes_of(scene, "vtkMRMLViewNode"):
        _add_views(scene)
    return nodes_of(scene, "vtkMRMLViewNode")


def _add_views(scene: slicer.vtkMRMLScene) -> None:
    for name in ("vtkMRMLSelectionNode", "vtkMRMLInteractionNode"):
        if not nodes_of(scene, name):
            scene.AddNode(getattr(slicer, name)())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    # Adds the layout and the views of Slicer's default layout, four-up.
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
