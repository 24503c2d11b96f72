"""DeConvNet: backpropagation in which each ReLU is applied to the gradient."""

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
    """The gradient of the score, rectified at each ReLU of the network.

    The sign of a ReLU's input is ignored; only the sign of the gradient counts. Max pooling
    passes the gradient to the position of its maximum. As with guided backpropagation, the map
    depends little on the class (Adebayo et al. 2018).
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
