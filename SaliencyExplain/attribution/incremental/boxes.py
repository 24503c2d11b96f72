"""Where a changed box of the image reaches in each feature map, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from SaliencyExplain.attribution.graph.kernels import Kernel

Integers = NDArray[np.int64]

#: The memory format of feature maps, by their number of spatial axes.
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Interval:
    """For each of a set of changes the cells ``first <= cell < last`` it may reach on an axis."""

    first: Integers
    last: Integers

    def affected(self, kernel: Kernel, size: int) -> Interval:
        """The outputs, of ``size``, whose kernel meets a changed input; may be none of them."""
        first = -((kernel.span - kernel.padding - self.first) // kernel.stride)
        last = (self.last - 1 + kernel.padding) // kernel.stride + 1
        return Interval(np.clip(first, 0, size - 1), np.clip(last, 0, size))

    def union(self, other: Interval) -> Interval:
        """The cells that either reaches, and those between."""
        return Interval(np.minimum(self.first, other.first), np.maximum(self.last, other.last))


@dataclass(frozen=True)
class Boxes:
    """Boxes of equal shape in a feature map, one for each image of a batch.

    Attributes:
        first: First cells, ``(batch, axes)``; outside of the map where padding is meant.
        shape: Cells per axis.
        full: Whether each of them is the whole map.
    """

    first: Integers
    shape: tuple[int, ...]
    full: bool = False

    @classmethod
    def whole(cls, count: int, size: Sequence[int]) -> Boxes:
        """The whole map of that size for each of ``count`` images."""
        return cls(np.zeros((count, len(size)), dtype=np.int64), tuple(size), full=True)

    def inputs(self, kernels: Sequence[Kernel], size: Sequence[int]) -> Boxes:
        """The boxes of a map of this ``size`` that outputs in these boxes are made of."""
        first = [self.first[:, n] * k.stride - k.padding for n, k in enumerate(kernels)]
        along = zip(self.shape, kernels, strict=True)
        shape = tuple((length - 1) * k.stride + k.span + 1 for length, k in along)
        return Boxes(np.stack(first, axis=1), shape, full=shape == tuple(size))

    def same(self, other: Boxes) -> bool:
        """Whether both are the same boxes."""
        return self.shape == other.shape and bool((self.first == other.first).all())

    def slices_in(self, outer: Boxes) -> tuple[slice, ...] | None:
        """Where these lie within others, if at the same place in each image and inside."""
        offset = self.first - outer.first
        if (offset != offset[0]).any() or (offset[0] < 0).any():
            return None
        slices = tuple(
            slice(int(start), int(start) + length)
            for start, length in zip(offset[0], self.shape, strict=True)
        )
        inside = all(s.stop <= n for s, n in zip(slices, outer.shape, strict=True))
        return slices if inside else None


def inside(first: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """A box as the index of an array ``(C, *S)``."""
    spatial = (slice(start, start + size) for start, size in zip(first, shape, strict=True))
    return (slice(None), *spatial)


def overlap(
    first: Integers, shape: Sequence[int], other_first: Integers, other: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """The common cells of two boxes as slices of each; None where they do not meet."""
    ours, theirs = [], []
    for a, n, b, m in zip(first.tolist(), shape, other_first.tolist(), other, strict=True):
        start, stop = max(a, b), min(a + n, b + m)
        if start >= stop:
            return None
        ours.append(slice(start - a, stop - a))
        theirs.append(slice(start - b, stop - b))
    return tuple(ours), tuple(theirs)
