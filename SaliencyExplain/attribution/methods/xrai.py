"""XRAI: integrated gradients gathered into regions of the image."""

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
from SaliencyExplain.attribution.parameters import LARGEST_MM, parameter
from SaliencyExplain.attribution.passes.task import Task, unpublished
from SaliencyExplain.attribution.perturbation.region_ranking import (
    Region,
    ranked,
    ranked_fast,
    widened_regions,
)
from SaliencyExplain.attribution.perturbation.supervoxels import (
    KINDS,
    felzenszwalb,
    looked_up,
    resampled,
    seconds_to_find,
    size_for,
    supervoxels,
)
from SaliencyExplain.errors import ErrorCode, InputError

#: Of saliency.core.XRAI: voxels along the grid on which Felzenszwalb's regions are found,
#: their scales, their least size, and how far regions are widened, all in that grid's voxels.
_GRID = 224
_SCALES = (50, 100, 150, 250, 500, 1200)
_LEAST_SIZE = 150
_WIDENED = 5
#: Regions that add less than a square (cube) of this share of the image's sides are left out:
#: the 50 pixels of saliency.core.XRAI in 224 x 224.
_LEAST_SIDE = math.sqrt(50) / _GRID

#: SLIC and quickshift find regions of so many sizes, each of twice the volume of the one
#: before, the smallest so that there are so many.
_SIZES, _MOST = 6, 600
#: What widening the regions of all sizes takes for each voxel, s: processor time of one thread,
#: 1.7e-6 to 3.4e-6 in volumes of 77,000 to 885,000 voxels, 0.6e-6 to 3.5e-6 in pictures.
_SECONDS_TO_WIDEN = 2.3e-6
#: What ranking takes in a volume, and for each of its voxels, s: processor time of one thread, 0.73
#: s for 77,000 voxels, 1.0 to 1.5 for 262,000, 2.7 for 885,000 (1,100 to 1,400 regions); of a
#: picture's regions 0.03 to 0.25.
_SECONDS_TO_RANK, _SECONDS_PER_RANKED = 0.6, 2.4e-6
#: A region has to have a shape: voxels along its side, at least.
_LEAST_ALONG = 3


@dataclass(frozen=True)
class _RegionRanking(Method):
    """Integrated gradients from a black and a white image, ranked by regions."""

    signed: ClassVar[bool] = True

    steps: int = parameter(
        50,
        "Images on the way from each of the two baselines, black and white.",
        minimum=1,
        maximum=MOST_STEPS,
    )
    regions: str = parameter(
        "automatic",
        "How regions are found: felzenszwalb and quickshift in 2D only; automatic: felzenszwalb "
        "in 2D, slic in 3D.",
        choices=("automatic", *KINDS),
    )
    smallest_mm: float = parameter(
        0.0,
        "Side of the smallest regions for slic and quickshift; there are five more sizes, each "
        "of twice the volume of the one before.",
        unit="mm",
        minimum=0.0,
        maximum=LARGEST_MM,
        automatic="so that there are at most about 600 regions",
    )
    widened_mm: float = parameter(
        0.0,
        "How far each region reaches over its edge.",
        unit="mm",
        minimum=0.0,
        maximum=LARGEST_MM,
        automatic="2.2 % of the image's longest side",
    )
    channels: str = parameter(
        "sum",
        "How several channels become one map: their sum, or the largest value (as in "
        "saliency.core.XRAI).",
        choices=("sum", "max"),
    )

    def _ranking_seconds(self, voxels: int, axes: int) -> float:
        """What ranking the regions takes, s; next to nothing where it is by whole regions."""
        return 0.0

    @abstractmethod
    def _rank(
        self, values: NDArray[np.float64], regions: Sequence[Region], least: int
    ) -> NDArray[np.float64]:
        """The map of an attribution ``(*S)`` and regions."""

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; the map's sum is that of the integrated gradients.

        Recorded beside it are the number of regions, and of each baseline how complete the
        integral is and how strong its part is. The parts from black and from white can cancel,
        so that no region adds to the score: where one of them dominates, both then count alike,
        each divided by its size, and a note says so.

        Raises:
            InputError: The image is not fit for this kind of regions, or has values that
                are not finite.
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
        """The ranking with both baselines alike in size, where their mean says no to all regions.

        Args:
            task: Its ``note`` is told.
            parts: Integrated gradients ``(C, *S)`` from black and from white.
            ranking: That of their mean.
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
            f"The integrated gradients from the {colour} image, "
            f"{sizes[stronger] / sizes[1 - stronger]:.1f} times as strong as those from the other "
            "baseline, speak against the class everywhere"
        )
        if (alike > 0).any():
            task.note(f"{dominance}: both baselines count alike in this ranking.")
            return alike
        task.note(
            f"{dominance}, and so do both together: no region adds to the score, and only the "
            "order of the values says something."
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
            # Nothing is done yet, but this is where a cancel comes through.
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
        """How regions are found in an image of so many axes.

        Raises:
            InputError: In no image of so many.
        """
        if self.regions == "automatic":
            return "felzenszwalb" if axes == 2 else "slic"
        if self.regions != "slic" and axes != 2:
            raise InputError(
                ErrorCode.REGIONS, f"{self.name}: {self.regions} divides 2D images only; use slic."
            )
        return self.regions

    def _smallest(self, wanted: float, spacing: Sequence[float]) -> float:
        """Side in mm of the smallest regions, of which ``wanted`` would give the right number."""
        voxel = math.prod(spacing) ** (1 / len(spacing))
        return self.smallest_mm or max(wanted, _LEAST_ALONG * voxel)

    def _integrated(self, task: Task) -> tuple[list[Tensor], list[dict[str, Any]]]:
        """Integrated gradients ``(C, *S)`` from each of the baselines, and figures of each."""
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
        """The time that regions of all sizes take, and their ranking."""
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
        """Those of integrated gradients from two baselines."""
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
    # There the values go from -1 to 1, those of all channels together.
    low, high = image.min(), image.max()
    scaled = 2 * (image - low) / (high - low).clamp(min=torch.finfo(image.dtype).tiny) - 1
    fine = resampled(scaled.cpu().float(), spacing, cell)
    for scale in _SCALES:
        found = felzenszwalb(fine, scale, _LEAST_SIZE)
        labels = looked_up(found, image.shape[1:], spacing, cell)
        # A region of few cells may lie between the image's voxels.
        yield np.unique(labels, return_inverse=True)[1].reshape(labels.shape) + 1


def _area(default: float) -> Any:
    """The parameter that both ways of ranking have, for another default."""
    return parameter(
        default,
        "Share of the image that is ranked; the rest gets one value.",
        unit="%",
        minimum=0.0,
        maximum=100.0,
    )


@dataclass(frozen=True)
class XRAI(_RegionRanking):
    """XRAI: regions in the order of the integrated gradients that each adds."""

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
    """Fast XRAI: the order is that of whole regions, and only the first part is ranked."""

    name: ClassVar[str] = "xrai-fast"
    family: ClassVar[str] = "region"
    title: ClassVar[str] = "Fast XRAI"
    source: ClassVar[str] = (
        "saliency.core.XRAI with algorithm='fast', of which the most salient 30 % are in use"
    )

    area: float = _area(30.0)

    def _rank(
        self, values: NDArray[np.float64], regions: Sequence[Region], least: int
    ) -> NDArray[np.float64]:
        return ranked_fast(values, regions, least=least, area=self.area / 100)
