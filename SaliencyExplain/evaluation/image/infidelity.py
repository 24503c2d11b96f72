"""Infidelity: difference between the drop of the score when boxes are removed and the map."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.evaluation.image.evaluation_passes import probabilities_of_images
from SaliencyExplain.evaluation.image.removal_baselines import Baseline
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.results.map_faithfulness import Infidelity

#: Numbers of parts of each axis, by the number of axes: halves and quarters, in 2D also eighths.
#: The boxes of a size fill the image, so that each position is removed once at each size. Random
#: boxes would rarely cover something small or in a corner, such as a tumour or a burnt-in mark.
PARTS = {2: (2, 4, 8), 3: (2, 4)}

Box = tuple[slice, ...]


class InfidelityMaker:
    """Removes boxes once and compares the drops with any number of maps.

    The perturbation is the "square removal" of Yeh et al. 2019, in 3D with boxes. The prediction
    of a map is the sum of its values in a box; scaling allows maps of any unit.

    Args:
        task: Network, image and target.
        baseline: The image that replaces a removed box, in all channels.
    """

    def __init__(self, task: Task, baseline: Baseline) -> None:
        self._task = task
        self._baseline = baseline
        self.boxes = boxes_of(tuple(task.input.shape[2:]))
        self.drops = np.zeros(0)

    @property
    def words(self) -> str:
        """Description of the removed boxes for display."""
        sides = [
            voxels * mm for voxels, mm in zip(self._task.input.shape[2:], self._task.spacing,
                                              strict=True)
        ]  # fmt: skip
        sizes = " and ".join(
            " x ".join(f"{side / parts:.3g}" for side in sides) + f" {self._task.length_unit}"
            for parts in PARTS[len(sides)]
        )
        return f"{len(self.boxes)} boxes of {sizes}, replaced by {self._baseline.words}"

    def prepare(self, progress: Progress = silent) -> None:
        """Computes the drops of the target's probability; call it once, before any map.

        Raises:
            DeviceMemoryError: Memory is exhausted with a single image.
            Cancelled: Out of ``progress``.
        """
        image, target = plain(self._task.input)[0], self._task.target

        def build(index: int) -> Tensor:
            changed = image.clone()
            where = (slice(None), *self.boxes[index])
            changed[where] = self._baseline.values[where]
            return changed

        found = probabilities_of_images(self._task, len(self.boxes), build, progress)
        self.drops = self._baseline.original[target] - found[:, target]

    def of(self, values: NDArray[np.floating]) -> Infidelity:
        """The infidelity of a map ``(*S)`` on the network's grid; see :func:`infidelity`."""
        said = [float(values[box].sum(dtype=np.float64)) for box in self.boxes]
        return infidelity(np.array(said), self.drops)


def infidelity(said: NDArray[np.float64], drops: NDArray[np.float64]) -> Infidelity:
    """The infidelity of a map with its optimal scale.

    Yeh et al. 2019, On the (in)fidelity and sensitivity of explanations, definition 2.1, with
    the scale that is optimal for the map. It equals ``captum.metrics.infidelity(normalize=True)``
    with the masks of the removed boxes as perturbations if the scale is positive. Captum allows a
    negative scale, which would make a map of evidence against the class as faithful as one for
    it; here the scale is at least 0.

    Args:
        said: For each perturbation the sum of the map over the removed box, ``(N,)``.
        drops: Drops of the target's probability, ``(N,)``.
    """
    square, own = float(np.mean(drops**2)), float(np.mean(said**2))
    scale = max(0.0, float(np.mean(said * drops)) / own) if own > 0 else 0.0
    value = float(np.mean((scale * said - drops) ** 2))
    # Rounding gives drops of about 1e-8 where nothing changes.
    if square < 1e-12:
        remark = "no removed box changes the classifier's output"
        return Infidelity(value, math.nan, scale, remark)
    return Infidelity(value, min(1.0, value / square), scale)


def boxes_of(shape: tuple[int, ...]) -> tuple[Box, ...]:
    """The boxes of a grid; for each of :data:`PARTS` they fill it without overlap.

    An axis with fewer voxels than parts is divided into single voxels.
    """
    boxes: list[Box] = []
    for parts in PARTS[len(shape)]:
        axes = []
        for voxels in shape:
            edges = np.linspace(0, voxels, min(parts, voxels) + 1).round().astype(int).tolist()
            axes.append([slice(*pair) for pair in itertools.pairwise(edges)])
        boxes += itertools.product(*axes)
    return tuple(boxes)


def passes_of_boxes(shape: tuple[int, ...]) -> float:
    """Forward passes that the infidelity of all maps of an image shares."""
    return float(len(boxes_of(shape)))
