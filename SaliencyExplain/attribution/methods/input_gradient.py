"""The gradient times the image: each voxel's part of the score of a linear network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.gradient import Gradient
from SaliencyExplain.attribution.methods.path_integration import over_channels
from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.pass_spec import PassSpec
from SaliencyExplain.attribution.passes.task import Task


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Each voxel's value times its gradient, summed over the channels.

    A positive value means that the score would fall if the voxel were 0, as far as the network
    is linear. 0 is in the units of the prepared image: after a normalisation to mean 0 it is an
    average grey and not black.
    """

    name: ClassVar[str] = "gradient-times-input"
    family: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Gradient × input"
    source: ClassVar[str] = (
        "Shrikumar et al. 2016 (Not just a black box), gradient × input; "
        "captum.attr.InputXGradient summed over the channels"
    )
    signed: ClassVar[bool] = True
    lower_precision: ClassVar[bool] = True
    per_channel: ClassVar[bool] = True

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`."""
        return over_channels(self.raw(task))

    def raw(self, task: Task) -> Tensor:
        """The map for each channel, ``(C, *S)``."""
        return Gradient().raw(task) * plain(task.input)[0]

    def shares(self, task: Task) -> PassSpec:
        """The shared pass of the gradient."""
        return Gradient().shares(task)

    def forward_passes(self, task: Task) -> float:
        """The passes of the gradient."""
        return Gradient().forward_passes(task)
