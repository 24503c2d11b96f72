"""Where occlusion's windows lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """The places of the occluding window: a regular grid, the last flush with the border.

    Windows are named by their index in this grid, the last axis running fastest.

    Attributes:
        window: Voxels per axis.
        starts: First voxels of the windows, one tuple per axis.
    """

    window: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Windows per axis."""
        return tuple(len(first) for first in self.starts)

    def places(self) -> list[tuple[slice, ...]]:
        """All windows, the last axis running fastest."""
        return [
            tuple(
                slice(first, first + size) for first, size in zip(corner, self.window, strict=True)
            )
            for corner in product(*self.starts)
        ]

    def corners(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """First voxels of windows, ``(windows, axes)``."""
        places = np.unravel_index(windows, self.grid)
        columns = [np.asarray(first)[at] for first, at in zip(self.starts, places, strict=True)]
        return np.stack(columns, axis=-1)

    def interpolation(self, shape: Sequence[int]) -> list[Tensor]:
        """Per axis the matrix that makes a map ``(*shape)`` of the windows' values ``(*grid)``.

        For :func:`SaliencyExplain.attribution.separable.along_axes`; see
        :func:`interpolation_between_windows`.
        """
        return [
            interpolation_between_windows(size, window, starts)
            for size, window, starts in zip(shape, self.window, self.starts, strict=True)
        ]


def interpolation_between_windows(size: int, window: int, starts: Sequence[int]) -> Tensor:
    """Weights that turn the values of an axis' windows into values of its voxels.

    A window's value belongs to its centre. A mean over the windows that cover a voxel would
    change wherever their number does; this does not depend on the number:

    - Windows that overlap: linear interpolation between the centres of neighbouring windows;
      before the first and behind the last centre, the end window's value.
    - Windows that do not overlap: the value of the window that covers the voxel. Where the last
      one overlaps because it lies flush with the border, that of the nearer centre, and the mean
      of both at equal distance.

    Args:
        size: Voxels along the axis.
        window: Voxels of a window.
        starts: First voxels of the windows, rising; each voxel is covered.

    Returns:
        ``(size, windows)``, float64; not negative, the rows' sums are 1.
    """
    centres = np.asarray(starts) + (window - 1) / 2
    voxels = np.arange(size)
    if len(centres) > 1 and centres[1] - centres[0] < window:
        weights = np.stack([np.interp(voxels, centres, one) for one in np.eye(len(centres))], 1)
    else:
        away = np.abs(voxels[:, None] - centres)
        nearest = away == away.min(axis=1, keepdims=True)
        weights = nearest / nearest.sum(axis=1, keepdims=True)
    return torch.from_numpy(weights)
