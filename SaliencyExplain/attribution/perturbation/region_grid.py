"""The grid on which regions are found: the same distance along all axes, for any voxel size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.separable import along_axes, interpolation_matrix

#: Voxels of the grid on which regions are found.
MOST_VOXELS = 2_000_000

#: Grid cells along a region's side that it keeps its shape with.
_CELLS_ALONG = 5


def cell_size(
    shape: Sequence[int], spacing: Sequence[float], size_mm: float, most_along: float = math.inf
) -> float:
    """Distance in mm of the grid on which regions of a size are found, equal along all axes."""
    extent = math.prod(size * voxel for size, voxel in zip(shape, spacing, strict=True))
    wanted = max(min(spacing), (extent / MOST_VOXELS) ** (1 / len(shape)), size_mm / most_along)
    return min(wanted, max(size_mm / _CELLS_ALONG, min(spacing)))


def resampled(values: Tensor, spacing: Sequence[float], cell: float) -> Tensor:
    """The image ``(C, *S)`` on a grid of ``cell`` mm over the same extent, linear."""
    if all(voxel == cell for voxel in spacing):
        return values
    matrices = []
    for size, voxel in zip(values.shape[1:], spacing, strict=True):
        count = cells_along(size, voxel, cell)
        # Both grids share their outer faces; cells of the image in cells of the new grid.
        scale = count / size
        matrices.append(interpolation_matrix(count, size, scale, (scale - 1) / 2).float())
    return torch.stack([along_axes(channel, matrices) for channel in values])


def looked_up(
    labels: NDArray[np.int64], shape: Sequence[int], spacing: Sequence[float], cell: float
) -> NDArray[np.int64]:
    """Labels of the grid of ``cell`` mm at the image's voxels ``(*S)``, of the cell around each."""
    if all(voxel == cell for voxel in spacing):
        return labels
    places = [
        np.minimum(((np.arange(size) + 0.5) * count / size).astype(int), count - 1)
        for size, count in zip(shape, labels.shape, strict=True)
    ]
    return labels[np.ix_(*places)]


def cells_along(size: int, voxel: float, cell: float) -> int:
    """How many cells of `cell` mm an axis of so many voxels of `voxel` mm has, at least one."""
    return max(1, round(size * voxel / cell))
