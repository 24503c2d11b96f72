"""Respond-CAM: feature maps weighed so that the map's sum follows the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from SaliencyExplain.attribution.batches import GRADIENT_COST
from SaliencyExplain.attribution.cells import FeatureMap, upsampled_maps
from SaliencyExplain.attribution.method import Method, Task, parameter
from SaliencyExplain.attribution.shared_pass import Wanted, passed, wanted_layers


@dataclass(frozen=True)
class RespondCAM(Method):
    """Respond-CAM, made for 3D: the gradient's mean, weighed by the feature map itself.

    On the layer's own grid the map's sum is the sum of gradient times activation; where the
    network behind the layer is linear for this image but for a constant (global mean, linear
    layers, ReLUs), that is the score without the constant.
    """

    name: ClassVar[str] = "respondcam"
    family: ClassVar[str] = "class activation"
    title: ClassVar[str] = "Respond-CAM"
    source: ClassVar[str] = "Zhao et al. 2018 (Respond-CAM)"
    signed: ClassVar[bool] = True

    layers: tuple[str, ...] = parameter(
        (), "Names of the layers; none: the last convolution or activation function that runs."
    )

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; keys are the layers' names.

        Recorded are the target's score and each map's sum on its layer's grid.

        Raises:
            InputError: A layer does not exist, gives no feature map, or does not run.
        """
        total = self.forward_passes(task)
        found = upsampled_maps(task, self.raw(task))
        task.progress(total, total)
        return found

    def raw(self, task: Task) -> dict[str, FeatureMap]:
        """The signed maps on the layers' own grids, before upsampling.

        Raises:
            InputError: See :meth:`attribute`.
        """
        wanted = self.shares(task)
        given = passed(task, wanted, exact=True)
        maps = {}
        for layer in given.names(wanted):
            features = given.features[layer]
            flat = features.flatten(1).double()
            responses = (given.gradients[layer].flatten(1).double() * flat).sum(dim=1)
            sums = flat.sum(dim=1)
            # A feature map whose sum is 0 has no weight: all of it is 0, or nothing can be said.
            weights = torch.where(sums != 0, responses / sums, torch.zeros_like(sums))
            maps[layer] = torch.tensordot(weights, features.double(), dims=1)
        task.record(
            {
                "score": float(given.scores[task.target]),
                "sum_of_map": {layer: float(values.sum()) for layer, values in maps.items()},
            }
        )
        return {layer: given.grid.place(values.float()) for layer, values in maps.items()}

    def shares(self, task: Task) -> Wanted:
        """Features and gradients of the layers.

        Raises:
            InputError: A layer does not exist, or the network's layers cannot be looked into.
        """
        return wanted_layers(task, self.layers, self.name)

    def forward_passes(self, task: Task) -> float:
        """At most a forward and a backward pass; the backward pass ends at the layer."""
        return GRADIENT_COST
