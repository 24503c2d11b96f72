"""Base of the methods that give each region of an image one value."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.anytime import AnytimeMap
from SaliencyExplain.attribution.passes.batches import in_batches
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.passes.watched_output import Watched
from SaliencyExplain.attribution.perturbation.infill_choices import FILLS, FILLS_HELP
from SaliencyExplain.attribution.perturbation.least_squares import bootstrap_seconds
from SaliencyExplain.attribution.perturbation.region_game import (
    _SECONDS_PER_VOXEL,
    ELSEWHERE,
    MOST_REGIONS,
    MOST_SAMPLES,
    REGIONS,
    Floats,
    Plan,
    RegionGame,
)
from SaliencyExplain.attribution.perturbation.supervoxels import (
    SECONDS_AS_IN_LIME,
    quickshift_as_in_lime,
    seconds_to_find,
    size_for,
    supervoxels,
)
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import automatic_length, constant_of, parameter


@dataclass(frozen=True)
class RegionMethod(Method):
    """A method that gives each region its contribution to the target's output."""

    signed: ClassVar[bool] = True
    family: ClassVar[str] = "surrogate"
    requires: ClassVar[tuple[str, ...]] = ("segmentation",)
    parts: ClassVar[str] = "samples"

    regions: str = parameter(
        "supervoxels",
        "Regions: supervoxels (SLIC); in 2D also quickshift, the regions of LIME's image "
        "explainer (kernel_size 4, max_dist 200, ratio 0.2); or the segments of the given "
        "segmentation, with everything outside them as one more region.",
        choices=("supervoxels", "quickshift", "segments"),
    )
    size_mm: float = automatic_length(
        "Side of a supervoxel; not used by quickshift.",
        automatic=f"chosen to give about {REGIONS} supervoxels",
    )
    fill: str = parameter(
        "mean", f"What replaces the voxels of an absent region: {FILLS_HELP}.", choices=FILLS
    )
    value: float = constant_of("fill")
    output: str = parameter(
        "probability",
        "Output that is explained: the target's probability, or its score before the activation.",
        choices=("probability", "score"),
    )
    confidence: float = parameter(
        0.95, "Level of the confidence interval of each region.", minimum=0.5, maximum=0.999
    )

    def resolved(self, task: Task) -> Method:
        """The method with the size of the supervoxels in millimetres for this image."""
        if self.regions != "supervoxels" or self.size_mm:
            return self
        size = size_for(plain(task.input)[0], task.spacing, REGIONS)
        return dataclasses.replace(self, size_mm=size)

    def game(self, task: Task) -> RegionGame:
        """The regions of this image.

        Raises:
            InputError: Segments are requested and none were given, or all of them lie outside
                the field of view.
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
                f"{self.name}.regions: segments needs a segmentation, and none was given. "
                "Give a segmentation (-s), or use another kind of regions.",
            )
        labels = task.regions
        if labels.shape != task.input.shape[2:]:
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"Segmentation: it has {tuple(labels.shape)} voxels on the network's grid, and the "
                f"image has {tuple(task.input.shape[2:])}. The two must be equal.",
            )
        if not bool((labels > 0).any()):
            raise InputError(
                ErrorCode.SEGMENTATION_EMPTY,
                "Segmentation: no segment has a voxel inside the part of the image that the "
                "network sees. Give a segmentation of that part.",
            )
        names = {index + 1: name for index, name in enumerate(task.region_names)}
        return labels, {**names, 0: ELSEWHERE}

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; the values of a region's voxels add up to its value.

        The value, confidence interval and size of each region are recorded.
        """
        game = self.game(task)
        plan = self.plan(task, game.players)
        both = np.full((plan.count, 2), np.nan)
        growing, watched, done = AnytimeMap(task), Watched(task, self.output), 0

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
        """One for each combination of regions."""
        return float(self.plan(task, self.game(task).players).count)

    def seconds_beside(self, task: Task) -> float:
        """The time for finding and replacing regions, and for computing their intervals."""
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
        """The part of :meth:`seconds_beside` for values and intervals of ``regions`` regions."""
        return 0.0

    @abstractmethod
    def plan(self, task: Task, players: int) -> Plan:
        """The combinations of ``players`` regions to compute, and the estimate from them."""


@dataclass(frozen=True)
class SampledRegionMethod(RegionMethod):
    """A region method that fits a model to samples of the combinations and resamples them."""

    samples: int = parameter(
        1000, "Number of combinations of regions.", minimum=4, maximum=MOST_SAMPLES
    )

    def seconds_to_estimate(self, regions: int) -> float:
        """See :meth:`RegionMethod.seconds_to_estimate`: the fits of the bootstrap."""
        return bootstrap_seconds(self.samples, regions)
