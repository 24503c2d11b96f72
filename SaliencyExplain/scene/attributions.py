"""Attributions as volume nodes with heat colours, and the information to interpret them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import slicer

from SaliencyExplain.colormaps import THRESHOLD, window_end
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.json_text import json_text
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.scene import names
from SaliencyExplain.scene.arrays import set_volume_values, volume_values
from SaliencyExplain.scene.colors import add_heat_table, fill_heat_table
from SaliencyExplain.scene.nodes import nodes_of_kind, referring, remove_with_parts
from SaliencyExplain.scene.subject_hierarchy import (
    put_into_folder,
    remove_empty_folders,
    remove_item,
)

_VOLUME = "vtkMRMLScalarVolumeNode"

#: A partial map keeps its window until its strength has changed by this factor. Colours that
#: follow every partial map flicker, which could be mistaken for a change of the finding.
_WINDOW_HELD = 1.5


def anatomy_of(node: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLVolumeNode | None:
    """The volume under a map: that of its own channel, else the image; None if removed."""
    channel = node.GetNodeReference(names.CHANNEL_ROLE)
    return channel if channel is not None else node.GetNodeReference(names.IMAGE_ROLE)


def add_attribution(
    scene: slicer.vtkMRMLScene,
    map: Attribution,
    image_node: slicer.vtkMRMLVolumeNode,
    channel_nodes: Sequence[slicer.vtkMRMLVolumeNode] = (),
) -> slicer.vtkMRMLScalarVolumeNode:
    """Adds a map of an image without displaying it (see `slice_layers.show`).

    The map is put under the image's transform at its own position, so that it moves with the
    image. In the subject hierarchy it is below image, classifier and target.

    Args:
        scene: The scene.
        map: The map.
        image_node: The image that was explained.
        channel_nodes: The image's channels if each has its own node; the map of a single channel
            is shown over that node.

    Raises:
        InputError: A value is not finite, or the geometry is not supported; nothing is added.
    """
    _check_values(map)
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(_name(map))
    node.SetAttribute(names.KIND, names.ATTRIBUTION)
    node.SetAttribute(names.THRESHOLD, repr(THRESHOLD))
    node.SetScene(scene)
    node.SetAndObserveTransformNodeID(image_node.GetTransformNodeID())
    set_volume_values(node, map.values, map.affine)
    neighbours = attributions_of(scene, image_node)
    node.SetName(scene.GenerateUniqueName(_name(map)))
    scene.AddNode(node)
    node.SetNodeReferenceID(names.IMAGE_ROLE, image_node.GetID())
    if map.channel < len(channel_nodes):
        node.SetNodeReferenceID(names.CHANNEL_ROLE, channel_nodes[map.channel].GetID())
    table = add_heat_table(scene, node.GetName())
    node.SetNodeReferenceID(names.COLORS_ROLE, table.GetID())
    display = slicer.vtkMRMLScalarVolumeDisplayNode()
    display.AutoWindowLevelOff()
    scene.AddNode(display)
    display.SetAndObserveColorNodeID(table.GetID())
    node.SetAndObserveDisplayNodeID(display.GetID())
    _write_attributes(node, map)
    fill_heat_table(table, map.signed, THRESHOLD)
    _set_window(node, map, window_end(map.values, map.signed))
    put_into_folder(scene, node, image_node, neighbours, map.classifier_name, map.target_name)
    return node


def update_attribution(node: slicer.vtkMRMLScalarVolumeNode, map: Attribution) -> None:
    """Replaces the values of a partial map in place.

    While the map is partial, its window is kept unless the map's strength has changed by a
    factor of 1.5; the complete map gets the window of its own values. The threshold is kept.

    Args:
        node: A node from `add_attribution`.
        map: The newer map, of the same method and target.

    Raises:
        InputError: See `add_attribution`; the node is not changed.
    """
    _check_values(map)
    before = window_of(node)
    signed = node.GetAttribute(names.SIGNED) == "1"
    modified = node.StartModify()
    try:
        set_volume_values(node, map.values, map.affine)
        _write_attributes(node, map)
    finally:
        node.EndModify(modified)
    if map.signed != signed:
        fill_heat_table(_table(node), map.signed, threshold(node))
    end = window_end(map.values, map.signed)
    held = end is not None and before / _WINDOW_HELD <= end <= before * _WINDOW_HELD
    if map.share_done >= 1 or not held or map.signed != signed:
        _set_window(node, map, end)


def attributions_of(
    scene: slicer.vtkMRMLScene, image_node: slicer.vtkMRMLVolumeNode | None = None
) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The attributions of an image, or of the whole scene, in the order of their addition."""
    found = nodes_of_kind(scene, _VOLUME, names.ATTRIBUTION)
    if image_node is None:
        return found
    wanted = image_node.GetID()
    return [node for node in found if node.GetNodeReferenceID(names.IMAGE_ROLE) == wanted]


