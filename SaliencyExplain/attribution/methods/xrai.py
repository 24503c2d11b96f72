"""XRAI: regions of the image ranked by their integrated gradients."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.methods.integrated_gradients import IntegratedGradients
from SaliencyExplain.attribution.methods.path_integration import MOST_STEPS
from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task, unpublished
from SaliencyExplain.attribution.perturbation.region_grid import looked_up, resampled
from SaliencyExplain.attribution.perturbation.region_ranking import (
    Region,
    ranked,
    ranked_fast,
    widened_regions,
)
from SaliencyExplain.attribution.perturbation.supervoxels import (
    KINDS,
    felzenszwalb,
    seconds_to_find,
    size_for,
    supervoxels,
)
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import automatic_length, parameter

#: From saliency.core.XRAI: voxels along the grid on which Felzenszwalb's regions are found, their
#: scales, their minimum size, and how far regions are dilated, all in voxels of that grid.
_GRID = 224
_SCALES = (50, 100, 150, 250, 500, 1200)
_LEAST_SIZE = 150
_WIDENED = 5
#: Regions that add less than a square (cube) of this share of the image's sides are left out;
#: equals the 50 pixels of saliency.core.XRAI in 224 x 224.
_LEAST_SIDE = math.sqrt(50) / _GRID

#: SLIC and quickshift find regions of this many sizes, each of twice the volume of the one before;
#: the smallest size is chosen to give this many regions.
_SIZES, _MOST = 6, 600
#: Dilating the regions of all sizes, s per voxel: processor time of one thread, 1.7e-6 to 3.4e-6
#: in volumes of 77,000 to 885,000 voxels, 0.6e-6 to 3.5e-6 in 2D images.
_SECONDS_TO_WIDEN = 2.3e-6
#: Ranking in a volume, s: a constant part and a part per voxel. Processor time of one thread: 0.73
#: s for 77,000 voxels, 1.0 to 1.5 for 262,000, 2.7 for 885,000 (1,100 to 1,400 regions); in 2D
#: 0.03 to 0.25.
_SECONDS_TO_RANK, _SECONDS_PER_RANKED = 0.6, 2.4e-6
#: Minimum side of a region, in voxels.
_LEAST_ALONG = 3


@dataclass(frozen=True)
class _RegionRanking(Method):
    """Integrated gradients from a black and a white baseline, ranked by region."""

    signed: ClassVar[bool] = True

    steps: int = parameter(
        50,
        "Number of points on the path from each of the two baselines, black and white.",
        minimum=1,
        maximum=MOST_STEPS,
    )
    regions: str = parameter(
        "automatic",
        "How regions are found; felzenszwalb and quickshift are for 2D only. automatic: "
        "felzenszwalb in 2D, slic in 3D.",
        choices=("automatic", *KINDS),
    )
    smallest_mm: float = automatic_length(
        "Side of the smallest regions for slic and quickshift. Five larger sizes are used as "
        "well, each of twice the volume of the one before.",
        automatic="chosen to give at most about 600 regions",
    )
    widened_mm: float = automatic_length(
        "How far each region is dilated.",
        automatic="2.2 % of the image's longest side",
    )
    channels: str = parameter(
        "sum",
        "How channels are combined into one map: their sum, or the largest value (as in "
        "saliency.core.XRAI).",
        choices=("sum", "max"),
    )

    def _ranking_seconds(self, voxels: int, axes: int) -> float:
        """Time for ranking the regions, s; close to 0 when whole regions are ranked."""
        return 0.0

    @abstractmethod
    def _rank(
        self, values: NDArray[np.float64], regions: Sequence[Region], least: int
    ) -> NDArray[np.float64]:
        """The map from an attribution ``(*S)`` and regions."""

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; the map's sum is that of the integrated gradients.

        The number of regions is recorded, and for each baseline the completeness of the
        integral and its size. The parts from black and from white can cancel, so that no region
        adds to the score. Where one of them dominates, each is then divided by its size so that
        both have equal weight, and a note says so.

        Raises:
            InputError: This kind of regions is not available for the image, or the image has
                values that are not finite.
        """
        regions = self.found_regions(task)
        parts, paths = self._integrated(task)
        ranking = self._ranked((parts[0] + parts[1]) / 2, regions)
        if not (ranking > 0).any():
            ranking = self._without_dominance(task, parts, ranking, regions)
        sizes = [float(part.abs().sum()) for part in parts]
        for figures, size in zip(paths, sizes, strict=True):
            figures["size_of_map"] = size
        task.record({"regions": len(regions), "baselines": paths})
        return {"": torch.from_numpy(ranking).float().to(task.input.device)}

    def _ranked(self, values: Tensor, regions: Sequence[Region]) -> NDArray[np.float64]:
        one = values.sum(dim=0) if self.channels == "sum" else values.amax(dim=0)
        least = round(one.numel() * _LEAST_SIDE**one.ndim)
        return self._rank(one.cpu().numpy(), regions, max(1, least))

    def _without_dominance(
        self,
        task: Task,
        parts: Sequence[Tensor],
        ranking: NDArray[np.float64],
        regions: Sequence[Region],
    ) -> NDArray[np.float64]:
        """The ranking with baselines of equal weight, where their mean is negative everywhere.

        Args:
            task: Its ``note`` receives the note.
            parts: Integrated gradients ``(C, *S)`` from black and from white.
            ranking: Ranking of their mean.
            regions: The regions.
        """
        sizes = [float(part.abs().sum()) for part in parts]
        if not all(sizes):
            return ranking
        stronger = int(sizes[1] > sizes[0])
        colour = ("black", "white")[stronger]
        mean = sum(sizes) / 2
        scaled = [part * (mean / size) for part, size in zip(parts, sizes, strict=True)]
        alike = self._ranked((scaled[0] + scaled[1]) / 2, regions)
        dominance = (
            f"The integrated gradients from the {colour} baseline, "
            f"{sizes[stronger] / sizes[1 - stronger]:.1f} times as strong as those from the other "
            "baseline, are negative in all regions"
        )
        if (alike > 0).any():
            task.note(f"{dominance}. Both baselines have equal weight in this ranking.")
            return alike
        task.note(
            f"{dominance}, and so is the mean of both: no region adds to the score, and only the "
            "order of the values has a meaning."
        )
        return ranking

    def found_regions(self, task: Task) -> list[Region]:
        """The regions of all sizes, which overlap.

        Raises:
            InputError: See :meth:`attribute`.
        """
        sides = [n * mm for n, mm in zip(task.input.shape[2:], task.spacing, strict=True)]
        reach = self.widened_mm or _WIDENED / _GRID * max(sides)
        found: list[Region] = []
        for labels in self._label_maps(task):
            found += widened_regions(labels, task.spacing, reach)
            # Reports no progress yet; a cancellation is raised here.
            task.progress(0.0, self.forward_passes(task))
        return found

    def _label_maps(self, task: Task) -> Iterator[NDArray[np.int64]]:
        image, spacing = plain(task.input)[0], task.spacing
        axes = image.ndim - 1
        kind = self._kind(axes)
        if kind == "felzenszwalb":
            yield from _felzenszwalb_maps(image, spacing)
            return
        smallest = self._smallest(size_for(image, spacing, _MOST), spacing)
        for size in _sizes(smallest, axes):
            yield supervoxels(
                image, spacing, kind=kind, size_mm=size, length_unit=task.length_unit
            ).numpy()

    def _kind(self, axes: int) -> str:
        """How regions are found in an image with this number of axes.

        Raises:
            InputError: The kind of regions is not available for that number of axes.
        """
        if self.regions == "automatic":
            return "felzenszwalb" if axes == 2 else "slic"
        if self.regions != "slic" and axes != 2:
            raise InputError(
                ErrorCode.REGIONS,
                f"{self.name}.regions: {self.regions} works on 2D images only. Use slic.",
            )
        return self.regions

    def _smallest(self, wanted: float, spacing: Sequence[float]) -> float:
        """Side of the smallest regions in mm; ``wanted`` is the side for the intended number."""
        voxel = math.prod(spacing) ** (1 / len(spacing))
        return self.smallest_mm or max(wanted, _LEAST_ALONG * voxel)

    def _integrated(self, task: Task) -> tuple[list[Tensor], list[dict[str, Any]]]:
        """Integrated gradients ``(C, *S)`` from each baseline, and the metrics of each."""
        image, total = plain(task.input), self.forward_passes(task)
        parts: list[Tensor] = []
        paths: list[dict[str, Any]] = []
        for number, colour in enumerate((image.min(), image.max())):
            figures: dict[str, Any] = {}

            def progress(done: float, of: float, *, before: float = number * total / 2) -> None:
                task.progress(before + done, total)

            way = dataclasses.replace(
                task,
                progress=progress,
                publish=unpublished,
                deadline=math.inf,
                record=figures.update,
            )
            parts.append(self._path(float(colour)).raw(way))
            paths.append(figures)
        return parts, paths

    def seconds_beside(self, task: Task) -> float:
        """The time for finding regions of all sizes and ranking them."""
        shape, spacing = task.input.shape[2:], task.spacing
        kind, axes, voxels = self._kind(len(shape)), len(shape), math.prod(shape)
        if kind == "felzenszwalb":
            cell = _felzenszwalb_cell(shape, spacing)
            finding = len(_SCALES) * seconds_to_find(shape, spacing, kind, cell_mm=cell)
        else:
            smallest = self._smallest((voxels * math.prod(spacing) / _MOST) ** (1 / axes), spacing)
            finding = sum(
                seconds_to_find(shape, spacing, kind, size_mm=size)
                for size in _sizes(smallest, axes)
            )
        return finding + voxels * _SECONDS_TO_WIDEN + self._ranking_seconds(voxels, axes)

    def _path(self, colour: float) -> IntegratedGradients:
        return IntegratedGradients(baseline="value", value=colour, steps=self.steps)

    def forward_passes(self, task: Task) -> float:
        """The passes of integrated gradients from two baselines."""
        return 2 * self._path(0.0).forward_passes(task)


