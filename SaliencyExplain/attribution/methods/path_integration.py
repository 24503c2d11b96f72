"""What methods have in common that integrate the gradient along a path to the image.

Each voxel gets the integral of the score's gradient with respect to it, times the way that
it goes. By the gradient theorem the values of all voxels and channels add up to the score
of the image minus that of the path's start (completeness); how far the sum is off says how
good the approximation of the integral is, and is recorded beside the map.
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
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.parameters import LARGEST_MM, LARGEST_VALUE, parameter
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.passes.watched_output import LEAST
from SaliencyExplain.attribution.perturbation.baselines import BASELINES, baseline_image
from SaliencyExplain.attribution.perturbation.infill import automatic_blur_mm
from SaliencyExplain.progress import may_stop

#: Places on a path at which a gradient may be taken: the quadrature of so many takes seconds.
MOST_STEPS = 1000

#: The rules by which an integral becomes a sum.
RULES = ("gausslegendre", "riemann-middle", "riemann-left", "riemann-right")


class _ProbabilityNetwork(ScoreNetwork):
    """The same classifier with its probabilities in the place of the scores."""

    def __init__(self, network: ScoreNetwork) -> None:
        super().__init__(
            network.network,
            network.activation,
            one_logit=network.one_logit,
            output=network.output,
            independent=network.independent,
        )
        self.examined, self.repeatability = network.examined, network.repeatability

    def forward(self, images: Tensor) -> Tensor:
        """Class probabilities, shape ``(B, K)``."""
        return self.probabilities(super().forward(images))


@dataclass(frozen=True)
class PathMethod(Method):
    """A method whose map is an integral of the gradient, summed over the channels.

    Voxels that are as in the baseline get 0. The sum over the channels keeps completeness:
    the map's voxels together make the difference of the watched output.
    """

    signed: ClassVar[bool] = True
    lower_precision: ClassVar[bool] = True
    per_channel: ClassVar[bool] = True

    output: str = parameter(
        "score",
        "What is watched: the target's score before the activation, or its probability.",
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
                    "The target's probability does not move on the way from the baseline: the map "
                    "shows the target's score before the activation instead (output=score)."
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
class BaselinePathMethod(PathMethod):
    """A path method that starts at one baseline."""

    asks: ClassVar[tuple[str, ...]] = ("backgrounds",)

    baseline: str = parameter(
        "minimum",
        "Where the path starts: the image's minimum (black) or mean per channel, `value`, the "
        "blurred image, or the mean of the background images.",
        choices=BASELINES,
    )
    value: float = parameter(
        0.0,
        "The constant for baseline=value, in the units of the classifier's prepared input.",
        minimum=-LARGEST_VALUE,
        maximum=LARGEST_VALUE,
    )
    blur_mm: float = parameter(
        0.0,
        "Standard deviation of the Gaussian filter for baseline=blur.",
        unit="mm",
        minimum=0.0,
        maximum=LARGEST_MM,
        automatic="a sixteenth of the image's longest side",
    )

    def resolved(self, task: Task) -> Method:
        """With the blur in millimetres that this image gets."""
        if self.baseline != "blur" or self.blur_mm:
            return self
        blur_mm = automatic_blur_mm(task.input.shape[2:], task.spacing)
        return dataclasses.replace(self, blur_mm=blur_mm)

    def start(self, task: Task) -> Tensor:
        """The baseline, ``(1, C, *S)``.

        Raises:
            InputError: Background images are needed and were not given, or do not fit.
        """
        return baseline_image(
            task, self.baseline, value=self.value, blur_mm=self.blur_mm, method=self.name
        )


def over_channels(values: Tensor) -> dict[str, Tensor]:
    """One map of the signed ones of the channels ``(C, *S)``: their sum."""
    return {"": values.sum(dim=0).float()}


def quadrature(rule: str, steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places in [0, 1] and their weights: the weighted mean approximates a mean over [0, 1].

    The places are ordered so that any first few of them lie all over the interval: the
    weighted mean of those is an estimate already.

    Args:
        rule: One of :data:`RULES`; the four are those of captum.
        steps: Number of places.

    Returns:
        Places and weights, ``(steps,)`` each, the weights with the sum 1.
    """
    if rule == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        places, weights = (nodes + 1) / 2, weights / 2
    else:
        shift = {"riemann-left": 0.0, "riemann-middle": 0.5, "riemann-right": 1.0}[rule]
        places, weights = (np.arange(steps) + shift) / steps, np.full(steps, 1 / steps)
    order = np.argsort([_reversed_bits(index) for index in range(steps)], kind="stable")
    # Ranks in the order of the reversed bits visit halves, quarters, eighths in turn.
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
        shares: Of the way, ``(B,)`` in [0, 1].

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
    """Records what the map adds up to, and what it should: the change of the output.

    The outputs are computed in float32 whatever the precision of the gradients, so that the
    error holds what a lower one costs.

    Args:
        task: Its ``record`` is told.
        attributed: The map for each channel.
        at_image: The output at the path's end; of several paths the mean.
        at_start: The output at the path's start; of several paths the mean.
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