def read_attribution(node: slicer.vtkMRMLScalarVolumeNode) -> Attribution:
    """The map of a node, with the information that it was added with, but for its seconds.

    Raises:
        InputError: The node is not an attribution.
    """
    values, affine = volume_values(_checked(node))
    method, _, layer = node.GetAttribute(names.LABEL).partition("@")
    return Attribution(
        values=values,
        affine=affine,
        method=method,
        method_title=node.GetAttribute(names.TITLE),
        layer=layer,
        signed=is_signed(node),
        target=int(node.GetAttribute(names.TARGET_INDEX)),
        target_name=node.GetAttribute(names.TARGET),
        parameters=json.loads(node.GetAttribute(names.PARAMETERS)),
        provenance=json.loads(node.GetAttribute(names.PROVENANCE)),
        share_done=float(node.GetAttribute(names.SHARE_DONE)),
    )


def remove_attribution(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Removes an attribution with its colours and bands, and folders that become empty.

    Raises:
        InputError: The node is not an attribution.
    """
    scene = _checked(node).GetScene()
    for other in [*referring(scene, node, names.ATTRIBUTION_ROLE), node, _table(node)]:
        if other is not None:
            remove_item(scene, other)
            remove_with_parts(other)
    remove_empty_folders(scene)


def set_threshold(node: slicer.vtkMRMLScalarVolumeNode, share: float) -> None:
    """Sets the strength below which a map is not drawn.

    Args:
        node: The attribution.
        share: Share of the window's end, [0, 1). A slice view has 256 steps in a window, so that
            the edge is exact to 1/128 of the end.

    Raises:
        InputError: The share is not in [0, 1), or the node is not an attribution.
    """
    if not 0 <= share < 1:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"Threshold: {share:g} is not a share of the window. Give a number from 0 to below 1.",
        )
    _checked(node).SetAttribute(names.THRESHOLD, repr(float(share)))
    fill_heat_table(_table(node), is_signed(node), share)


def threshold(node: slicer.vtkMRMLScalarVolumeNode) -> float:
    """Share of the window's end below which a map is not drawn."""
    return float(_checked(node).GetAttribute(names.THRESHOLD))


def is_signed(node: slicer.vtkMRMLScalarVolumeNode) -> bool:
    """Whether a map's negative values are evidence against the class."""
    return _checked(node).GetAttribute(names.SIGNED) == "1"


def window_of(node: slicer.vtkMRMLScalarVolumeNode) -> float:
    """The value of the last colour of a map."""
    return float(_checked(node).GetDisplayNode().GetWindowLevelMax())


def is_attribution(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a node is one that `add_attribution` made."""
    return node is not None and node.GetAttribute(names.KIND) == names.ATTRIBUTION


def _checked(node: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode:
    if not is_attribution(node):
        raise InputError(
            ErrorCode.SCENE_NODE,
            f"'{node.GetName()}': it is not an attribution map of SaliencyExplain. Choose a map.",
        )
    return node


def _table(node: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLColorTableNode:
    return node.GetNodeReference(names.COLORS_ROLE)


def _name(map: Attribution) -> str:
    return f"{map.title} - {map.target_name}"


def _check_values(map: Attribution) -> None:
    # VTK draws NaN as the most negative value.
    if not np.isfinite(map.values).all():
        raise InputError(
            ErrorCode.MAP_NOT_FINITE,
            f"Map '{map.label}': it has voxels that are not finite and is not shown. Check the "
            "intensity preprocessing.",
        )


def _set_window(node: slicer.vtkMRMLScalarVolumeNode, map: Attribution, end: float | None) -> None:
    # A constant map has no scale. With such a large end it is not drawn at any threshold.
    if end is None:
        end = 1000 * float(np.abs(map.values).max(initial=0.0)) or 1.0
    display = node.GetDisplayNode()
    display.SetWindowLevelMinMax(-end if map.signed else 0.0, end)


def _write_attributes(node: slicer.vtkMRMLScalarVolumeNode, map: Attribution) -> None:
    for name, value in (
        (names.LABEL, map.label),
        (names.TITLE, map.method_title),
        (names.SIGNED, str(int(map.signed))),
        (names.TARGET, map.target_name),
        (names.TARGET_INDEX, str(map.target)),
        (names.CLASSIFIER, map.classifier_name),
        (names.PARAMETERS, json_text(map.parameters)),
        (names.PROVENANCE, json_text(map.provenance)),
        (names.SHARE_DONE, repr(float(map.share_done))),
    ):
        node.SetAttribute(name, value)
    # The answers of its evaluation refer to the previous values.
    node.RemoveAttribute(names.EVALUATION)
