"""Occlusion sensitivity: cover a place and see how much less sure the classifier is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from SaliencyExplain.attribution.batches import in_batches
from SaliencyExplain.attribution.guard import plain, untouched
from SaliencyExplain.attribution.method import Method, Task, parameter
from SaliencyExplain.attribution.occluded import CoveredWindows
from SaliencyExplain.attribution.separable import along_axes, coverage_matrix
from SaliencyExplain.errors import InputError


@dataclass(frozen=True)
class Windows:
    """The places of the occluding window: a regular grid, the last flush with the border.

    Attributes:
        window: Voxels per axis.
        starts: First voxels of the windows, one tuple per axis.
    """

    window: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]

    def places(self) -> list[tuple[slice, ...]]:
        """All windows, the last axis running fastest."""
        return [
            tuple(
                slice(first, first + size) for first, size in zip(corner, self.window, strict=True)
            )
            for corner in product(*self.starts)
        ]

    def coverage(self, shape: tuple[int, ...]) -> list[Tensor]:
        """Per axis the matrix that tells which voxels each window covers."""
        return [
            coverage_matrix(size, window, starts)
            for size, window, starts in zip(shape, self.window, self.starts, strict=True)
        ]


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion sensitivity with a box of constant size in millimetres.

    A box moves over the image and replaces what it covers, in all channels. The drop of
    the target's probability, ``p(original) - p(occluded)``, belongs to the box; a voxel's
    value is the mean over the boxes that cover it. The boxes lie as in MONAI: from the
    first voxel in steps of the stride, the last one flush with the border, so that each
    voxel is covered and no box reaches outside.

    A box that would replace nothing (air by air) has a drop of exactly 0 and costs nothing.
    """

    name: ClassVar[str] = "occlusion"
    title: ClassVar[str] = "Occlusion sensitivity"
    source: ClassVar[str] = (
        "Zeiler & Fergus 2014, section 4.2; p(original) minus the map of "
        "monai.visualize.OcclusionSensitivity with a constant fill"
    )
    signed: ClassVar[bool] = True

    window_mm: float = parameter(
        0.0,
        "Side of the occluding box.",
        unit="mm",
        minimum=0.0,
        automatic="an eighth of the image's longest side",
    )
    stride_mm: float = parameter(
        0.0,
        "Step from box to box.",
        unit="mm",
        minimum=0.0,
        automatic="half the window",
    )
    fill: str = parameter(
        "mean",
        "What replaces the voxels, per channel: the image's mean or minimum, the box's own mean, "
        "or `value`.",
        choices=("mean", "minimum", "window-mean", "value"),
    )
    value: float = parameter(
        0.0, "The constant for fill=value, in the units of the classifier's prepared input."
    )
    output: str = parameter(
        "probability",
        "What is watched: the target's probability, or its score before the activation.",
        choices=("probability", "score"),
    )

    def windows(self, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Windows:
        """Where the boxes lie on a grid, sizes rounded to whole voxels (at least one).

        Args:
            shape: Voxels per axis.
            spacing: Millimetres per voxel and axis.

        Raises:
            InputError: The image is smaller than the box, or the stride leaves gaps.
        """
        sides = [size * voxel for size, voxel in zip(shape, spacing, strict=True)]
        window_mm, stride_mm = self._sizes_mm(sides)
        if stride_mm > window_mm:
            raise InputError(
                f"occlusion.stride_mm ({stride_mm:g} mm) is larger than the window "
                f"({window_mm:g} mm): voxels between the boxes would never be covered."
            )
        window, starts = [], []
        for size, voxel in zip(shape, spacing, strict=True):
            width = max(1, round(window_mm / voxel))
            if width > size:
                image = " x ".join(f"{side:g}" for side in sides)
                raise InputError(
                    f"The image ({image} mm) is smaller than the occlusion window "
                    f"({window_mm:g} mm); set occlusion.window_mm to less."
                )
            step = min(max(1, round(stride_mm / voxel)), width)
            window.append(width)
            starts.append((*range(0, size - width, step), size - width))
        return Windows(tuple(window), tuple(starts))

    def resolved(self, task: Task) -> Occlusion:
        """With the window and the stride in millimetres that this image gets."""
        sides = [
            size * voxel for size, voxel in zip(task.input.shape[2:], task.spacing, strict=True)
        ]
        window_mm, stride_mm = self._sizes_mm(sides)
        return dataclasses.replace(self, window_mm=window_mm, stride_mm=stride_mm)

    def _sizes_mm(self, sides: Sequence[float]) -> tuple[float, float]:
        window_mm = self.window_mm or min(max(sides) / 8, min(sides))
        return window_mm, self.stride_mm or window_mm / 2

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; drops of probability lie in [-1, 1]."""
        image = plain(task.input)
        shape = tuple(image.shape[2:])
        windows = self.windows(shape, task.spacing)
        fill = self._fill(image)
        with untouched(task.network):
            covered = CoveredWindows(
                task.network,
                image,
                windows.window,
                windows.starts,
                fill,
                self._changing(image, fill, windows),
            )
            # The first is of the image as it is, the others of the boxes that change it.
            watched = torch.zeros(1 + len(covered.order), dtype=torch.float64)

            def watch(indices: range) -> Tensor:
                scores = covered.scores(indices)
                if self.output == "probability":
                    scores = task.network.probabilities(scores)
                return scores[:, task.target].double().cpu()

            for indices, values in in_batches(
                task, len(watched), watch, gradient=False, total=float(len(watched))
            ):
                watched[indices.start : indices.stop] = values
        drops = torch.zeros(len(windows.places()), dtype=torch.float64)
        drops[covered.order] = watched[0] - watched[1:]

        coverage = windows.coverage(shape)
        means = [matrix / matrix.sum(dim=1, keepdim=True) for matrix in coverage]
        grid = drops.reshape([len(starts) for starts in windows.starts])
        return {"": along_axes(grid, means).float().to(image.device)}

    def forward_passes(self, task: Task) -> float:
        """One for the image and one for each box that replaces something."""
        image = plain(task.input)
        windows = self.windows(tuple(image.shape[2:]), task.spacing)
        return 1.0 + len(self._changing(image, self._fill(image), windows))

    def _fill(self, image: Tensor) -> Tensor | None:
        """Per channel the constant, shape ``(C, 1, ...)``; None: each box has its own."""
        if self.fill == "window-mean":
            return None
        channels = image[0].flatten(1)
        if self.fill == "mean":
            values = channels.mean(dim=1)
        elif self.fill == "minimum":
            values = channels.amin(dim=1)
        else:
            values = channels.new_full((len(channels),), self.value)
        return values.reshape(-1, *[1] * (image.ndim - 2))

    def _changing(self, image: Tensor, fill: Tensor | None, windows: Windows) -> list[int]:
        """Indices of the boxes that replace at least one voxel by another value."""
        if fill is None:
            return list(range(len(windows.places())))
        differs = (image[0] != fill).any(dim=0).double().cpu()
        coverage = windows.coverage(tuple(image.shape[2:]))
        counts = along_axes(differs, [matrix.T for matrix in coverage])
        return torch.nonzero(counts.flatten() > 0.5).flatten().tolist()
