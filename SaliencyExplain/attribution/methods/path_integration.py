"""Base of the methods that integrate the gradient along a path to the image.

The value of a voxel is the integral of the score's gradient with respect to it along its change.
By the gradient theorem the values of all voxels and channels add up to the score of the image
minus that of the path's start (completeness). The error of the sum measures how well the
integral is approximated, and is recorded with the map.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.baseline_method import BaselineMethod
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.passes.watched_output import LEAST
from SaliencyExplain.progress import may_stop
from SaliencyExplain.specification.parameters import parameter

#: Largest number of points on a path; computing the quadrature of so many takes seconds.
MOST_STEPS = 1000

#: Quadrature rules.
RULES = ("gausslegendre", "riemann-middle", "riemann-left", "riemann-right")


class _ProbabilityNetwork(ScoreNetwork):
    """The same classifier with its probabilities in place of the scores."""

    def __init__(self, network: ScoreNetwork) -> None:
        super().__init__(
            network.network,
            network.activation,
            one_logit=network.one_logit,
            output=network.output,
            independent=network.independent,
        )
        self.combination = network.combination
        self.examined, self.repeatability = network.examined, network.repeatability

    def forward(self, images: Tensor) -> Tensor:
        """Class probabilities, shape ``(B, K)``."""
        return self.probabilities(super().forward(images))


@dataclass(frozen=True)
class PathMethod(Method):
    """A method whose map is an integral of the gradient, summed over the channels.

    Voxels equal to the baseline have the value 0. The sum over the channels keeps completeness:
    the map's values add up to the difference of the watched output.
    """

    signed: ClassVar[bool] = True
    lower_precision: ClassVar[bool] = True
    per_channel: ClassVar[bool] = True

    output: str = parameter(
        "score",
        "Output that is explained: the target's score before the activation, or its probability.",
        choices=("score", "probability"),
    )

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; the values add up to the change of the output."""
        values = self.raw(task)
        if self.output == "probability" and float(values.abs().max()) < LEAST:
            score = dataclasses.replace(self, output="score").raw(task)
            if float(score.abs().max()) > 0:
                task.record({"output": "score"})
                task.note(
                    "The target's probability is the same at the baseline and at the image. The "
                    "map shows the target's score before the activation instead (output=score)."
                )
                values = score
        return over_channels(values)

    @abstractmethod
    def raw(self, task: Task) -> Tensor:
        """The map for each channel, ``(C, *S)`` in float64."""

    def watched(self, network: ScoreNetwork) -> ScoreNetwork:
        """The network whose output for the target is integrated."""
        return network if self.output == "score" else _ProbabilityNetwork(network)


@dataclass(frozen=True)
class BaselinePathMethod(BaselineMethod, PathMethod):
    """A path method with one baseline."""


def over_channels(values: Tensor) -> dict[str, Tensor]:
    """The sum of the channels' signed maps ``(C, *S)`` as one map."""
    return {"": values.sum(dim=0).float()}


def quadrature(rule: str, steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points in [0, 1] and weights; the weighted mean approximates the mean over [0, 1].

    The points are ordered so that any first few of them are spread over the whole interval;
    their weighted mean is already an estimate.

    Args:
        rule: One of :data:`RULES`, which are defined as in captum.
        steps: Number of points.

    Returns:
        Points and weights, ``(steps,)`` each; the weights add up to 1.
    """
    if rule == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        places, weights = (nodes + 1) / 2, weights / 2
    else:
        shift = {"riemann-left": 0.0, "riemann-middle": 0.5, "riemann-right": 1.0}[rule]
        places, weights = (np.arange(steps) + shift) / steps, np.full(steps, 1 / steps)
    order = np.argsort([_reversed_bits(index) for index in range(steps)], kind="stable")
    # Ranks in bit-reversed order visit halves, then quarters, then eighths.
    return places[order], weights[order]


def _reversed_bits(index: int) -> float:
    """The van der Corput number of base 2, in [0, 1)."""
    value, unit = 0.0, 0.5
    while index:
        value += unit * (index & 1)
        index, unit = index >> 1, unit / 2
    return value


def images_between(start: Tensor, end: Tensor, shares: NDArray[np.float64]) -> Tensor:
    """Images on the straight line from one image to another.

    Args:
        start: ``(1, C, *S)``.
        end: ``(1, C, *S)``.
        shares: Positions on the line, ``(B,)`` in [0, 1].

    Returns:
        ``(B, C, *S)``.
    """
    return torch.cat([torch.lerp(start, end, float(share)) for share in shares])


def target_outputs(network: ScoreNetwork, images: Sequence[Tensor], target: int) -> list[float]:
    """The target's output for each of the images ``(1, C, *S)``, one forward pass each."""
    outputs = []
    with torch.no_grad():
        for image in images:
            may_stop()
            outputs.append(float(network(image)[0, target]))
    return outputs


def record_completeness(task: Task, attributed: Tensor, at_image: float, at_start: float) -> None:
    """Records the sum of the map and the change of the output, which it should equal.

    The outputs are computed in float32 whatever the precision of the gradients, so that the
    error includes that of a lower precision.

    Args:
        task: Its ``record`` receives the numbers.
        attributed: The map for each channel.
        at_image: The output at the path's end; for several paths the mean.
        at_start: The output at the path's start; for several paths the mean.
    """
    change, total = at_image - at_start, float(attributed.double().sum())
    task.record(
        {
            "output_of_image": at_image,
            "output_of_baseline": at_start,
            "sum_of_map": total,
            "completeness_error": total - change,
            "completeness_error_share": abs(total - change) / abs(change) if change else None,
        }
    )
