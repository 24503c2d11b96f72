"""Respond-CAM: feature maps weighted so that the map's sum follows the score."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from SaliencyExplain.attribution.graph.feature_map_grid import FeatureMap
from SaliencyExplain.attribution.methods.cam import ActivationMap
from SaliencyExplain.attribution.passes.batches import GRADIENT_COST
from SaliencyExplain.attribution.passes.pass_spec import PassPart
from SaliencyExplain.attribution.passes.shared_pass import layers_of, passed
from SaliencyExplain.attribution.passes.task import Task


@dataclass(frozen=True)
class RespondCAM(ActivationMap):
    """Respond-CAM, developed for 3D: the mean gradient, weighted by the feature map itself.

    On the layer's own grid the map's sum is the sum of gradient times activation. Where the
    network after the layer is linear for this image up to a constant (global mean, linear
    layers, ReLUs), this is the score without the constant.
    """

    name: ClassVar[str] = "respondcam"
    family: ClassVar[str] = "class activation"
    title: ClassVar[str] = "Respond-CAM"
    source: ClassVar[str] = "Zhao et al. 2018 (Respond-CAM)"
    signed: ClassVar[bool] = True
    lower_precision: ClassVar[bool] = False

    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The signed maps on the layers' own grids, before upsampling.

        The target's score and each map's sum on its layer's grid are recorded.

        Raises:
            InputError: A layer does not exist, is not run, or its output is not a feature map.
        """
        wanted = self.shares(task)
        given = passed(task, wanted, exact=True)
        maps = {
            layer: FeatureMap.total([_responding(part) for part in parts], rectified=False)
            for layer, parts in layers_of(given, wanted, task).items()
        }
        task.record(
            {
                "score": float(given.scores[task.target]),
                "sum_of_map": {layer: _sum(cells) for layer, cells in maps.items()},
            }
        )
        return {layer: _single(cells) for layer, cells in maps.items()}

    def forward_passes(self, task: Task) -> float:
        """At most a forward and a backward pass; the backward pass ends at the layer."""
        return GRADIENT_COST


def _responding(part: PassPart) -> FeatureMap:
    flat = part.features.flatten(1).double()
    responses = (part.slope.flatten(1).double() * flat).sum(dim=1)
    sums = flat.sum(dim=1)
    # A feature map whose sum is 0 gets no weight: it is 0 everywhere, or its weight is undefined.
    weights = torch.where(sums != 0, responses / sums, torch.zeros_like(sums))
    return part.place(torch.tensordot(weights, part.features.double(), dims=1))


def _sum(cells: FeatureMap) -> float:
    return float(cells.values.sum()) + sum(_sum(other) for other in cells.others)


def _single(cells: FeatureMap) -> FeatureMap:
    others = tuple(_single(other) for other in cells.others)
    return dataclasses.replace(cells, values=cells.values.float(), others=others)
