"""Integrated gradients averaged over noisy copies of the image."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.methods.gradient import input_gradients, noise_like
from SaliencyExplain.attribution.methods.path_integration import (
    MOST_STEPS,
    RULES,
    BaselinePathMethod,
    images_between,
    over_channels,
    quadrature,
    record_completeness,
    target_outputs,
)
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.anytime import AnytimeMap
from SaliencyExplain.attribution.passes.batches import GRADIENT_COST, in_batches
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.baselines import check_baseline
from SaliencyExplain.specification.parameters import parameter


@dataclass(frozen=True)
class _SmoothIntegrated(BaselinePathMethod):
    """Integrated gradients of noisy copies of the image, all from the same baseline."""

    parts: ClassVar[str] = "noisy copies"

    samples: int = parameter(10, "Number of noisy copies of the image.", minimum=1, maximum=1000)
    noise: float = parameter(
        0.15,
        "Standard deviation of the noise, as a fraction of the image's value range.",
        minimum=0.0,
        maximum=100.0,
    )
    steps: int = parameter(
        20, "Number of points on the path to each noisy copy.", minimum=1, maximum=MOST_STEPS
    )
    rule: str = parameter(
        "gausslegendre",
        "Quadrature rule: Gauss-Legendre, or the Riemann sum at the middle, left or right of each "
        "step.",
        choices=RULES,
    )

    def raw(self, task: Task) -> Tensor:
        """The average for each channel, ``(C, *S)`` in float64.

        The noise of each copy has its own seed and is drawn on the CPU. The average of the
        finished copies is published during the computation, and is the result if the deadline
        is reached first.

        Raises:
            InputError: Background images are needed and were not given, or do not fit.
        """
        image, start = plain(task.input), self.start(task)
        deviation = float(self.noise * (image.max() - image.min()))
        places, weights = quadrature(self.rule, self.steps)
        network, total = self.watched(task.network), self.forward_passes(task)
        added = torch.zeros(image.shape[1:], dtype=torch.float64, device=image.device)
        of_copy = torch.zeros_like(added)
        growing, done = AnytimeMap(task), 0

        def copy(number: int) -> Tensor:
            return noise_like(image, task.seed, number).mul_(deviation).add_(image)

        def compute(indices: range) -> Tensor:
            at, steps = np.divmod(np.asarray(indices), self.steps)
            images = [
                images_between(start, copy(int(number)), places[steps[at == number]])
                for number in np.unique(at)
            ]
            return input_gradients(network, torch.cat(images), task.target, task.precision)

        def average() -> Tensor:
            return self.averaged(added / done)

        with untouched(task.network):
            for indices, gradients in in_batches(
                task, self.samples * self.steps, compute, gradient=True, total=total
            ):
                for index, gradient in zip(indices, gradients, strict=True):
                    number, step = divmod(index, self.steps)
                    of_copy.add_(gradient, alpha=float(weights[step]))
                    if step == self.steps - 1:
                        added += self.counted(of_copy * (copy(number) - start)[0])
                        of_copy.zero_()
                        done = number + 1
                if done and growing.is_enough(
                    indices.stop / (self.samples * self.steps), lambda: over_channels(average())
                ):
                    break
            values = average()
            if self.signed:
                # One at a time, because a thousand copies of a volume would fill the memory.
                ends = [
                    target_outputs(network, [copy(number)], task.target)[0]
                    for number in range(done)
                ]
                (begin,) = target_outputs(network, [start], task.target)
                record_completeness(task, values, float(np.mean(ends)), begin)
            task.progress(total, total)
        return values

    def forward_passes(self, task: Task) -> float:
        """A forward and a backward pass for each step to each copy; if signed, also the ends."""
        check_baseline(task, self.baseline, self.name)
        ends = self.samples + 1 if self.signed else 0
        return GRADIENT_COST * self.samples * self.steps + ends

    @abstractmethod
    def counted(self, values: Tensor) -> Tensor:
        """The values of a copy's map that are averaged."""

    @abstractmethod
    def averaged(self, mean: Tensor) -> Tensor:
        """The map, from the average of :meth:`counted`."""


@dataclass(frozen=True)
class SmoothIntegratedGradients(_SmoothIntegrated):
    """The mean over noisy copies; it is signed and adds up to the copies' mean score change."""

    name: ClassVar[str] = "smoothgrad-ig"
    family: ClassVar[str] = "path"
    title: ClassVar[str] = "SmoothGrad integrated gradients"
    source: ClassVar[str] = (
        "Smilkov et al. 2017 with Sundararajan et al. 2017; GetSmoothedMask(magnitude=False) of "
        "saliency.core.IntegratedGradients"
    )

    def counted(self, values: Tensor) -> Tensor:
        """The map itself."""
        return values

    def averaged(self, mean: Tensor) -> Tensor:
        """The mean itself."""
        return mean


@dataclass(frozen=True)
class SquaredSmoothIntegratedGradients(_SmoothIntegrated):
    """The root mean square over noisy copies, summed over the channels; magnitudes only."""

    name: ClassVar[str] = "smoothgrad-ig-squared"
    family: ClassVar[str] = "path"
    title: ClassVar[str] = "SmoothGrad integrated gradients, squared"
    source: ClassVar[str] = (
        "Hooker et al. 2019 with Sundararajan et al. 2017; root of GetSmoothedMask(magnitude=True) "
        "of saliency.core.IntegratedGradients"
    )
    signed: ClassVar[bool] = False

    def counted(self, values: Tensor) -> Tensor:
        """The squares."""
        return values.square()

    def averaged(self, mean: Tensor) -> Tensor:
        """Their root."""
        return mean.sqrt()
