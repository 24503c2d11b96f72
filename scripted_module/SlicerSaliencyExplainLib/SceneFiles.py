"""Files into the scene through storage nodes; no reader module of Slicer is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from SaliencyExplain.errors import ErrorCode, InputError


def load_volume(scene: Any, path: Path, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Loads a volume file, or a folder of DICOM slices of one series.

    Raises:
        InputError: It cannot be read.
    """
    slices = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(slices[0] if slices else path))
    storage.SetSingleFile(not slices)
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(scene.GenerateUniqueName(name))
    if not (slices or path.is_file()) or not storage.ReadData(node):
        raise InputError(ErrorCode.FILE_FORMAT, f"{path} cannot be read as a volume.")
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node


def load_segmentation(scene: Any, path: Path, name: str) -> slicer.vtkMRMLSegmentationNode:
    """Loads a segmentation file.

    Raises:
        InputError: It cannot be read.
    """
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(scene.GenerateUniqueName(name))
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    scene.AddNode(node)
    if not Path(path).is_file() or not storage.ReadData(node):
        scene.RemoveNode(node)
        raise InputError(ErrorCode.FILE_FORMAT, f"{path} cannot be read as a segmentation.")
    node.CreateDefaultDisplayNodes()
    return node


def add_segments(scene: Any, node: slicer.vtkMRMLSegmentationNode, path: Path) -> None:
    """Adds the segments of a further file to a segmentation.

    Raises:
        InputError: It cannot be read.
    """
    further = load_segmentation(scene, path, path.name)
    found, into = further.GetSegmentation(), node.GetSegmentation()
    for number in range(found.GetNumberOfSegments()):
        known = {into.GetNthSegmentID(n) for n in range(into.GetNumberOfSegments())}
        identity = found.GetNthSegmentID(number)
        into.AddSegment(
            found.GetNthSegment(number),
            identity if identity not in known else f"{path.name} {number}",
        )
    scene.RemoveNode(further)
