"""Where a map has its peak: one definition for pictures, figures, panels and scenes.

The peak is the maximum of the map smoothed over half of what its method resolves. The
strongest voxel alone is a matter of chance inside one occlusion window or one cell of a feature
map: there the values rise and fall with how the method joins its windows or cells, not with the
image. A method that resolves single voxels, such as a gradient, is not smoothed, and neither
are maps of regions, whose voxels share their region's value.

numpy only: Slicer's own Python, which has no scipy, marks peaks, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.geometry import bounding_box, spacing_of, widened_box, world_vectors

#: The key of a map's provenance that says how much its method resolves, in mm; 0: a voxel.
RESOLUTION_MM = "resolution_mm"

#: Full width at half maximum of a Gaussian in standard deviations.
_WIDTH = 2 * math.sqrt(2 * math.log(2))

#: Share of the smoothed map's range that rounding explains: voxels within it are equally strong.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Peak:
    """The voxel that stands for a map's strongest place.

    Attributes:
        index: The voxel.
        value: The map's own value there, not smoothed.
        remark: What must be said of the map, such as that it is constant; mostly empty.
    """

    index: tuple[int, ...]
    value: float
    remark: str


def find_peak(
    values: NDArray[np.floating],
    signed: bool,
    affine: NDArray[np.float64],
    resolution_mm: float = 0.0,
) -> Peak:
    """The strongest place for the class; of several voxels, the one nearest to their middle.

    A map that has no such voxel still gets planes, and the remark says why they lie there:
    the middle of a constant map, the strongest place against the class otherwise.

    Args:
        values: The map, 2 or 3 axes, finite; positive = speaks for the class.
        signed: Whether negative values speak against the class.
        affine: 4x4 of the grid, RAS mm.
        resolution_mm: What the method resolves, see :func:`strongest_voxels`.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        middle = tuple(size // 2 for size in values.shape)
        word = "map is zero everywhere" if low == 0 else f"map is constant ({low:.4g} everywhere)"
        return Peak(middle, low, word)
    remark, against = "", 1
    if high <= 0:
        remark = "no voxel speaks for the class"
        if signed:
            remark += "; planes through the strongest voxel against it"
            against = -1
    voxels = strongest_voxels(against * values, affine, resolution_mm)
    index = _middle_of(voxels, affine)
    return Peak(index, float(values[index]), remark)


def strongest_voxels(
    values: NDArray[np.floating], affine: NDArray[np.float64], resolution_mm: float = 0.0
) -> NDArray[np.bool_]:
    """The voxels that share the maximum of the smoothed map, mostly a single one.

    The map is smoothed with a Gaussian whose full width at half maximum is half the resolution,
    the weights scaled to 1 at the border. (A Gaussian and no box: the box leaves a flat top in
    the middle of each window, which has no maximum.) Along axes whose voxels are larger than that
    nothing is smoothed. Where a voxel is positive, only positive ones are looked at. On a plateau
    of the map itself, such as outside of the outermost cells of a feature map, all its voxels
    within the resolution count: the smoothed map rises towards the border there.

    Args:
        values: The map, finite.
        affine: 4x4 of the grid, RAS mm.
        resolution_mm: What the method resolves, mm: an occlusion window, the cell of a
            feature map; 0: single voxels, whose exact maximum is meant.

    Returns:
        The voxels, bool, the shape of the map.
    """
    high = values.max()
    spacing = spacing_of(affine, values.ndim)
    if high == values.min() or not resolution_mm / 2 > min(spacing):
        return np.asarray(values == high)
    smooth = _smoothed(values, spacing, resolution_mm / 2)
    asked = values > 0 if high > 0 else np.ones(values.shape, dtype=bool)
    found = smooth[asked]
    least = found.max() - _ROUNDING * (smooth.max() - smooth.min())
    strongest = np.asarray(asked & (smooth >= least))
    rounding = _ROUNDING * float(high - values.min())
    reach = [math.ceil(resolution_mm / voxel) for voxel in spacing]
    return _with_plateau(values, strongest, reach, rounding)


def _with_plateau(
    values: NDArray[np.floating],
    strongest: NDArray[np.bool_],
    reach: Sequence[int],
    rounding: float,
) -> NDArray[np.bool_]:
    """The voxels and those of equal value that touch them, within ``reach`` voxels an axis."""
    box = widened_box(bounding_box(strongest), reach)
    alike = np.abs(values[box] - values[strongest].max()) <= rounding
    found = strongest.copy()
    grown = found[box]
    count = 0
    while int(np.count_nonzero(grown)) != count:
        count = int(np.count_nonzero(grown))
        wider = grown.copy()
        for axis in range(values.ndim):
            ahead = np.moveaxis(grown, axis, 0)
            np.moveaxis(wider, axis, 0)[1:] |= ahead[:-1]
            np.moveaxis(wider, axis, 0)[:-1] |= ahead[1:]
        grown |= wider & alike
    return found


def _smoothed(
    values: NDArray[np.floating], spacing: Sequence[float], width_mm: float
) -> NDArray[np.floating]:
    # A product with a matrix per axis takes a third of a second on 240×240×155 voxels.
    kind = values.dtype if values.dtype in (np.float32, np.float64) else np.float32
    smooth = np.ascontiguousarray(values, dtype=kind)
    for axis, (size, voxel) in enumerate(zip(values.shape, spacing, strict=True)):
        if width_mm > voxel:
            apart = np.subtract.outer(np.arange(size), np.arange(size)) * (voxel / width_mm)
            weights = np.exp(-((apart * _WIDTH) ** 2) / 2)
            weights = (weights / weights.sum(axis=1, keepdims=True)).astype(kind)
            before = math.prod(values.shape[:axis])
            smooth = np.matmul(weights, smooth.reshape(before, size, -1))
    return smooth.reshape(values.shape)


def _middle_of(voxels: NDArray[np.bool_], affine: NDArray[np.float64]) -> tuple[int, ...]:
    candidates = np.argwhere(voxels)
    offsets = world_vectors(candidates - candidates.mean(axis=0), affine)
    apart = np.linalg.norm(offsets, axis=1).round(3)
    # Of those equally near the middle one is chosen by its place in the body, not by the order
    # of the axes: a flipped copy has the same picture.
    first = np.lexsort((*offsets.T.round(3), apart))[0]
    return tuple(int(at) for at in candidates[first])
