"""Folders of the subject hierarchy: image / classifier / target / method."""

from __future__ import annotations

import slicer
import vtk

from SaliencyExplain.scene import names

_LEVELS = ("image", "classifier", "target")


def hierarchy(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode:
    """The scene's subject hierarchy."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def item_of(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode) -> int:
    """The node's item; it is created if needed, since only desktop Slicer does so itself."""
    tree = hierarchy(scene)
    item = tree.GetItemByDataNode(node)
    return item or tree.CreateItem(tree.GetSceneItemID(), node)


def put_into_folder(
    scene: slicer.vtkMRMLScene,
    node: slicer.vtkMRMLNode,
    image: slicer.vtkMRMLNode,
    neighbours: list[slicer.vtkMRMLNode],
    classifier: str,
    target: str,
) -> None:
    """Puts a node into the folders of its image, classifier and target.

    Args:
        scene: The scene.
        node: The node.
        image: The explained image; the first folder is next to it and named after it.
        neighbours: Other attributions of the same image, which share the first folder; it cannot
            be found by name, because two images may have the same name.
        classifier: Name of the second folder.
        target: Name of the third.
    """
    tree = hierarchy(scene)
    beside = tree.GetItemParent(item_of(scene, image))
    folder = next(
        (found for other in neighbours if (found := _folder_above(scene, other, "image"))), 0
    )
    if not folder:
        folder = _make(tree, beside, f"{image.GetName()}: attributions", "image")
    for name, level in ((classifier, "classifier"), (target, "target")):
        folder = _child(tree, folder, name, level) or _make(tree, folder, name, level)
    tree.SetItemParent(item_of(scene, node), folder)


def put_beside(
    scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode, other: slicer.vtkMRMLNode
) -> None:
    """Puts a node into the folder of another."""
    tree = hierarchy(scene)
    tree.SetItemParent(item_of(scene, node), tree.GetItemParent(item_of(scene, other)))


def remove_item(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode) -> None:
    """Removes a node's item but not the node; desktop Slicer does this for removed nodes."""
    tree = hierarchy(scene)
    item = tree.GetItemByDataNode(node)
    if item:
        tree.RemoveItem(item, False, False)


def remove_empty_folders(scene: slicer.vtkMRMLScene) -> None:
    """Removes empty folders that were created here."""
    tree = hierarchy(scene)
    for level in reversed(_LEVELS):
        for item in _items(tree, tree.GetSceneItemID(), recursive=True):
            if tree.GetItemAttribute(item, names.FOLDER) == level and not _items(tree, item):
                tree.RemoveItem(item)


def _folder_above(scene: slicer.vtkMRMLScene, node: slicer.vtkMRMLNode, level: str) -> int:
    tree = hierarchy(scene)
    item = tree.GetItemByDataNode(node)
    while item and item != tree.GetSceneItemID():
        if tree.GetItemAttribute(item, names.FOLDER) == level:
            return int(item)
        item = tree.GetItemParent(item)
    return 0


def _child(tree: slicer.vtkMRMLSubjectHierarchyNode, parent: int, name: str, level: str) -> int:
    for item in _items(tree, parent):
        if tree.GetItemAttribute(item, names.FOLDER) == level and tree.GetItemName(item) == name:
            return item
    return 0


def _make(tree: slicer.vtkMRMLSubjectHierarchyNode, parent: int, name: str, level: str) -> int:
    folder = int(tree.CreateFolderItem(parent, name))
    tree.SetItemAttribute(folder, names.FOLDER, level)
    return folder


def _items(
    tree: slicer.vtkMRMLSubjectHierarchyNode, parent: int, recursive: bool = False
) -> list[int]:
    children = vtk.vtkIdList()
    tree.GetItemChildren(parent, children, recursive)
    return [children.GetId(number) for number in range(children.GetNumberOfIds())]
