"""The segments of a scene, wherever they are kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from SaliencyExplain.scene.arrays import image_array
from SaliencyExplain.scene.nodes import given_label_maps, given_segmentations
from SaliencyExplain.scene.segmentations import label_name


def segment_names(node: Any) -> list[tuple[str, str]]:
    """ID and name of each segment of a segmentation or label map node."""
    if node is None:
        return []
    if node.IsA("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        numbers = range(segmentation.GetNumberOfSegments())
        ids = [segmentation.GetNthSegmentID(number) for number in numbers]
        return [(id_, segmentation.GetSegment(id_).GetName()) for id_ in ids]
    image = node.GetImageData()
    if image is None:
        return []
    labels = _labels(image)
    return [(str(label), label_name(node, label)) for label in labels]


def find_segment(scene: Any, name: str) -> tuple[Any, str] | None:
    """Node and ID of a segment that has this name, bands of maps aside; None: there is none."""
    for node in [*given_segmentations(scene), *given_label_maps(scene)]:
        for id_, known in segment_names(node):
            if known == name:
                return node, id_
    return None


def _labels(image: Any) -> list[int]:
    values = np.unique(image_array(image))
    return [int(value) for value in values if value != 0]
