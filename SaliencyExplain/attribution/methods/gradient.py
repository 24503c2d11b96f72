"""Gradients of the target's score with respect to the voxels: vanilla and SmoothGrad."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.network.half_precision import autocast
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.anytime import AnytimeMap
from SaliencyExplain.attribution.passes.batches import GRADIENT_COST, in_batches
from SaliencyExplain.attribution.passes.gradient_path import no_gradient
from SaliencyExplain.attribution.passes.pass_spec import PassSpec
from SaliencyExplain.attribution.passes.shared_pass import passed
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.specification.parameters import parameter

_VOXELS = PassSpec(voxels=True)


def input_gradients(
    network: ScoreNetwork, images: Tensor, target: int, precision: str = "float32"
) -> Tensor:
    """Gradient of each image's score for the target with respect to its voxels.

    Args:
        network: On the images' device, in eval mode, parameters frozen.
        images: ``(B, C, *S)``.
        target: Index of the class.
        precision: Precision of the network's computation, as ``Task.precision``.

    Returns:
        ``(B, C, *S)``, float32, score per unit of the prepared image.

    Raises:
        InputError: The network lets no gradient through.
    """
    with torch.enable_grad():
        voxels = images.detach().requires_grad_()
        with autocast(images.device, precision):
            scores = network(voxels)[:, target].float()
        if not scores.requires_grad:
            raise no_gradient(network, images[:1])
        return torch.autograd.grad(scores.sum(), voxels)[0]


@dataclass(frozen=True)
class _InputGradient(Method):
    """A method that computes a gradient for each channel and reduces them to one map."""

    lower_precision: ClassVar[bool] = True
    per_channel: ClassVar[bool] = True

    channels: str = parameter(
        "max",
        "How channels are combined into one map: the maximum or the sum of the absolute values.",
        choices=("max", "sum"),
    )

    @abstractmethod
    def raw(self, task: Task) -> Tensor:
        """The signed gradient for each channel, ``(C, *S)``, before the reduction."""

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; values are at least 0."""
        return self._reduced(self.raw(task))

    def forward_passes(self, task: Task) -> float:
        """Two: a backward pass costs about as much as a forward pass."""
        return GRADIENT_COST

    def _reduced(self, gradient: Tensor) -> dict[str, Tensor]:
        """One map from the gradients of the channels ``(C, *S)``."""
        magnitude = gradient.abs()
        return {"": (magnitude.amax(0) if self.channels == "max" else magnitude.sum(0)).float()}


@dataclass(frozen=True)
class _Ruled(_InputGradient):
    """A gradient of the image that may use modified rules in the backward pass."""

    def raw(self, task: Task) -> Tensor:
        """See :class:`_InputGradient`."""
        image = plain(task.input)
        total = self.forward_passes(task)

        def compute(_: range) -> Tensor:
            return input_gradients(task.network, image, task.target, task.precision)

        with untouched(task.network), self._rules(task):
            ((_, gradients),) = in_batches(task, 1, compute, gradient=True, total=total)
        return gradients[0]

    @abstractmethod
    def _rules(self, task: Task) -> AbstractContextManager[None]:
        """The modification of the backward pass: none, or guided ReLUs."""


@dataclass(frozen=True)
class _Smoothed(_Ruled):
    """The mean gradient over noisy copies of the image."""

    parts: ClassVar[str] = "noisy copies"

    samples: int = parameter(25, "Number of noisy copies of the image.", minimum=1, maximum=10_000)
    noise: float = parameter(
        0.15,
        "Standard deviation of the noise, as a fraction of the image's value range.",
        minimum=0.0,
        maximum=100.0,
    )
    squared: bool = parameter(
        True,
        "True: root of the mean squared gradient (Hooker et al. 2019); false: mean gradient.",
    )

    def raw(self, task: Task) -> Tensor:
        """The averaged gradient for each channel, ``(C, *S)``.

        The noise of each copy has its own seed and is drawn on the CPU, so that the map does
        not depend on the batch size, nor the noise on the device. The copies are added one by
        one in float64. The map of the copies so far is published during the computation, and
        is the result if the deadline is reached first.
        """
        image = plain(task.input)
        deviation = float(self.noise * (image.max() - image.min()))
        total = self.forward_passes(task)
        added = torch.zeros(image.shape[1:], dtype=torch.float64, device=image.device)
        growing, done = AnytimeMap(task), 0

        def compute(indices: range) -> Tensor:
            noisy = torch.cat([noise_like(image, task.seed, index) for index in indices])
            noisy.mul_(deviation).add_(image)
            return input_gradients(task.network, noisy, task.target, task.precision)

        def average() -> Tensor:
            mean = added / done
            return (mean.sqrt() if self.squared else mean).float()

        with untouched(task.network), self._rules(task):
            for indices, gradients in in_batches(
                task, self.samples, compute, gradient=True, total=total
            ):
                for gradient in gradients:
                    added += gradient.square() if self.squared else gradient
                done = indices.stop
                if growing.is_enough(done / self.samples, lambda: self._reduced(average())):
                    break
        return average()

    def forward_passes(self, task: Task) -> float:
        """A forward and a backward pass for each copy."""
        return GRADIENT_COST * self.samples


def noise_like(image: Tensor, seed: int, index: int) -> Tensor:
    """Standard normal noise of an image's shape, the same on each device."""
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0]) >> 1)
    return torch.randn(image.shape, generator=generator).to(image.device)


@dataclass(frozen=True)
class Gradient(_InputGradient):
    """The vanilla gradient: how much the score changes with a small change of each voxel."""

    name: ClassVar[str] = "gradient"
    family: ClassVar[str] = "gradient"
    title: ClassVar[str] = "Gradient"
    source: ClassVar[str] = (
        "Simonyan et al. 2014, section 3.1; absolute value of monai.visualize.VanillaGrad"
    )
    signed: ClassVar[bool] = False

    def raw(self, task: Task) -> Tensor:
        """See :class:`_InputGradient`; the pass is shared with other methods.

        Raises:
            InputError: The network lets no gradient through.
        """
        total = self.forward_passes(task)
        voxels = passed(task, _VOXELS).voxels
        assert voxels is not None
        task.progress(total, total)
        return voxels

    def shares(self, task: Task) -> PassSpec:
        """The gradient of the image."""
        return _VOXELS


@dataclass(frozen=True)
class SmoothGrad(_Smoothed):
    """SmoothGrad: the gradient averaged over noisy copies of the image."""

    name: ClassVar[str] = "smoothgrad"
    family: ClassVar[str] = "gradient"
    title: ClassVar[str] = "SmoothGrad"
    source: ClassVar[str] = (
        "Smilkov et al. 2017; with squared: Hooker et al. 2019, monai.visualize.SmoothGrad times "
        "the root of the number of samples"
    )
    signed: ClassVar[bool] = False

    def _rules(self, task: Task) -> AbstractContextManager[None]:
        return nullcontext()