def _sizes(smallest: float, axes: int) -> list[float]:
    """Sides in mm of the regions, each of twice the volume of the one before."""
    return [smallest * 2 ** (number / axes) for number in range(_SIZES)]


def _felzenszwalb_cell(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Distance in mm of the grid of saliency.core.XRAI."""
    return max(size * voxel for size, voxel in zip(shape, spacing, strict=True)) / _GRID


def _felzenszwalb_maps(image: Tensor, spacing: Sequence[float]) -> Iterator[NDArray[np.int64]]:
    """Label maps of a 2D image at the scales of saliency.core.XRAI."""
    cell = _felzenszwalb_cell(image.shape[1:], spacing)
    # saliency.core.XRAI scales the values of all channels together to [-1, 1].
    low, high = image.min(), image.max()
    scaled = 2 * (image - low) / (high - low).clamp(min=torch.finfo(image.dtype).tiny) - 1
    fine = resampled(scaled.cpu().float(), spacing, cell)
    for scale in _SCALES:
        found = felzenszwalb(fine, scale, _LEAST_SIZE)
        labels = looked_up(found, image.shape[1:], spacing, cell)
        # A region of few cells may contain no voxel of the image.
        yield np.unique(labels, return_inverse=True)[1].reshape(labels.shape) + 1


def _area(default: float) -> Any:
    """The parameter ``area`` of both ways of ranking, with the given default."""
    return parameter(
        default,
        "Percentage of the image that is ranked; the rest gets one common value.",
        unit="%",
        minimum=0.0,
        maximum=100.0,
    )


@dataclass(frozen=True)
class XRAI(_RegionRanking):
    """XRAI: regions ranked by the integrated gradients that each adds."""

    name: ClassVar[str] = "xrai"
    family: ClassVar[str] = "region"
    title: ClassVar[str] = "XRAI"
    source: ClassVar[str] = (
        "Kapishnikov et al. 2019, algorithm 1; saliency.core.XRAI, in 3D with SLIC's supervoxels"
    )

    area: float = _area(100.0)

    def _rank(
        self, values: NDArray[np.float64], regions: Sequence[Region], least: int
    ) -> NDArray[np.float64]:
        return ranked(values, regions, least=least, area=self.area / 100)

    def _ranking_seconds(self, voxels: int, axes: int) -> float:
        if axes == 2:
            return 0.0
        return _SECONDS_TO_RANK + voxels * _SECONDS_PER_RANKED


@dataclass(frozen=True)
class FastXRAI(_RegionRanking):
    """Fast XRAI: whole regions are ranked once, and only the first part of the image is used."""

    name: ClassVar[str] = "xrai-fast"
    family: ClassVar[str] = "region"
    title: ClassVar[str] = "Fast XRAI"
    source: ClassVar[str] = (
        "saliency.core.XRAI with algorithm='fast', restricted to the most salient 30 %"
    )

    area: float = _area(30.0)

    def _rank(
        self, values: NDArray[np.float64], regions: Sequence[Region], least: int
    ) -> NDArray[np.float64]:
        return ranked_fast(values, regions, least=least, area=self.area / 100)
