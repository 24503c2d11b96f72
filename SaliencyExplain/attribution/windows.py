"""Where occlusion's windows lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.separable import coverage_matrix


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

    def coverage(self, shape: Sequence[int]) -> list[Tensor]:
        """Per axis the matrix that tells which voxels each window covers."""
        return [
            coverage_matrix(size, window, starts)
            for size, window, starts in zip(shape, self.window, self.starts, strict=True)
        ]
