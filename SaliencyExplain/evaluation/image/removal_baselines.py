"""What stands where a voxel is taken away: the image without what the class is known by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import filling
from SaliencyExplain.evaluation.image.evaluation_passes import probabilities_of_images
from SaliencyExplain.progress import Progress, silent

#: Standard deviations of the blur that are tried in this order, mm: from a small lesion's
#: size to half a head's. A fixed one would either leave a large tumour as a bright blob or
#: wipe out more than is needed.
BLURS_MM = (10.0, 20.0, 40.0, 80.0)

#: A baseline is taken where the class has lost this share of its probability.
ENOUGH_LOST = 0.5

#: Forward passes that the choice costs: the image, the blurred ones, the mean.
CHOICE_PASSES = 2 + len(BLURS_MM)


@dataclass(frozen=True)
class Baseline:
    """The image that shows through where voxels are taken away.

    Attributes:
        values: ``(C, *S)``, on the device of the task.
        words: What it is, for people.
        original: Class probabilities ``(K,)`` of the image as it is.
        probabilities: Class probabilities ``(K,)`` of the baseline.
    """

    values: Tensor
    words: str
    original: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def choose_baseline(task: Task, progress: Progress = silent) -> Baseline:
    """The least blurred image that has lost half of the target's probability.

    A Gaussian blur, its standard deviation the first of :data:`BLURS_MM` that suffices, else
    each channel's mean; where none suffices, the one with the lowest probability. A blurred
    image is nearer to what the network was trained on than one with constant holes.

    Raises:
        DeviceMemoryError: Memory is exhausted with a single image.
        Cancelled: Out of ``progress``.
    """
    image = plain(task.input)
    everywhere = torch.ones(image.shape[2:], dtype=torch.bool, device=image.device)
    corner = (0,) * everywhere.ndim
    unit = task.length_unit
    fills = [("blur", sigma, f"the image blurred with {sigma:g} {unit}") for sigma in BLURS_MM]
    fills.append(("mean", 0.0, "each channel's mean"))

    def substitute(index: int) -> Tensor:
        fill, sigma, _ = fills[index]
        return filling(image, fill, task.spacing, blur_mm=sigma).place(corner, everywhere)

    def build(index: int) -> Tensor:
        return image[0] if index == 0 else substitute(index - 1)

    found = probabilities_of_images(task, 1 + len(fills), build, progress)
    original, lost = found[0], found[1:, task.target]
    enough = np.flatnonzero(lost <= (1 - ENOUGH_LOST) * original[task.target])
    chosen = int(enough[0]) if enough.size else int(np.argmin(lost))
    return Baseline(
        values=substitute(chosen).contiguous(),
        words=fills[chosen][2],
        original=original,
        probabilities=found[1 + chosen],
    )
