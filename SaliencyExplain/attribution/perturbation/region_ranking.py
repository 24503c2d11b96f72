"""Regions that may overlap, ranked by the attribution that each of them adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.progress import may_stop


@dataclass(frozen=True)
class Region:
    """A region of an image, kept in the box around it.

    Attributes:
        box: Its place, a slice per axis.
        mask: ``(*box)``, True in the region.
    """

    box: tuple[slice, ...]
    mask: NDArray[np.bool_]


def widened_regions(
    labels: NDArray[np.int64], spacing: Sequence[float], reach_mm: float
) -> list[Region]:
    """The regions of a label map from 1, each with the voxels around it.

    Args:
        labels: ``(*S)``, from 1 without a gap.
        spacing: Size of a voxel in mm, one number per axis.
        reach_mm: Voxels whose centre is at most so far from a voxel of a region belong to it
            too, so that an edge lies within what it bounds.
    """
    from scipy import ndimage

    margin = [math.floor(reach_mm / voxel) for voxel in spacing]
    regions = []
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        may_stop()
        box = tuple(
            slice(max(0, along.start - more), min(size, along.stop + more))
            for along, more, size in zip(found, margin, labels.shape, strict=True)
        )
        mask = labels[box] == number
        if any(margin):
            distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
            mask = distance <= reach_mm + 1e-6
        regions.append(Region(box, mask))
    return regions


def ranked(
    attribution: NDArray[np.float64],
    regions: Sequence[Region],
    *,
    least: int,
    area: float = 1.0,
) -> NDArray[np.float64]:
    """XRAI's map: regions are added one by one, always the one that adds most per voxel.

    Kapishnikov et al. 2019, algorithm 1, with the density of the attribution as its gain, as
    in ``saliency.core.XRAI``. What a region adds is what is not covered yet. Instead of
    summing all regions anew for each choice, the sums of those are lowered that overlap with
    what was added: the same choices in a time that grows with the regions' size, not with
    the square of their number.

    Args:
        attribution: ``(*S)``.
        regions: They may overlap, and need not cover all.
        least: Regions that add fewer voxels are left out.
        area: Share of the image from which on no region is added any more.

    Returns:
        ``(*S)``: for each voxel the mean attribution of what was added with it; where
        nothing was added, the mean attribution there.
    """
    counts = np.array([region.mask.sum() for region in regions], dtype=np.int64)
    sums = np.array([attribution[region.box][region.mask].sum() for region in regions])
    starts = np.array([[along.start for along in region.box] for region in regions])
    stops = np.array([[along.stop for along in region.box] for region in regions])
    cover = _Cover(attribution)
    while cover.share <= area:
        may_stop()
        counts[counts < least] = 0
        if not counts.any():
            break
        best = int(np.argmax(np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)))
        added = cover.add(regions[best])
        box = regions[best].box
        low, high = starts[best], stops[best]
        near = (counts > 0) & (starts < high).all(axis=1) & (stops > low).all(axis=1)
        for other in np.flatnonzero(near).tolist():
            shared = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(box, regions[other].box, strict=True)
            )
            both = (
                added[_within(shared, box)]
                & regions[other].mask[_within(shared, regions[other].box)]
            )
            counts[other] -= both.sum()
            sums[other] -= attribution[shared][both].sum()
        counts[best] = 0
    return cover.finished()


def ranked_fast(
    attribution: NDArray[np.float64],
    regions: Sequence[Region],
    *,
    least: int,
    area: float = 1.0,
) -> NDArray[np.float64]:
    """The same in one pass: the order is that of the whole regions' densities.

    Fast XRAI of ``saliency.core.XRAI``; arguments and result as :func:`ranked`.
    """
    densities = [attribution[region.box][region.mask].mean() for region in regions]
    cover = _Cover(attribution)
    for index in np.argsort(-np.array(densities), kind="stable").tolist():
        if cover.share > area:
            break
        may_stop()
        if cover.new_in(regions[index]).sum() >= least:
            cover.add(regions[index])
    return cover.finished()


class _Cover:
    """What regions cover so far, and the map that they make.

    Args:
        attribution: ``(*S)``.
    """

    def __init__(self, attribution: NDArray[np.float64]) -> None:
        self._attribution = attribution
        self._covered = np.zeros(attribution.shape, dtype=bool)
        self._map = np.zeros_like(attribution)
        self._count = 0

    @property
    def share(self) -> float:
        """Share of the image that is covered."""
        return self._count / self._covered.size

    def new_in(self, region: Region) -> NDArray[np.bool_]:
        """What a region would add, in its box."""
        return region.mask & ~self._covered[region.box]

    def add(self, region: Region) -> NDArray[np.bool_]:
        """Adds a region; what was new of it, in its box."""
        new = self.new_in(region)
        self._map[region.box][new] = self._attribution[region.box][new].mean()
        self._covered[region.box] |= new
        self._count += int(new.sum())
        return new

    def finished(self) -> NDArray[np.float64]:
        """The map, with what is not covered at its mean attribution."""
        rest = ~self._covered
        if rest.any():
            self._map[rest] = self._attribution[rest].mean()
        return self._map


def _within(inner: Iterable[slice], outer: Iterable[slice]) -> tuple[slice, ...]:
    return tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True)
    )
