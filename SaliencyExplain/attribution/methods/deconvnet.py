"""DeConvNet: the network run backwards, each ReLU on what comes back."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from SaliencyExplain.attribution.methods.gradient import _Ruled
from SaliencyExplain.attribution.methods.guided_backpropagation import guided_relus
from SaliencyExplain.attribution.passes.task import Task


class _DeconvolvedReLU(torch.autograd.Function):
    """Springenberg et al. 2015, figure 1: R_i = (R_{i+1} > 0) R_{i+1}."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].clamp(min=0)


@dataclass(frozen=True)
class DeConvNet(_Ruled):
    """The score carried back with a ReLU where the network has one, open or closed.

    Whether a ReLU let anything through does not count, only what comes back to it; maximum
    pooling gives back where its maximum was. Like guided backpropagation the map shows what
    the network can see and depends little on the class (Adebayo et al. 2018).
    """

    name: ClassVar[str] = "deconvnet"
    family: ClassVar[str] = "gradient"
    title: ClassVar[str] = "DeConvNet"
    source: ClassVar[str] = (
        "Zeiler & Fergus 2014, section 2.1; absolute value of captum.attr.Deconvolution where "
        "all ReLUs are modules of their own"
    )
    signed: ClassVar[bool] = False

    def _rules(self, task: Task) -> AbstractContextManager[None]:
        return guided_relus(task.network, self.name, _DeconvolvedReLU)
