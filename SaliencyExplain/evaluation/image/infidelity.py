"""Infidelity: how far a map is from telling what the classifier loses with a place."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.evaluation.image.evaluation_passes import probabilities_of_images
from SaliencyExplain.evaluation.image.removal_baselines import Baseline
from SaliencyExplain.progress import Progress, silent

#: Into how many parts each axis is cut, by the number of axes: halves and quarters, in 2D
#: eighths too. The boxes of a cut fill the image, so that each place is taken away once at
#: each size: random boxes of a forward pass each would seldom meet what is small or lies in
#: a corner, as a tumour and a burnt-in mark do.
PARTS = {2: (2, 4, 8), 3: (2, 4)}

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Infidelity:
    """How far a map is from what the classifier loses.

    Attributes:
        value: Mean square of the difference between the target's drop and what the map says,
            the map multiplied by ``scale``; squared probability, at least 0.
        share: ``value`` over the mean square of the drops, [0, 1]: 0 tells every drop, 1
            tells no more than a map of zeros; NaN where no box moves the probability.
        scale: What the map is multiplied by, at least 0, probability per unit of the map's
            sum over a box.
        remark: Why the share is undefined; empty otherwise.
    """

    value: float
    share: float
    scale: float
    remark: str = ""


class InfidelityMaker:
    """Takes boxes away once, and holds the drops against any number of maps.

    The perturbation is the "square removal" of Yeh et al. 2019, in 3D with boxes, and a map
    says the sum of its values in a box. So maps of any unit can be held against the drops.

    Args:
        task: Network, image and target.
        baseline: What stands where a box was taken away, in all channels.
    """

    def __init__(self, task: Task, baseline: Baseline) -> None:
        self._task = task
        self._baseline = baseline
        self.boxes = boxes_of(tuple(task.input.shape[2:]))
        self.drops = np.zeros(0)

    @property
    def words(self) -> str:
        """What is taken away, for people."""
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
        """Computes the drops of the target's probability; to be called once, before any map.

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
    """The infidelity of a map with the best scale that it may have.

    Yeh et al. 2019, On the (in)fidelity and sensitivity of explanations, definition 2.1, with
    the scale that is best for the map; equals ``captum.metrics.infidelity(normalize=True)``
    with the masks of what is taken away as perturbations, wherever its scale is positive.
    Theirs may be negative, and a map of what speaks against the class would be as faithful as
    one of what speaks for it; here it is at least 0.

    Args:
        said: For each perturbation the sum of the map over what is taken away, ``(N,)``.
        drops: By how much the target's probability falls, ``(N,)``.
    """
    square, own = float(np.mean(drops**2)), float(np.mean(said**2))
    scale = max(0.0, float(np.mean(said * drops)) / own) if own > 0 else 0.0
    value = float(np.mean((scale * said - drops) ** 2))
    # Rounding leaves drops of some 1e-8 where nothing changes.
    if square < 1e-12:
        remark = "no removed box changes the classifier's output"
        return Infidelity(value, math.nan, scale, remark)
    return Infidelity(value, min(1.0, value / square), scale)


def boxes_of(shape: tuple[int, ...]) -> tuple[Box, ...]:
    """The boxes of a grid: for each of :data:`PARTS` they fill it without overlap.

    An axis with fewer voxels than parts is cut between all of its voxels.
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
    """Forward passes that serve the infidelity of all maps of an image."""
    return float(len(boxes_of(shape)))
