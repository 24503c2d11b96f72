"""Linear maps on a grid that work axis by axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def along_axes(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Applies one matrix per axis: axis a of length n becomes length m by an (m, n) matrix.

    Args:
        values: ``(*S)``.
        matrices: A matrix per axis of S.

    Returns:
        ``(*T)``, where T are the matrices' numbers of rows.
    """
    for axis, matrix in enumerate(matrices):
        values = torch.tensordot(matrix, values, dims=([1], [axis])).movedim(0, axis)
    return values.contiguous()


def coverage_matrix(size: int, window: int, starts: Sequence[int]) -> Tensor:
    """Which voxels of an axis each window covers: ``(size, len(starts))`` of 0 and 1."""
    voxels = torch.arange(size)[:, None]
    first = torch.as_tensor(list(starts))[None, :]
    return ((voxels >= first) & (voxels < first + window)).double()


def interpolation_matrix(size: int, cells: int, scale: float, offset: float) -> Tensor:
    """Linear interpolation along an axis, ``(size, cells)``, constant beyond the end cells.

    Args:
        size: Voxels along the axis.
        cells: Cells of the coarse grid; cell i has its centre at voxel
            ``scale * i + offset``.
        scale: Voxels from cell to cell.
        offset: Voxel coordinate of the first cell's centre.
    """
    place = ((torch.arange(size).double() - offset) / scale).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells)[None, :]).abs()).clamp(min=0)
