"""Occlusion sensitivity: cover a place and see how much less sure the classifier is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.batches import in_stages
from SaliencyExplain.attribution.coarse_to_fine import CoarseToFine
from SaliencyExplain.attribution.fill import FILLS, fill_values
from SaliencyExplain.attribution.growing import GrowingMap
from SaliencyExplain.attribution.guard import plain, untouched
from SaliencyExplain.attribution.hints import hints
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

    The boxes are computed from coarse to fine (:class:`CoarseToFine`), and the map so far,
    with a guess at the boxes not computed yet, is published on the way; where it costs
    less than 6 % of the work, a gradient of the image helps to guess. A deadline is kept
    once the coarsest stage is done. The finished map holds no guess.
    """

    name: ClassVar[str] = "occlusion"
    title: ClassVar[str] = "Occlusion sensitivity"
    source: ClassVar[str] = (
        "Zeiler & Fergus 2014, section 4.2; p(original) minus the map of "
        "monai.visualize.OcclusionSensitivity with a constant fill"
    )
    signed: ClassVar[bool] = True
    parts: ClassVar[str] = "windows"

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
        choices=FILLS,
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
        windows = self.windows(tuple(image.shape[2:]), task.spacing)
        coverage = windows.coverage(tuple(image.shape[2:]))
        means = [matrix / matrix.sum(dim=1, keepdim=True) for matrix in coverage]
        fill = fill_values(image, self.fill, self.value)
        changing = self._changing(image, fill, windows)
        growing = GrowingMap(task)
        with untouched(task.network):
            covered = CoveredWindows(
                task.network, image, windows.window, windows.starts, fill, changing
            )
            guides = hints(
                task.network,
                image,
                task.target,
                fill,
                coverage,
                probability=self.output == "probability",
                forward_passes=covered.share * len(changing),
            )
            drops = CoarseToFine(windows.starts, changing, guides)

            # The image as it is comes first, then the windows in their order.
            order = np.zeros(1, dtype=np.int64)

            def stages() -> Iterator[int]:
                nonlocal order
                yield 1
                for stage in drops.stages():
                    order = np.concatenate([order, covered.arranged(stage)])
                    yield len(stage)

            def watch(indices: range) -> Tensor:
                if indices.start == 0:
                    scores = covered.original()
                else:
                    scores = covered.scores(order[indices.start : indices.stop])
                if self.output == "probability":
                    scores = task.network.probabilities(scores)
                return scores[:, task.target].double().cpu()

            def so_far() -> dict[str, Tensor]:
                guess = torch.from_numpy(drops.guess())
                return {"": along_axes(guess, means).float().to(image.device)}

            original = 0.0
            for indices, values in in_stages(
                task, stages(), watch, gradient=False, total=1.0 + len(changing)
            ):
                if indices.start == 0:
                    original = float(values)
                    continue
                drops.tell(order[indices.start : indices.stop], original - values.numpy())
                # Before the coarsest stage is done there is nothing to guess by.
                last = indices.stop == len(order)
                if drops.guesses and growing.is_enough(drops.share, so_far, stage=last):
                    break
        return so_far()

    def forward_passes(self, task: Task) -> float:
        """One for the image and one for each box that replaces something."""
        image = plain(task.input)
        windows = self.windows(tuple(image.shape[2:]), task.spacing)
        return 1.0 + len(self._changing(image, fill_values(image, self.fill, self.value), windows))

    def _changing(self, image: Tensor, fill: Tensor | None, windows: Windows) -> list[int]:
        """Indices of the boxes that replace at least one voxel by another value."""
        if fill is None:
            return list(range(len(windows.places())))
        differs = (image[0] != fill).any(dim=0).double().cpu()
        coverage = windows.coverage(tuple(image.shape[2:]))
        counts = along_axes(differs, [matrix.T for matrix in coverage])
        return torch.nonzero(counts.flatten() > 0.5).flatten().tolist()
