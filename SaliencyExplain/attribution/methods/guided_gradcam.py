"""Guided Grad-CAM: the fine detail of guided backpropagation where Grad-CAM is warm."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.cam import GradCAM
from SaliencyExplain.attribution.methods.guided_backpropagation import GuidedBackpropagation
from SaliencyExplain.attribution.parameters import parameter
from SaliencyExplain.attribution.passes.pass_spec import PassSpec
from SaliencyExplain.attribution.passes.task import Task


@dataclass(frozen=True)
class GuidedGradCAM(Method):
    """The product of guided backpropagation and the Grad-CAM of a layer.

    Grad-CAM's cells are laid over the image where their receptive fields are, linear between
    them; captum repeats the nearest cell of the stretched map.
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
        (), "Names of the layers; none: the last feature maps that all paths to the scores use."
    )
    channels: str = parameter(
        "max",
        "How several channels become one map: the largest absolute value, or the sum of them.",
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
        """Those of guided backpropagation and of Grad-CAM."""
        return self._guided.forward_passes(task) + self._cam.forward_passes(task)

    def shares(self, task: Task) -> PassSpec:
        """What Grad-CAM shares; the guided pass is its own."""
        return self._cam.shares(task)

    @property
    def _guided(self) -> GuidedBackpropagation:
        return GuidedBackpropagation(channels=self.channels)

    @property
    def _cam(self) -> GradCAM:
        return GradCAM(layers=self.layers)
