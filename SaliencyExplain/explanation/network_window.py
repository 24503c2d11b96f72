"""The part of the network's input in which a region is explained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from SaliencyExplain.geometry import bounding_box
from SaliencyExplain.models.network_grid import other_meta
from SaliencyExplain.models.sliding_window import SlidingWindow

#: A window that is enlarged has a multiple of the largest power of two that divides its usual
#: size, up to this, which the strides of the usual networks divide.
_LARGEST_FACTOR = 32


@dataclass(frozen=True)
class NetworkWindow:
    """A box of the network's input; beyond the input it is continued as in the prediction.

    Attributes:
        start: First voxel per axis; negative where the input is continued.
        size: Voxels per axis.
        of_shape: Voxels per axis of the whole input.
        windows: How the input is continued.
        enlarged: Whether it is larger than the network's usual window.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    of_shape: tuple[int, ...]
    windows: SlidingWindow
    enlarged: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole input."""
        return self.size == self.of_shape and not any(self.start)

    def cropped(self, values: Tensor) -> Tensor:
        """The window of ``(C, *S')``, as ``(C, *size)``."""
        pads: list[int] = []
        for first, size, edge in zip(self.start, self.size, self.of_shape, strict=True):
            pads = [max(0, -first), max(0, first + size - edge), *pads]
        if any(pads):
            mode = self.windows.padding_mode
            fill = {"value": self.windows.cval} if mode == "constant" else {}
            values = functional.pad(values[None], pads, mode=mode, **fill)[0]
        begins = [max(0, one) for one in self.start]
        box = [slice(None), *(slice(a, a + n) for a, n in zip(begins, self.size, strict=True))]
        return values[tuple(box)].contiguous()

    def mask(self, mask: NDArray[np.bool_]) -> Tensor:
        """The window of a mask ``(*S')``, as ``(*size)``; False beyond the input."""
        found = np.zeros(self.size, dtype=bool)
        here, there = [], []
        for first, size, edge in zip(self.start, self.size, self.of_shape, strict=True):
            begin, end = max(0, first), min(edge, first + size)
            here.append(slice(begin - first, end - first))
            there.append(slice(begin, end))
        found[tuple(here)] = mask[tuple(there)]
        return torch.from_numpy(found)

    def image(self, prepared: MetaTensor) -> MetaTensor:
        """The window of the network's input, with its affine."""
        affine = prepared.affine.numpy().astype(np.float64)
        offset = np.zeros(3)
        offset[: len(self.start)] = self.start
        moved = affine.copy()
        moved[:3, 3] += affine[:3, :3] @ offset
        values = self.cropped(prepared.as_tensor())
        return MetaTensor(values, affine=torch.from_numpy(moved), meta=other_meta(prepared))


def window_around(mask: NDArray[np.bool_], windows: SlidingWindow) -> NetworkWindow:
    """The window of the network's usual size around a region, or a larger one that holds it.

    The region lies in its middle, as far as the window fits into the input. An enlarged window
    leaves a quarter of the usual size on each side of the region.

    Args:
        mask: ``(*S')``, with at least one true voxel.
        windows: How the network is run.
    """
    shape = mask.shape
    start, size, enlarged = [], [], False
    usual = windows.of_explanation(shape)
    for side, edge, whole in zip(bounding_box(mask), usual, shape, strict=True):
        extent = side.stop - side.start
        if extent > edge:
            enlarged = True
            factor = min(edge & -edge, _LARGEST_FACTOR)
            edge = -(-min(whole, extent + edge // 2) // factor) * factor
        middle = (side.start + side.stop - edge) // 2
        fits = whole >= edge
        start.append(min(max(0, middle), whole - edge) if fits else -((edge - whole) // 2))
        size.append(edge)
    return NetworkWindow(tuple(start), tuple(size), tuple(shape), windows, enlarged)


def middle_window(shape: tuple[int, ...], windows: SlidingWindow) -> NetworkWindow:
    """The window of the usual size in the middle of an input."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(edge // 2 for edge in shape)] = True
    return window_around(mask, windows)
