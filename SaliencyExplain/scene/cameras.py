"""The camera of 3D Slicer's first 3D view for a scene that it opens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import slicer

from SaliencyExplain.scene.nodes import nodes_of
from SaliencyExplain.scene.slice_layers import bounds

#: Layout name of Slicer's first 3D view, and the tag of its camera.
_VIEW = "1"

#: From the front, turned to the patient's left and up, because along an axis two of the three
#: slices appear as lines.
_AZIMUTH, _ELEVATION = math.radians(30.0), math.radians(20.0)
_MARGIN = 1.05


def look_at(
    scene: slicer.vtkMRMLScene, image: slicer.vtkMRMLVolumeNode
) -> slicer.vtkMRMLCameraNode:
    """Places the camera of Slicer's first 3D view so that a whole volume is visible.

    Slicer's default camera looks at the world's origin from 500 mm, wherever the anatomy is.

    Args:
        scene: The scene; the camera is added if it is missing.
        image: The volume.
    """
    box = bounds(image)
    centre, radius = box.mean(axis=0), float(np.linalg.norm(box[1] - box[0])) / 2
    camera = _camera(scene)
    distance = _MARGIN * radius / math.sin(math.radians(camera.GetViewAngle()) / 2)
    towards = np.array(
        [
            -math.sin(_AZIMUTH) * math.cos(_ELEVATION),
            math.cos(_AZIMUTH) * math.cos(_ELEVATION),
            math.sin(_ELEVATION),
        ]
    )
    modified = camera.StartModify()
    camera.SetFocalPoint(*centre)
    camera.SetPosition(*(centre + distance * towards))
    camera.SetViewUp(0.0, 0.0, 1.0)
    camera.ResetClippingRange()
    camera.EndModify(modified)
    return camera


def _camera(scene: slicer.vtkMRMLScene) -> Any:
    for node in nodes_of(scene, "vtkMRMLCameraNode"):
        if node.GetLayoutName() == _VIEW:
            return node
    camera = slicer.vtkMRMLCameraNode()
    camera.SetName("Camera")
    camera.SetSingletonTag(_VIEW)
    camera.SetLayoutName(_VIEW)
    return scene.AddNode(camera)
