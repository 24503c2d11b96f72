"""Finding nodes, and adding those that desktop 3D Slicer has and a new scene lacks.

Scenes that already have views and colours are not changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import slicer

from SaliencyExplain.scene import names

_GREY = "vtkMRMLColorTableNodeGrey"

#: Classes of nodes that are created here and are not registered in a new scene. In desktop Slicer
#: modules register them.
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
    """A scene outside desktop Slicer that can open and save all nodes of this package."""
    scene = slicer.vtkMRMLScene()
    register_classes(scene)
    return scene


def register_classes(scene: slicer.vtkMRMLScene) -> None:
    """Registers the classes of nodes that files of a scene may contain."""
    for name in _CLASSES:
        if not scene.IsNodeClassRegistered(name):
            scene.RegisterNodeClass(getattr(slicer, name)())


def nodes_of(scene: slicer.vtkMRMLScene, class_name: str) -> list[Any]:
    """All nodes of a class and the classes derived from it, in the scene's order."""
    count = scene.GetNumberOfNodesByClass(class_name)
    return [scene.GetNthNodeByClass(number, class_name) for number in range(count)]


def nodes_of_kind(scene: slicer.vtkMRMLScene, class_name: str, kind: str) -> list[Any]:
    """Nodes of a class that were created here as `kind`."""
    return [node for node in nodes_of(scene, class_name) if node.GetAttribute(names.KIND) == kind]


def given_segmentations(scene: slicer.vtkMRMLScene) -> list[Any]:
    """The segmentations, including the ground truth, that are not bands of maps."""
    return [
        node
        for node in nodes_of(scene, "vtkMRMLSegmentationNode")
        if node.GetAttribute(names.KIND) != names.BAND_SEGMENTS
    ]


def given_label_maps(scene: slicer.vtkMRMLScene) -> list[Any]:
    """The label maps that are not bands of maps."""
    return [
        node
        for node in nodes_of(scene, "vtkMRMLLabelMapVolumeNode")
        if node.GetAttribute(names.KIND) != names.BAND_LABELS
    ]


def referring(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode, role: str) -> Iterator[Any]:
    """Nodes created here that refer to `node` in a role."""
    for other in nodes_of(scene, "vtkMRMLNode"):
        if other.GetAttribute(names.KIND) and other.GetNodeReferenceID(role) == node.GetID():
            yield other


def remove_with_parts(node: slicer.vtkMRMLNode) -> None:
    """Removes a node with its display, storage and rendering nodes."""
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
    """Slicer's table of greys for images; it is created if the scene lacks it."""
    table = scene.GetNodeByID(_GREY)
    if table is None:
        # As vtkMRMLColorLogic creates it; the logic removes its tables when it is destroyed.
        table = slicer.vtkMRMLColorTableNode()
        table.SetTypeToGrey()
        table.SetName("Grey")
        table.SetSingletonTag("Grey")
        table.SaveWithSceneOff()
        table = scene.AddNode(table)
    return table


def slice_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceNode]:
    """The slice views of a scene; without any, Slicer's Red, Green and Yellow are added."""
    if not nodes_of(scene, "vtkMRMLSliceNode"):
        _add_views(scene)
    return nodes_of(scene, "vtkMRMLSliceNode")


def composite_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceCompositeNode]:
    """The composite nodes of the slice views, one for each view."""
    known = {node.GetLayoutName() for node in nodes_of(scene, "vtkMRMLSliceCompositeNode")}
    for view in slice_nodes(scene):
        if view.GetLayoutName() not in known:
            composite = slicer.vtkMRMLSliceCompositeNode()
            composite.SetLayoutName(view.GetLayoutName())
            scene.AddNode(composite)
    return nodes_of(scene, "vtkMRMLSliceCompositeNode")


def view_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLViewNode]:
    """The 3D views of a scene; without any, Slicer's first is added."""
    if not nodes_of(scene, "vtkMRMLViewNode"):
        _add_views(scene)
    return nodes_of(scene, "vtkMRMLViewNode")


def _add_views(scene: slicer.vtkMRMLScene) -> None:
    for name in ("vtkMRMLSelectionNode", "vtkMRMLInteractionNode"):
        if not nodes_of(scene, name):
            scene.AddNode(getattr(slicer, name)())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    # Adds the views of Slicer's default layout, four-up.
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(scene)
    logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
