"""Baselines that replace removed voxels: the image without the features of the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.evaluation.image.evaluation_passes import probabilities_of_images
from SaliencyExplain.progress import Progress, silent

#: Standard deviations of the blur, mm, in order: from the size of a small lesion to half of a
#: head. A fixed one would leave a large tumour as a bright blob, or remove more than needed.
BLURS_MM = (10.0, 20.0, 40.0, 80.0)

#: A baseline is accepted if the class has lost this share of its probability.
ENOUGH_LOST = 0.5

#: Forward passes of the choice: the image, the blurred ones, the mean.
CHOICE_PASSES = 2 + len(BLURS_MM)


@dataclass(frozen=True)
class Baseline:
    """The image that replaces removed voxels.

    Attributes:
        values: ``(C, *S)``, on the device of the task.
        words: Description for display.
        original: Class probabilities ``(K,)`` of the unchanged image.
        probabilities: Class probabilities ``(K,)`` of the baseline.
    """

    values: Tensor
    words: str
    original: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def choose_baseline(task: Task, progress: Progress = silent) -> Baseline:
    """The least blurred image in which the target has lost half of its probability.

    A Gaussian blur with the first standard deviation of :data:`BLURS_MM` that suffices, else
    each channel's mean; if none suffices, the one with the lowest probability. A blurred image is
    closer to the training data than one with constant holes.

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
        return infill_of(image, fill, task.spacing, blur_mm=sigma).place(corner, everywhere)

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
