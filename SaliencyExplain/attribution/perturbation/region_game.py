"""Regions of an image as players of a cooperative game whose value is the score."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.progress import may_stop

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]

#: Regions that the automatic size aims at: with twenty times as many forward passes each has
#: an interval, and a lesion of a few centimetres in a head is some of them.
REGIONS = 50

#: What putting a region's substitute in place takes for each voxel of the image, s: processor time
#: of one thread by 31 to 63 regions, 4.4e-9 to 8.2e-9 in volumes of 77,000 to 2 million
#: voxels, 3e-9 to 15e-9 in pictures. With fill=inpaint some 2e-6 a voxel more for all of them.
_SECONDS_PER_VOXEL = 7e-9

#: Largest number of combinations of regions.
MOST_SAMPLES = 50_000
#: Regions of an image that may be weighed against each other: to solve for more takes minutes, and
#: cannot be stopped.
MOST_REGIONS = 1000
#: Combinations times regions that are kept, a byte each, and eight while they are weighed.
_LARGEST_TABLE = 20_000_000

#: Name of what lies outside of all segments.
ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Region:
    """A part of the image that is there or not.

    Attributes:
        name: The segment's name, or ``region`` and its label.
        label: Its number in the label map; 0 for what lies outside of all segments.
        voxels: How many voxels of the network's grid it has.
        player: Its column in the game; None: removing it would change no voxel.
    """

    name: str
    label: int
    voxels: int
    player: int | None


@dataclass(frozen=True)
class Estimate:
    """What each player counts.

    Attributes:
        values: ``(players,)``.
        errors: Half of each confidence interval's width, ``(players,)``; 0 for exact values,
            NaN where there were too few samples to tell.
    """

    values: Floats
    errors: Floats


class RegionGame:
    """The image with some of its regions; the others are replaced by the fill.

    Each region has its own substitute, whatever else is removed, as in LIME and kernel SHAP.

    Args:
        task: Network, image and target.
        labels: ``(*S)`` int64, on the CPU.
        names: Name of each label that is a region, in the order of the record.
        fill: One of the fills.
        value: The constant for ``fill="value"``.

    Attributes:
        regions: All regions, those without a voxel too.
        players: Number of regions whose removal changes the image.
    """

    def __init__(
        self,
        task: Task,
        labels: Tensor,
        names: dict[int, str],
        *,
        fill: str,
        value: float,
    ) -> None:
        self._task = task
        self._image = plain(task.input)
        infill = infill_of(self._image, fill, task.spacing, value=value, seed=task.seed)
        self._substitute = self._image[0].clone()
        # Voxels of no player point behind the last one, which is always there.
        place = torch.full(labels.shape, len(names), dtype=torch.int64)
        self.regions: list[Region] = []
        self.players = 0
        if len(names) > MOST_REGIONS + 1:
            raise InputError(
                ErrorCode.REGIONS,
                f"Regions: the image has {len(names)}, and the limit is {MOST_REGIONS}. Give a "
                "larger size (size_mm), or fewer segments.",
            )
        for label, name in names.items():
            may_stop()
            inside = labels == label
            voxels = int(inside.sum())
            player = None
            if voxels and self._replace(inside, infill.place):
                player, self.players = self.players, self.players + 1
                place[inside] = player
            self.regions.append(Region(name, label, voxels, player))
        self._labels = labels
        self._place = place.clamp(max=self.players).to(self._image.device)

    def scores(self, present: Masks) -> Tensor:
        """The scores ``(B, K)`` of images with these regions.

        Args:
            present: ``(B, players)``, true where a region is there.
        """
        given = torch.from_numpy(np.pad(present, ((0, 0), (0, 1)), constant_values=True))
        kept = given.to(self._place.device)[:, self._place]
        images = torch.where(kept[:, None], self._image, self._substitute)
        with torch.no_grad():
            return self._task.network(images)

    def painted(self, values: Floats) -> Tensor:
        """A map with each player's value shared by its voxels, ``(*S)``; others have 0.

        The voxels of a region add up to its value. With the whole value in each of them, all
        that lies outside of the segments would glow as bright as a tumour that counts as much.
        """
        sizes = [region.voxels for region in self.regions if region.player is not None]
        table = torch.from_numpy(np.append(values / np.array(sizes, dtype=float), 0.0)).float()
        return table.to(self._place.device)[self._place]

    def figures(self, estimate: Estimate) -> list[dict[str, object]]:
        """For the record, of each region its value and interval; None where there is none."""
        found: list[dict[str, object]] = []
        for region in self.regions:
            value = error = 0.0
            if region.player is not None:
                value = float(estimate.values[region.player])
                error = float(estimate.errors[region.player])
            known = region.voxels > 0
            sure = known and bool(np.isfinite(error))
            found.append(
                {
                    "name": region.name,
                    "label": region.label,
                    "value": value if known else None,
                    "low": value - error if sure else None,
                    "high": value + error if sure else None,
                    "voxels": region.voxels,
                }
            )
        return found

    def _replace(self, inside: Tensor, infill: Callable[[Sequence[int], Tensor], Tensor]) -> bool:
        """Puts a region's substitute in place; whether any voxel changes."""
        spans = []
        for axis in range(inside.ndim):
            others = tuple(other for other in range(inside.ndim) if other != axis)
            along = inside.any(dim=others) if others else inside
            filled = torch.nonzero(along).flatten()
            spans.append(slice(int(filled[0]), int(filled[-1]) + 1))
        removed = inside[tuple(spans)].to(self._image.device)
        where = (slice(None), *spans)
        box = self._substitute[where]
        new = torch.where(removed, infill([span.start for span in spans], removed), box)
        changed = bool((new != box).any())
        self._substitute[where] = new
        return changed


class Plan(ABC):
    """Combinations of regions, in an order that does not depend on batches.

    Attributes:
        count: How many.
        least: How many it takes for a first map.
        estimator: What it does, for the record.
    """

    count: int
    least: int
    estimator: str

    @abstractmethod
    def present(self, index: int) -> Masks:
        """Which regions are there, ``(players,)``."""

    @abstractmethod
    def estimate(self, outputs: Floats, confidence: float, until: float = math.inf) -> Estimate:
        """Values and intervals from the outputs of the first so many combinations.

        Args:
            outputs: Of the combinations.
            confidence: Level of the intervals.
            until: Reading of ``time.perf_counter()`` from which on nothing more is computed for
                the intervals; those that are not known then are NaN.
        """

    def figures(self, outputs: Floats) -> dict[str, float]:
        """More for the record, from the same outputs.

        Here of a plan whose first two combinations are those of all regions and of none.
        """
        return {"output_with_all": float(outputs[0]), "output_with_none": float(outputs[1])}


def check_table(combinations: int, players: int) -> None:
    """Raises InputError if the combinations of regions exceed the limit of memory.

    Raises:
        InputError: There are too many.
    """
    if combinations * players > _LARGEST_TABLE:
        raise InputError(
            ErrorCode.MEMORY,
            f"Samples: {combinations:,} combinations of {players} regions exceed the limit of "
            f"memory. Give at most {_LARGEST_TABLE // players:,}, or larger regions.",
        )


def quantile(confidence: float) -> float:
    """How many standard errors half of a two-sided interval is."""
    # Imported here, because methods are listed without scipy installed.
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))
