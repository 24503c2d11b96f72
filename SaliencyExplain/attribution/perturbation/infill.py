"""Fills for the voxels that are removed from an image."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.incremental.boxes import inside
from SaliencyExplain.attribution.perturbation.harmonic_infill import harmonic_infill
from SaliencyExplain.attribution.perturbation.infill_choices import FILLS
from SaliencyExplain.attribution.perturbation.occlusion_windows import Windows
from SaliencyExplain.attribution.separable import along_axes, coverage_matrix
from SaliencyExplain.errors import unknown_name

#: Sigma of the automatic blur, as a share of the image's longest side: half the automatic
#: occlusion window, so that nothing as small as a window is left.
_BLUR_SHARE = 1 / 16


@dataclass(frozen=True)
class Infill(ABC):
    """What is put into places of one image.

    Attributes:
        image: ``(1, C, *S)``.
    """

    image: Tensor

    @abstractmethod
    def boxes(self, corners: NDArray[np.int64], window: Sequence[int]) -> Tensor:
        """What is put into boxes, ``(boxes, C, *window)``.

        Args:
            corners: Their first voxels, ``(boxes, axes)``.
            window: Their voxels per axis.
        """

    @abstractmethod
    def place(self, corner: Sequence[int], removed: Tensor) -> Tensor:
        """What is put into a place of any form, ``(C, *box)``; right where it is removed.

        Args:
            corner: First voxel of a box around it.
            removed: ``(*box)``, true where the image is replaced.
        """

    @abstractmethod
    def taken_away(self, slopes: Tensor, windows: Windows) -> Tensor:
        """Sum over each window of a slope times what the voxel loses, ``(C, *grid)``.

        About that, where what is put into a window is no constant of its own.

        Args:
            slopes: ``(C, *S)``, float64 on the CPU.
            windows: The windows.
        """

    @abstractmethod
    def changes(self, windows: Windows) -> NDArray[np.bool_]:
        """For each channel and window whether anything becomes another value, ``(C, *grid)``."""

    def _given(self, corner: Sequence[int], shape: Sequence[int]) -> Tensor:
        """The image in a box, ``(C, *box)``."""
        return self.image[0][inside(corner, shape)]


@dataclass(frozen=True)
class _Substitute(Infill):
    """Another image shows through.

    Attributes:
        substitute: ``(C, *S)``, or ``(C, 1, ...)`` for a constant of each channel.
    """

    substitute: Tensor

    def boxes(self, corners: NDArray[np.int64], window: Sequence[int]) -> Tensor:
        whole = self.substitute.expand_as(self.image[0])
        return torch.stack([whole[inside(corner, window)] for corner in corners.tolist()])

    def place(self, corner: Sequence[int], removed: Tensor) -> Tensor:
        return self.substitute.expand_as(self.image[0])[inside(corner, removed.shape)]

    def taken_away(self, slopes: Tensor, windows: Windows) -> Tensor:
        lost = slopes * (self.image[0].double() - self.substitute.double()).cpu()
        return _summed(lost, _sums(windows, lost.shape[1:]))

    def changes(self, windows: Windows) -> NDArray[np.bool_]:
        differs = (self.image[0] != self.substitute).double().cpu()
        return (_summed(differs, _sums(windows, differs.shape[1:])) > 0.5).numpy()


@dataclass(frozen=True)
class _OwnMean(Infill):
    """The mean of what is removed."""

    def boxes(self, corners: NDArray[np.int64], window: Sequence[int]) -> Tensor:
        found = torch.stack([self._given(corner, window) for corner in corners.tolist()])
        axes = tuple(range(2, found.ndim))
        return found.mean(dim=axes, keepdim=True).expand_as(found)

    def place(self, corner: Sequence[int], removed: Tensor) -> Tensor:
        given = self._given(corner, removed.shape)
        mean = given[:, removed].mean(dim=1)
        return mean.reshape(-1, *[1] * removed.ndim).expand_as(given)

    def taken_away(self, slopes: Tensor, windows: Windows) -> Tensor:
        values = self.image[0].double().cpu()
        sums = _sums(windows, values.shape[1:])
        means = _summed(values, sums) / math.prod(windows.window)
        return _summed(slopes * values, sums) - _summed(slopes, sums) * means

    def changes(self, windows: Windows) -> NDArray[np.bool_]:
        return _varies(self.image[0], windows, margin=0)


@dataclass(frozen=True)
class _Inpainted(Infill):
    """The surroundings, smoothly continued.

    Attributes:
        spacing: Size of a voxel in mm, per axis.
    """

    spacing: tuple[float, ...]

    def boxes(self, corners: NDArray[np.int64], window: Sequence[int]) -> Tensor:
        removed = torch.ones(tuple(window), dtype=torch.bool, device=self.image.device)
        return harmonic_infill(self.image[0], corners, removed, self.spacing)

    def place(self, corner: Sequence[int], removed: Tensor) -> Tensor:
        corners = np.asarray([corner], dtype=np.int64)
        return harmonic_infill(self.image[0], corners, removed, self.spacing)[0]

    def taken_away(self, slopes: Tensor, windows: Windows) -> Tensor:
        """As if the mean of the voxels beside a window stood in it."""
        values = self.image[0].double().cpu()
        shape = values.shape[1:]
        inner, outer = _sums(windows, shape), _sums(windows, shape, margin=1)
        beside = along_axes(torch.ones(shape, dtype=torch.float64), outer)
        beside = (beside - math.prod(windows.window)).clamp(min=1)
        means = (_summed(values, outer) - _summed(values, inner)) / beside
        return _summed(slopes * values, inner) - _summed(slopes, inner) * means

    def changes(self, windows: Windows) -> NDArray[np.bool_]:
        return _varies(self.image[0], windows, margin=1)


def infill_of(
    image: Tensor,
    fill: str,
    spacing: Sequence[float],
    *,
    value: float = 0.0,
    blur_mm: float = 0.0,
    seed: int = 0,
) -> Infill:
    """What replaces the removed places of an image.

    Args:
        image: ``(1, C, *S)``.
        fill: Per channel the image's ``mean`` or ``minimum``, the removed place's own mean
            (``window-mean``), or ``value``; ``blur``: the image after a Gaussian filter (as
            in Fong & Vedaldi 2017, section 4.1); ``noise``: independent Gaussian noise with
            each channel's mean and standard deviation, cut off at its least and largest value;
            ``inpaint``: see :func:`harmonic_infill`.
        spacing: Size of a voxel in mm, per axis.
        value: The constant for ``value``, in the units of the prepared input.
        blur_mm: Standard deviation of the filter in mm; 0: a sixteenth of the longest side.
        seed: Of the noise, which is drawn once for the image.

    Raises:
        InputError: There is no such fill.
    """
    if fill not in FILLS:
        raise unknown_name("fill", fill, FILLS)
    if fill == "window-mean":
        return _OwnMean(image)
    if fill == "inpaint":
        return _Inpainted(image, tuple(spacing))
    if fill == "blur":
        sigma = blur_mm or automatic_blur_mm(image.shape[2:], spacing)
        return _Substitute(image, _blurred(image[0], [sigma / voxel for voxel in spacing]))
    channels = image[0].flatten(1)
    if fill == "noise":
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(channels.shape, generator=generator).to(channels.device)
        drawn = channels.mean(1, keepdim=True) + channels.std(1, keepdim=True) * drawn
        low, high = channels.amin(1, keepdim=True), channels.amax(1, keepdim=True)
        return _Substitute(image, drawn.clamp(low, high).reshape(image[0].shape))
    if fill == "mean":
        values = channels.mean(dim=1)
    elif fill == "minimum":
        values = channels.amin(dim=1)
    else:
        values = channels.new_full((len(channels),), value)
    return _Substitute(image, values.reshape(-1, *[1] * (image.ndim - 2)))


def automatic_blur_mm(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """The blur's standard deviation where none is given, in mm."""
    sides = [size * voxel for size, voxel in zip(shape, spacing, strict=True)]
    return _BLUR_SHARE * max(sides)


