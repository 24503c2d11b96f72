"""Regions of an image as players of a game: which of them are there, and what the score is."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.method import LARGEST_MM, LARGEST_VALUE, Method, Task, parameter
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.anytime import GrowingMap
from SaliencyExplain.attribution.passes.batches import in_batches
from SaliencyExplain.attribution.passes.watched_output import Watched
from SaliencyExplain.attribution.perturbation.infill import filling
from SaliencyExplain.attribution.perturbation.infill_choices import FILLS, FILLS_HELP
from SaliencyExplain.attribution.perturbation.supervoxels import (
    SECONDS_AS_IN_LIME,
    quickshift_as_in_lime,
    seconds_to_find,
    size_for,
    supervoxels,
)
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

#: Combinations of regions that may be asked for.
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
    """The image with some of its regions, the others replaced by the fill.

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
        infill = filling(self._image, fill, task.spacing, value=value, seed=task.seed)
        self._substitute = self._image[0].clone()
        # Voxels of no player point behind the last one, which is always there.
        place = torch.full(labels.shape, len(names), dtype=torch.int64)
        self.regions: list[Region] = []
        self.players = 0
        if len(names) > MOST_REGIONS + 1:
            raise InputError(
                ErrorCode.REGIONS,
                f"The image is divided into {len(names)} regions, and at most {MOST_REGIONS} can "
                "be weighed against each other: give a larger size (size_mm), or fewer segments.",
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

    @abstractmethod
    def figures(self, outputs: Floats) -> dict[str, float]:
        """More for the record, from the same outputs."""


@dataclass(frozen=True)
class RegionMethod(Method):
    """A method that tells of each region what it counts for the target's output."""

    signed: ClassVar[bool] = True
    family: ClassVar[str] = "surrogate"
    asks: ClassVar[tuple[str, ...]] = ("segmentation",)
    parts: ClassVar[str] = "samples"

    regions: str = parameter(
        "supervoxels",
        "What is weighed: supervoxels (SLIC); in 2D also quickshift, the regions of LIME's image "
        "explainer (kernel_size 4, max_dist 200, ratio 0.2); or the segments of the given "
        "segmentation, with what lies outside of all of them as one more.",
        choices=("supervoxels", "quickshift", "segments"),
    )
    size_mm: float = parameter(
        0.0,
        "Side of a supervoxel; quickshift has none.",
        unit="mm",
        minimum=0.0,
        maximum=LARGEST_MM,
        automatic=f"such that there are about {REGIONS}",
    )
    fill: str = parameter(
        "mean", f"What stands in a region that is taken away: {FILLS_HELP}.", choices=FILLS
    )
    value: float = parameter(
        0.0,
        "The constant for fill=value, in the units of the classifier's prepared input.",
        minimum=-LARGEST_VALUE,
        maximum=LARGEST_VALUE,
    )
    output: str = parameter(
        "probability",
        "What is watched: the target's probability, or its score before the activation.",
        choices=("probability", "score"),
    )
    confidence: float = parameter(
        0.95, "Level of each region's confidence interval.", minimum=0.5, maximum=0.999
    )

    def resolved(self, task: Task) -> Method:
        """With the size in millimetres that this image's supervoxels get."""
        if self.regions != "supervoxels" or self.size_mm:
            return self
        size = size_for(plain(task.input)[0], task.spacing, REGIONS)
        return dataclasses.replace(self, size_mm=size)

    def game(self, task: Task) -> RegionGame:
        """The regions of this image.

        Raises:
            InputError: Segments are wanted and none were given, or all of them lie outside of
                what the network sees.
        """
        if self.regions == "segments":
            labels, names = self._segments(task)
        else:
            labels = self._divided(task)
            names = {label: f"region {label}" for label in range(1, int(labels.max()) + 1)}
        return RegionGame(task, labels, names, fill=self.fill, value=self.value)

    def _divided(self, task: Task) -> Tensor:
        """The regions of the image, labels from 1."""
        image = plain(task.input)[0]
        if self.regions == "quickshift":
            return quickshift_as_in_lime(image)
        size = self.size_mm or size_for(image, task.spacing, REGIONS)
        return supervoxels(
            image,
            task.spacing,
            size_mm=size,
            length_unit=task.length_unit,
            most=MOST_REGIONS,
        )

    def _segments(self, task: Task) -> tuple[Tensor, dict[int, str]]:
        if task.regions is None or not task.region_names:
            raise InputError(
                ErrorCode.SEGMENTATION_MISSING,
                f"{self.name}.regions=segments weighs the segments of a segmentation, and none was "
                "given: give a segmentation (-s).",
            )
        labels = task.regions
        if labels.shape != task.input.shape[2:]:
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"The segmentation has {tuple(labels.shape)} voxels on the network's grid and the "
                f"image {tuple(task.input.shape[2:])}; they must be the same.",
            )
        if not bool((labels > 0).any()):
            raise InputError(
                ErrorCode.SEGMENTATION_EMPTY,
                "No segment of the segmentation has a voxel in what the network sees of the image.",
            )
        names = {index + 1: name for index, name in enumerate(task.region_names)}
        return labels, {**names, 0: ELSEWHERE}

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; the voxels of a region add up to its value.

        The value, confidence interval and size of each region are recorded.
        """
        game = self.game(task)
        plan = self.plan(task, game.players)
        both = np.full((plan.count, 2), np.nan)
        growing, watched, done = GrowingMap(task), Watched(task, self.output), 0

        def compute(indices: range) -> Tensor:
            present = np.stack([plan.present(index) for index in indices])
            return watched.outputs(game.scores(present))

        def outputs() -> Floats:
            return both[:done, watched.column]

        def so_far() -> dict[str, Tensor]:
            return {"": game.painted(plan.estimate(outputs(), self.confidence, -math.inf).values)}

        with untouched(task.network):
            for indices, found in in_batches(
                task, plan.count, compute, gradient=False, total=float(plan.count)
            ):
                done = indices.stop
                both[indices.start : done] = found.numpy()
                watched.see(found.numpy())
                if done >= plan.least and growing.is_enough(done / plan.count, so_far):
                    break
        whole = (index for index in range(done) if plan.present(index).all())
        watched.tell(both[next(whole, 0)])
        estimate = plan.estimate(outputs(), self.confidence, task.deadline)
        task.record(
            {
                "regions": game.figures(estimate),
                "estimator": plan.estimator,
                "confidence": self.confidence,
                "samples": done,
                **plan.figures(outputs()),
            }
        )
        return {"": game.painted(estimate.values)}

    def forward_passes(self, task: Task) -> float:
        """One for each combination of regions that is asked for."""
        return float(self.plan(task, self.game(task).players).count)

    def seconds_beside(self, task: Task) -> float:
        """The time in which regions are found and taken away, and their intervals computed."""
        shape, spacing = task.input.shape[2:], task.spacing
        voxels = math.prod(shape)
        if self.regions == "segments":
            regions, finding = len(task.region_names) + 1, 0.0
        elif self.regions == "quickshift":
            regions, finding = REGIONS, voxels * SECONDS_AS_IN_LIME
        else:
            extent = voxels * math.prod(spacing)
            size = self.size_mm or (extent / REGIONS) ** (1 / len(shape))
            regions = min(voxels, round(extent / size ** len(shape)))
            finding = seconds_to_find(shape, spacing, size_mm=size)
        return finding + regions * voxels * _SECONDS_PER_VOXEL + self.seconds_to_estimate(regions)

    def seconds_to_estimate(self, regions: int) -> float:
        """Of :meth:`seconds_beside` what values and intervals take, of so many regions."""
        return 0.0

    @abstractmethod
    def plan(self, task: Task, players: int) -> Plan:
        """Which combinations of so many regions are asked for, and what follows from them."""


def check_table(combinations: int, players: int) -> None:
    """Refuses more combinations of regions than the memory is to hold.

    Raises:
        InputError: There are too many.
    """
    if combinations * players > _LARGEST_TABLE:
        raise InputError(
            ErrorCode.MEMORY,
            f"{combinations:,} combinations of {players} regions do not fit the memory that is "
            f"meant for them: ask for at most {_LARGEST_TABLE // players:,}, or larger regions.",
        )


def quantile(confidence: float) -> float:
    """How many standard errors half of a two-sided interval is."""
    # Here, since a bare machine has no scipy and lists the methods all the same.
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))
