"""Guided Grad-CAM: guided backpropagation multiplied by Grad-CAM."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.guided_backpropagation import GuidedBackpropagation
from SaliencyExplain.attribution.passes.pass_spec import PassSpec
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.specification.parameters import parameter


@dataclass(frozen=True)
class GuidedGradCAM(Method):
    """The product of guided backpropagation and the Grad-CAM of a layer.

    Grad-CAM's cells are placed at the centres of their receptive fields and interpolated
    linearly; captum stretches the map over the image and repeats the nearest cell.
    """

    name: ClassVar[str] = "guided-gradcam"
    family: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Guided Grad-CAM"
    source: ClassVar[str] = (
        "Selvaraju et al. 2017, section 3.2; absolute value of captum.attr.GuidedGradCam where the "
        "layer's cells are voxels"
    )
    signed: ClassVar[bool] = False
    lower_precision: ClassVar[bool] = True

    layers: tuple[str, ...] = parameter(
        (), "Names of the layers; without one, the last feature maps on every path to the scores."
    )
    channels: str = parameter(
        "max",
        "How channels are combined into one map: the maximum or the sum of the absolute values.",
        choices=("max", "sum"),
    )

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; values are at least 0, keys are the layers' names."""
        total, first = self.forward_passes(task), self._guided.forward_passes(task)
        detail = self._guided.attribute(
            dataclasses.replace(task, progress=lambda done, _: task.progress(done, total))
        )[""]
        places = self._cam.attribute(
            dataclasses.replace(task, progress=lambda done, _: task.progress(first + done, total))
        )
        return {layer: detail * warmth for layer, warmth in places.items()}

    def forward_passes(self, task: Task) -> float:
        """The passes of guided backpropagation and of Grad-CAM."""
        return self._guided.forward_passes(task) + self._cam.forward_passes(task)

    def shares(self, task: Task) -> PassSpec:
        """The shared pass of Grad-CAM; the guided pass cannot be shared."""
        return self._cam.shares(task)

    @property
    def _guided(self) -> GuidedBackpropagation:
        return GuidedBackpropagation(channels=self.channels)

    @property
    def _cam(self) -> GradCAM:
        return GradCAM(layers=self.layers)
