"""Expected gradients: integrated gradients from many baselines, the background images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.methods.gradient import input_gradients
from SaliencyExplain.attribution.methods.path_integration import (
    PathMethod,
    over_channels,
    record_completeness,
    target_outputs,
)
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.anytime import AnytimeMap
from SaliencyExplain.attribution.passes.batches import GRADIENT_COST, in_batches
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.baselines import background_images
from SaliencyExplain.progress import may_stop
from SaliencyExplain.specification.parameters import parameter

#: Multiples of the golden ratio modulo 1 are evenly distributed for any number of samples.
_GOLDEN = (math.sqrt(5) - 1) / 2


def draws(count: int, backgrounds: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The background of each sample, and its position on the line from background to image.

    In each round every background is drawn once, in a random order. The positions are uniform
    in [0, 1) and evenly spread, both for one background and within a round. The variance is
    lower than with independent draws, and the first samples alone are an unbiased estimate.

    Args:
        count: Number of samples.
        backgrounds: Number of background images.
        seed: The same seed gives the same draws; a larger count continues a smaller one.

    Returns:
        Indices of backgrounds, and positions; ``(count,)`` each.
    """
    first = np.random.default_rng([seed, 0])
    offsets = (first.permutation(backgrounds) + first.random(backgrounds)) / backgrounds
    rounds = math.ceil(count / backgrounds)
    chosen = []
    for n in range(rounds):
        may_stop()
        chosen.append(np.random.default_rng([seed, 1, n]).permutation(backgrounds))
    places = [(offsets[order] + n * _GOLDEN) % 1 for n, order in enumerate(chosen)]
    return np.concatenate(chosen)[:count], np.concatenate(places)[:count]


@dataclass(frozen=True)
class ExpectedGradients(PathMethod):
    """The mean of integrated gradients over a set of background images as baselines.

    The map explains how this image's score differs from the mean score of the backgrounds.
    With backgrounds of healthy people it shows what is abnormal.
    """

    name: ClassVar[str] = "expected-gradients"
    family: ClassVar[str] = "path"
    requires: ClassVar[tuple[str, ...]] = ("backgrounds",)
    title: ClassVar[str] = "Expected gradients (GradientSHAP)"
    source: ClassVar[str] = (
        "Erion et al. 2021, definition of expected gradients; captum.attr.GradientShap without "
        "noise for the same draws, summed over the channels"
    )
    parts: ClassVar[str] = "samples"

    samples: int = parameter(
        100,
        "Number of images at which the gradient is computed, each between a background and the "
        "image.",
        minimum=1,
        maximum=100_000,
    )

    def raw(self, task: Task) -> Tensor:
        """The mean for each channel, ``(C, *S)`` in float64.

        The mean of the samples so far is published during the computation, and is the result
        if the deadline is reached first.

        Raises:
            InputError: No background images were given, or they do not fit the image.
        """
        image, backgrounds = plain(task.input), background_images(task, self.name)
        chosen, places = draws(self.samples, len(backgrounds), task.seed)
        network, total = self.watched(task.network), self.forward_passes(task)
        added = torch.zeros(image.shape[1:], dtype=torch.float64, device=image.device)
        growing, done = AnytimeMap(task), 0

        def average() -> Tensor:
            return added / done

        def background(number: np.int64) -> Tensor:
            return backgrounds[int(number)][None].to(image)

        def compute(indices: range) -> Tensor:
            images = [
                torch.lerp(background(chosen[index]), image, float(places[index]))
                for index in indices
            ]
            return input_gradients(network, torch.cat(images), task.target, task.precision)

        with untouched(task.network):
            for indices, gradients in in_batches(
                task, self.samples, compute, gradient=True, total=total
            ):
                for index, gradient in zip(indices, gradients, strict=True):
                    added += gradient.double() * (image - background(chosen[index]))[0]
                done = indices.stop
                if growing.is_enough(done / self.samples, lambda: over_channels(average())):
                    break
            values = average()
            times = np.bincount(chosen[:done], minlength=len(backgrounds))
            used = [background(number) for number in times.nonzero()[0]]
            at_image, *ends = target_outputs(network, [image, *used], task.target)
            mean = float(np.average(ends, weights=times[times > 0]))
            record_completeness(task, values, at_image, mean)
            task.record({"backgrounds": len(used), "samples": done})
            task.progress(total, total)
        return values

    def forward_passes(self, task: Task) -> float:
        """A forward and a backward pass for each sample; one for image and each background."""
        given = len(background_images(task, self.name))
        return GRADIENT_COST * self.samples + 1 + min(given, self.samples)
