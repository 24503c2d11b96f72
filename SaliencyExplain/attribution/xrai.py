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

from SaliencyExplain.attribution.guard import plain
from SaliencyExplain.attribution.integrated import IntegratedGradients
from SaliencyExplain.attribution.method import Method, Task, parameter, unpublished
from SaliencyExplain.attribution.region_ranking import (
    Region,
    ranked,
    ranked_fast,
    widened_regions,
)
from SaliencyExplain.attribution.supervoxels import (
    KINDS,
    felzenszwalb,
    looked_up,
    resampled,
    size_for,
    supervoxels,
)
from SaliencyExplain.errors import InputError

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
#: What a cell of the grid takes in the regions of all sizes, s: measured 9.2e-6 to 10.5e-6 with
#: SLIC on 77,000 to 262,000 voxels, 6e-6 with Felzenszwalb, one core.
_SECONDS_PER_CELL = 1e-5
#: A region has to have a shape: voxels along its side, at least.
_LEAST_ALONG = 3


@dataclass(frozen=True)
class _RegionRanking(Method):
    """Integrated gradients from a black and a white image, ranked by regions."""

    signed: ClassVar[bool] = True

    steps: int = parameter(
        50, "Images on the way from each of the two baselines, black and white.", minimum=1
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
        automatic="so that there are at most about 600 regions",
    )
    widened_mm: float = parameter(
        0.0,
        "How far each region reaches over its edge.",
        unit="mm",
        minimum=0.0,
        automatic="2.2 % of the image's longest side",
    )
    channels: str = parameter(
        "sum",
        "How several channels become one map: their sum, or the largest value (as in "
        "saliency.core.XRAI).",
        choices=("sum", "max"),
    )

    #: What ranking the regions of a volume takes, s.
    _ranking_seconds: ClassVar[float] = 0.0

    @abstractmethod
    def _rank(
        self, values: NDArray[np.float64], regions: Sequence[Region], least: int
    ) -> NDArray[np.float64]:
        """The map of an attribution ``(*S)`` and regions."""

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; the map's sum is that of the integrated gradients.

        Recorded beside it are the number of regions, and of each baseline how complete the
        integral is.

        Raises:
            InputError: The image is not fit for this kind of regions, or has values that
                are not finite.
        """
        regions = self.found_regions(task)
        values, paths = self._integrated(task)
        one = values.sum(dim=0) if self.channels == "sum" else values.amax(dim=0)
        least = round(one.numel() * _LEAST_SIDE**one.ndim)
        ranking = self._rank(one.cpu().numpy(), regions, max(1, least))
        task.record({"regions": len(regions), "baselines": paths})
        return {"": torch.from_numpy(ranking).float().to(task.input.device)}

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
        kind = self.regions
        if kind == "automatic":
            kind = "felzenszwalb" if axes == 2 else "slic"
        if kind == "felzenszwalb":
            if axes != 2:
                raise InputError(f"{self.name}: felzenszwalb divides 2D images only; use slic.")
            yield from _felzenszwalb_maps(image, spacing)
            return
        voxel = math.prod(spacing) ** (1 / axes)
        smallest = self.smallest_mm or max(size_for(image, spacing, _MOST), _LEAST_ALONG * voxel)
        for number in range(_SIZES):
            size = smallest * 2 ** (number / axes)
            yield supervoxels(image, spacing, kind=kind, size_mm=size).numpy()

    def _integrated(self, task: Task) -> tuple[Tensor, list[dict[str, Any]]]:
        """Mean integrated gradients ``(C, *S)`` of both baselines, and figures of each."""
        image, total = plain(task.input), self.forward_passes(task)
        values = torch.zeros(image.shape[1:], dtype=torch.float64, device=image.device)
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
            values += self._path(float(colour)).raw(way) / 2
            paths.append(figures)
        return values, paths

    def seconds_beside(self, task: Task) -> float:
        """The time that regions of all sizes take, and their ranking."""
        sides = [size * mm for size, mm in zip(task.input.shape[2:], task.spacing, strict=True)]
        if len(sides) == 2 and self.regions in ("automatic", "felzenszwalb"):
            cell = max(sides) / _GRID
            cells = math.prod(side / cell for side in sides)
        else:
            cells = float(math.prod(task.input.shape[2:]))
        ranking = self._ranking_seconds if len(sides) == 3 else 0.0
        return cells * _SECONDS_PER_CELL + ranking

    def _path(self, colour: float) -> IntegratedGradients:
        return IntegratedGradients(baseline="value", value=colour, steps=self.steps)

    def forward_passes(self, task: Task) -> float:
        """Those of integrated gradients from two baselines."""
        return 2 * self._path(0.0).forward_passes(task)


def _felzenszwalb_maps(image: Tensor, spacing: Sequence[float]) -> Iterator[NDArray[np.int64]]:
    """Label maps of a 2D image at the scales of saliency.core.XRAI."""
    sides = [size * voxel for size, voxel in zip(image.shape[1:], spacing, strict=True)]
    cell = max(sides) / _GRID
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
    #: Of the 600 to 1,400 regions of a volume 0.6 to 0.8 s, of a picture's 100 next to nothing.
    _ranking_seconds: ClassVar[float] = 0.8

    def _rank(
        self, values: NDArray[np.float64], regions: Sequence[Region], least: int
    ) -> NDArray[np.float64]:
        return ranked(values, regions, least=least, area=self.area / 100)


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
