"""Occlusion sensitivity: cover a place and see how much less sure the classifier is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.batches import in_stages
from SaliencyExplain.attribution.coarse_to_fine import CoarseToFine
from SaliencyExplain.attribution.fill import FILLS, FILLS_HELP
from SaliencyExplain.attribution.filling import Filling, automatic_blur_mm
from SaliencyExplain.attribution.filling import filling as filling_of
from SaliencyExplain.attribution.growing import GrowingMap
from SaliencyExplain.attribution.guard import plain, untouched
from SaliencyExplain.attribution.hints import hints
from SaliencyExplain.attribution.method import Method, Task, parameter
from SaliencyExplain.attribution.occluded import CoveredWindows
from SaliencyExplain.attribution.separable import along_axes
from SaliencyExplain.attribution.windows import Windows
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name

#: ``channel``: all at once, or each by itself with a map for each.
_ALL, _EACH = "all", "each"


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion sensitivity with a box of constant size in millimetres.

    A box moves over the image and replaces what it covers, in all channels at once or in
    one of them, such as one modality (:func:`filling` says by what). The drop of
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
    family: ClassVar[str] = "perturbation"
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
        f"What replaces the voxels: {FILLS_HELP}.",
        choices=FILLS,
    )
    value: float = parameter(
        0.0, "The constant for fill=value, in the units of the classifier's prepared input."
    )
    blur_mm: float = parameter(
        0.0,
        "Standard deviation of the Gaussian filter for fill=blur.",
        unit="mm",
        minimum=0.0,
        automatic="a sixteenth of the image's longest side",
    )
    channel: str = parameter(
        _ALL,
        "What the box covers: `all` channels together, `each` by itself (a map for each), or the "
        "channel of this name.",
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
                ErrorCode.VALUE_RANGE,
                f"occlusion.stride_mm ({stride_mm:g} mm) is larger than the window "
                f"({window_mm:g} mm): voxels between the boxes would never be covered.",
            )
        window, starts = [], []
        for size, voxel in zip(shape, spacing, strict=True):
            width = max(1, round(window_mm / voxel))
            if width > size:
                image = " x ".join(f"{side:g}" for side in sides)
                raise InputError(
                    ErrorCode.WINDOW,
                    f"The image ({image} mm) is smaller than the occlusion window "
                    f"({window_mm:g} mm); set occlusion.window_mm to less.",
                )
            step = min(max(1, round(stride_mm / voxel)), width)
            window.append(width)
            starts.append((*range(0, size - width, step), size - width))
        return Windows(tuple(window), tuple(starts))

    def resolved(self, task: Task) -> Occlusion:
        """With the window, stride and blur in millimetres that this image gets."""
        shape = tuple(task.input.shape[2:])
        sides = [size * voxel for size, voxel in zip(shape, task.spacing, strict=True)]
        window_mm, stride_mm = self._sizes_mm(sides)
        blur_mm = self.blur_mm
        if self.fill == "blur" and not blur_mm:
            blur_mm = automatic_blur_mm(shape, task.spacing)
        return dataclasses.replace(self, window_mm=window_mm, stride_mm=stride_mm, blur_mm=blur_mm)

    def _sizes_mm(self, sides: Sequence[float]) -> tuple[float, float]:
        window_mm = self.window_mm or min(max(sides) / 8, min(sides))
        return window_mm, self.stride_mm or window_mm / 2

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; drops of probability lie in [-1, 1].

        With ``channel`` the maps have the channels' names as their keys.
        """
        image = plain(task.input)
        windows, filling = self._places(task)
        means = [
            matrix / matrix.sum(dim=1, keepdim=True)
            for matrix in windows.coverage(tuple(image.shape[2:]))
        ]
        keys = self._channels(task)
        changing = self._changing(task, windows, filling)
        growing = GrowingMap(task)
        with untouched(task.network):
            covered = CoveredWindows(
                task, windows, filling, sorted(set().union(*map(set, changing)))
            )
            total = sum(map(len, changing))
            guides = hints(
                task,
                filling,
                windows,
                list(keys.values()),
                probability=self.output == "probability",
                forward_passes=covered.share * total,
            )
            drops = [
                CoarseToFine(windows.starts, asked, guide)
                for asked, guide in zip(changing, guides, strict=True)
            ]
            # The image as it is comes first, then the windows in their order.
            order = np.zeros(1, dtype=np.int64)
            current = 0

            def stages() -> Iterator[int]:
                nonlocal order, current
                yield 1
                waiting = [one.stages() for one in drops]
                turns = list(range(len(drops)))
                while turns:
                    for current in list(turns):
                        stage = next(waiting[current], None)
                        if stage is None:
                            turns.remove(current)
                        else:
                            order = np.concatenate([order, covered.arranged(stage)])
                            yield len(stage)

            def watch(indices: range) -> Tensor:
                if indices.start == 0:
                    scores = covered.original()
                else:
                    channel = list(keys.values())[current]
                    scores = covered.scores(order[indices.start : indices.stop], channel)
                if self.output == "probability":
                    scores = task.network.probabilities(scores)
                return scores[:, task.target].double().cpu()

            def so_far() -> dict[str, Tensor]:
                return {
                    key: along_axes(torch.from_numpy(one.guess()), means).float().to(image.device)
                    for key, one in zip(keys, drops, strict=True)
                }

            original = 0.0
            for indices, values in in_stages(
                task, stages(), watch, gradient=False, total=1.0 + total, share=covered.share
            ):
                if indices.start == 0:
                    original = float(values)
                    continue
                drops[current].tell(order[indices.start : indices.stop], original - values.numpy())
                # Before the coarsest stage is done there is nothing to guess by.
                last = indices.stop == len(order)
                share = (indices.stop - 1) / total
                if all(one.guesses for one in drops) and growing.is_enough(
                    share, so_far, stage=last
                ):
                    break
        return so_far()

    def forward_passes(self, task: Task) -> float:
        """One for the image and one for each box that replaces something."""
        return 1.0 + sum(map(len, self._changing(task, *self._places(task))))

    def _places(self, task: Task) -> tuple[Windows, Filling]:
        """The boxes, and what they are filled with."""
        image = plain(task.input)
        return self.windows(tuple(image.shape[2:]), task.spacing), filling_of(
            image,
            self.fill,
            task.spacing,
            value=self.value,
            blur_mm=self.blur_mm,
            seed=task.seed,
        )

    def _channels(self, task: Task) -> dict[str, int | None]:
        """What is covered by the keys of the maps: one channel, or None for all together.

        Raises:
            InputError: The image has no such channel.
        """
        if self.channel == _ALL:
            return {"": None}
        count = task.input.shape[1]
        names = task.channels if len(task.channels) == count else range(1, count + 1)
        numbers: dict[str, int | None] = {str(name): at for at, name in enumerate(names)}
        if self.channel == _EACH:
            return numbers
        if self.channel not in numbers:
            raise unknown_name("channel", self.channel, [_ALL, _EACH, *numbers])
        return {self.channel: numbers[self.channel]}

    def _changing(self, task: Task, windows: Windows, filling: Filling) -> list[list[int]]:
        """For each map the boxes that replace at least one voxel by another value."""
        changes = filling.changes(windows)
        return [
            np.flatnonzero(changes.any(axis=0) if channel is None else changes[channel]).tolist()
            for channel in self._channels(task).values()
        ]
