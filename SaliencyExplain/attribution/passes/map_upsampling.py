"""Maps of layers, brought onto the image's grid."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from SaliencyExplain.attribution.graph.feature_map_grid import FeatureMap
from SaliencyExplain.attribution.passes.task import Task


def upsampled_maps(task: Task, maps: Mapping[str, FeatureMap]) -> dict[str, Tensor]:
    """The maps of layers on the image's grid; the size of their cells is reported to the task."""
    for layer, cells in maps.items():
        task.resolution(layer, cells.cell_mm(task.spacing))
    return {layer: cells.upsampled() for layer, cells in maps.items()}
