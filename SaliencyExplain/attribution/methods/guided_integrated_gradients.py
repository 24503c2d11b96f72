"""Guided integrated gradients: a path that avoids directions of large gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from SaliencyExplain.attribution.methods.gradient import input_gradients
from SaliencyExplain.attribution.methods.path_integration import (
    BaselinePathMethod,
    record_completeness,
    target_outputs,
)
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.batches import GRADIENT_COST, in_stages
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.baselines import check_baseline
from SaliencyExplain.specification.parameters import parameter

#: Share of the path's length that is treated as zero: rounding of sums over all voxels.
_ROUNDING = 1e-9


class _AdaptivePath:
    """A path from a baseline to the image that moves the voxels of small gradients first.

    A point on the path is a number for each voxel: 0 at the baseline, 1 at the image.

    Args:
        start: The baseline, ``(1, C, *S)``.
        end: The image, ``(1, C, *S)``.
        fraction: Share of the voxels, those with the smallest gradients, that move at a time.
        most_ahead: Largest difference of a voxel's number from the share of the whole path.
    """

    def __init__(self, start: Tensor, end: Tensor, fraction: float, most_ahead: float) -> None:
        self._start = start.double()
        self._way = end.double() - self._start
        self._length = self._way.abs()
        self._whole = float(self._length.sum())
        self._shares = torch.zeros_like(self._way)
        self._rank = int(fraction * (self._way.numel() - 1)) + 1
        self._most_ahead = most_ahead

    def image(self) -> Tensor:
        """The image at the current point, ``(1, C, *S)`` in float32."""
        return (self._start + self._way * self._shares).float()

    def advance(self, gradient: Tensor, share: float) -> Tensor:
        """Moves on until this share of the whole path (in L1) is done.

        Args:
            gradient: Gradient at the current point, ``(1, C, *S)``.
            share: In (0, 1], larger than at the last call.

        Returns:
            The gradient times the change of each voxel, ``(1, C, *S)`` in float64.
        """
        before = self._shares.clone()
        least, most = max(share - self._most_ahead, 0.0), min(share + self._most_ahead, 1.0)
        self._shares.clamp_(min=least)
        steepness = gradient.double().abs()
        while True:
            left = float((self._length * (1 - self._shares)).sum()) - self._whole * (1 - share)
            free = (self._shares < most) & (self._length > 0)
            if left <= _ROUNDING * self._whole or not bool(free.any()):
                break
            limit = steepness.masked_fill(~free, torch.inf).flatten().kthvalue(self._rank).values
            chosen = free & (steepness <= limit)
            possible = float((self._length * (most - self._shares))[chosen].sum())
            if possible > left:
                moved = torch.lerp(self._shares, self._shares.new_tensor(most), left / possible)
                self._shares = torch.where(chosen, moved, self._shares)
                break
            self._shares.masked_fill_(chosen, most)
        return gradient.double() * self._way * (self._shares - before)


@dataclass(frozen=True)
class GuidedIntegratedGradients(BaselinePathMethod):
    """Integrated gradients on a path that depends on the network.

    At each step the voxels with the smallest gradients move towards the image; no voxel may be
    far ahead of or behind the straight line. This reduces the influence of large gradients in
    saturated regions. Each step depends on the one before, so no partial map is published and
    images are not computed in batches.
    """

    name: ClassVar[str] = "guided-ig"
    family: ClassVar[str] = "path"
    title: ClassVar[str] = "Guided integrated gradients"
    source: ClassVar[str] = (
        "Kapishnikov et al. 2021 with a bound on the distance to the straight line as in "
        "saliency.core.GuidedIG, whose result it equals, summed over the channels"
    )

    steps: int = parameter(
        200, "Number of steps on the path, one gradient each.", minimum=1, maximum=10_000
    )
    fraction: float = parameter(
        0.25,
        "Fraction of the voxels that move at a time, those with the smallest gradients.",
        minimum=0.0,
        maximum=1.0,
    )
    max_distance: float = parameter(
        0.02,
        "How far a voxel may be ahead of or behind the straight line, as a fraction of its total "
        "change; 0 gives integrated gradients.",
        minimum=0.0,
        maximum=1.0,
    )

    def raw(self, task: Task) -> Tensor:
        """The map for each channel, ``(C, *S)`` in float64.

        Raises:
            InputError: Background images are needed and were not given, or do not fit.
        """
        image, start = plain(task.input), self.start(task)
        network, total = self.watched(task.network), self.forward_passes(task)
        path = _AdaptivePath(start, image, self.fraction, self.max_distance)
        values = torch.zeros(image.shape[1:], dtype=torch.float64, device=image.device)

        def compute(_: range) -> Tensor:
            return input_gradients(network, path.image(), task.target, task.precision)

        with untouched(task.network):
            for indices, gradient in in_stages(
                task, [1] * self.steps, compute, gradient=True, total=total
            ):
                values += path.advance(gradient, indices.stop / self.steps)[0]
            record_completeness(task, values, *target_outputs(network, (image, start), task.target))
            task.progress(total, total)
        return values

    def forward_passes(self, task: Task) -> float:
        """A forward and a backward pass for each step, and one for each of the two ends."""
        check_baseline(task, self.baseline, self.name)
        return GRADIENT_COST * self.steps + 2