def _blurred(channels: Tensor, sigmas: Sequence[float]) -> Tensor:
    """A Gaussian filter that divides by the part of itself that lies in the image."""
    matrices = []
    for size, sigma in zip(channels.shape[1:], sigmas, strict=True):
        places = torch.arange(size, dtype=torch.float64)
        weights = torch.exp(-0.5 * ((places[:, None] - places) / sigma) ** 2)
        matrices.append((weights / weights.sum(1, keepdim=True)).to(channels))
    return torch.stack([along_axes(channel, matrices) for channel in channels])


def _sums(windows: Windows, shape: Sequence[int], margin: int = 0) -> list[Tensor]:
    """Per axis the matrix that sums over each window and so many voxels around it."""
    return [
        coverage_matrix(size, width + 2 * margin, [first - margin for first in starts]).T
        for size, width, starts in zip(shape, windows.window, windows.starts, strict=True)
    ]


def _summed(channels: Tensor, sums: Sequence[Tensor]) -> Tensor:
    return torch.stack([along_axes(one, sums) for one in channels])


def _varies(channels: Tensor, windows: Windows, margin: int) -> NDArray[np.bool_]:
    """For each channel and window whether it, with a margin, holds more than one value."""
    found = torch.zeros((len(channels), *windows.grid), dtype=torch.float64)
    sums = _sums(windows, channels.shape[1:], margin)
    for axis, (width, starts) in enumerate(zip(windows.window, windows.starts, strict=True)):
        steps = (channels.diff(dim=axis + 1) != 0).double().cpu()
        if not steps.numel():
            continue
        first = [start - margin for start in starts]
        between = coverage_matrix(steps.shape[axis + 1], width + 2 * margin - 1, first).T
        matrices = [*sums[:axis], between, *sums[axis + 1 :]]
        found += _summed(steps, matrices)
    return (found > 0.5).numpy()
