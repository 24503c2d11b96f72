"""Images as volume nodes."""

from __future__ import annotations

from typing import Any

import slicer
from numpy.typing import NDArray

from SaliencyExplain.scene.arrays import set_volume_values
from SaliencyExplain.scene.nodes import grey_table
from SaliencyExplain.scene.subject_hierarchy import item_of


def add_image(
    scene: slicer.vtkMRMLScene, values: NDArray[Any], affine: NDArray[Any], name: str
) -> slicer.vtkMRMLScalarVolumeNode:
    """Adds an image, shown in greys with Slicer's automatic window.

    Args:
        scene: The scene.
        values: One channel, (i, j) or (i, j, k); a 2D image becomes one slice.
        affine: 4x4, voxel indices to RAS mm.
        name: Name of the node.

    Raises:
        InputError: The geometry is invalid or sheared; nothing is added.
    """
    grey_table(scene)
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    # Before it is added to the scene, so that observers get the complete node.
    set_volume_values(node, values, affine)
    node.SetName(scene.GenerateUniqueName(name))
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    item_of(scene, node)
    return node
