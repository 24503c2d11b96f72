"""Integrated gradients: the change of the score from a baseline, divided among the voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from SaliencyExplain.attribution.methods.gradient import input_gradients
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
class IntegratedGradients(BaselinePathMethod):
    """Integrated gradients on the straight line from a baseline to the image.

    A positive value means that the change from the baseline's value to the voxel's raised the
    score.
    """

    name: ClassVar[str] = "integrated-gradients"
    family: ClassVar[str] = "path"
    title: ClassVar[str] = "Integrated gradients"
    source: ClassVar[str] = (
        "Sundararajan et al. 2017, equations 1 and 3; captum.attr.IntegratedGradients summed over "
        "the channels"
    )
    parts: ClassVar[str] = "steps"

    steps: int = parameter(
        50, "Number of points on the path, one gradient each.", minimum=1, maximum=MOST_STEPS
    )
    rule: str = parameter(
        "gausslegendre",
        "Quadrature rule: Gauss-Legendre, or the Riemann sum at the middle, left or right of each "
        "step (the paper uses right).",
        choices=RULES,
    )

    def raw(self, task: Task) -> Tensor:
        """The map for each channel, ``(C, *S)`` in float64.

        The sum is kept in float64, step by step, so that it depends on the batch size only as
        far as the gradients do. The first steps are already spread over the whole path. Their
        weighted mean is published during the computation, and is the result if the deadline is
        reached first.

        Raises:
            InputError: Background images are needed and were not given, or do not fit.
        """
        image, start = plain(task.input), self.start(task)
        places, weights = quadrature(self.rule, self.steps)
        network, total = self.watched(task.network), self.forward_passes(task)
        way = (image - start)[0].double()
        added, weighed = torch.zeros_like(way), 0.0
        growing = AnytimeMap(task)

        def average() -> Tensor:
            return way * added / weighed

        def compute(indices: range) -> Tensor:
            images = images_between(start, image, places[indices.start : indices.stop])
            return input_gradients(network, images, task.target, task.precision)

        with untouched(task.network):
            for indices, gradients in in_batches(
                task, self.steps, compute, gradient=True, total=total
            ):
                for index, gradient in zip(indices, gradients, strict=True):
                    added.add_(gradient, alpha=float(weights[index]))
                    weighed += float(weights[index])
                if growing.is_enough(indices.stop / self.steps, lambda: over_channels(average())):
                    break
            values = average()
            record_completeness(task, values, *target_outputs(network, (image, start), task.target))
            task.progress(total, total)
        return values

    def forward_passes(self, task: Task) -> float:
        """A forward and a backward pass for each step, and one for each of the two ends."""
        check_baseline(task, self.baseline, self.name)
        return GRADIENT_COST * self.steps + 2
