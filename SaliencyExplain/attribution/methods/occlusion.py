"""Occlusion sensitivity: the drop of the target's probability when a window is replaced."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.network.frozen_network import plain, untouched
from SaliencyExplain.attribution.passes.anytime import AnytimeMap
from SaliencyExplain.attribution.passes.batches import in_stages
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.passes.watched_output import PROBABILITY, SCORE, Watched
from SaliencyExplain.attribution.perturbation.coarse_to_fine import CoarseToFine
from SaliencyExplain.attribution.perturbation.gradient_prior import gradient_priors
from SaliencyExplain.attribution.perturbation.infill import Infill, automatic_blur_mm, infill_of
from SaliencyExplain.attribution.perturbation.infill_choices import FILLS, FILLS_HELP
from SaliencyExplain.attribution.perturbation.occlusion_scorer import OcclusionScorer
from SaliencyExplain.attribution.perturbation.occlusion_windows import Windows
from SaliencyExplain.attribution.separable import along_axes
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.specification.parameters import automatic_length, constant_of, parameter

#: ``channel``: all channels at once, or one at a time with a map for each.
_ALL, _EACH = "all", "each"
#: Largest number of windows. Volumes of 96^3 voxels have 14,000 at a stride of 4 voxels, 2D images
#: of 256 x 256 pixels have 65,000 at a stride of 1.
_MOST_WINDOWS = 100_000


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion sensitivity with a box of constant size in millimetres.

    A box moves over the image. The voxels in it are replaced (see :func:`infill_of`), in all
    channels at once or in one of them, such as one modality. The drop of the target's
    probability, ``p(original) - p(occluded)``, is the value at the box's centre; values between
    the centres are interpolated (:func:`interpolation_between_windows`). The boxes are placed as
    in MONAI: from the first voxel in steps of the stride, the last one flush with the border, so
    that each voxel is covered and no box reaches outside. MONAI's map is the mean over the boxes
    that cover a voxel; it is discontinuous where the number of covering boxes changes.

    The automatic box is twice the stride on the grid. In a volume with so few slices that they
    are thinner together than the box, the box covers all of them.

    Where the probability is saturated
    (:mod:`SaliencyExplain.attribution.passes.watched_output`), the drop is of the score, and a
    note says so.

    A box that would change no voxel (air replaced by air) has a drop of exactly 0 and costs
    nothing.

    The boxes are computed from coarse to fine (:class:`CoarseToFine`). The map so far, with
    estimates for the boxes that are not computed yet, is published during the computation; where
    it costs less than 6 % of the work, a gradient of the image improves the estimates. The
    deadline applies once the coarsest stage is done. The finished map contains no estimates.
    """

    name: ClassVar[str] = "occlusion"
    family: ClassVar[str] = "perturbation"
    title: ClassVar[str] = "Occlusion sensitivity"
    source: ClassVar[str] = (
        "Zeiler & Fergus 2014, section 4.2; each window's drop is that of "
        "monai.visualize.OcclusionSensitivity with a constant fill"
    )
    signed: ClassVar[bool] = True
    parts: ClassVar[str] = "windows"

    window_mm: float = automatic_length(
        "Side of the occlusion window.",
        automatic="about an eighth of the image's longest side",
    )
    stride_mm: float = automatic_length(
        "Distance between the centres of neighbouring windows.",
        automatic="half the window",
    )
    fill: str = parameter(
        "mean",
        f"What replaces the voxels of the window: {FILLS_HELP}.",
        choices=FILLS,
    )
    value: float = constant_of("fill")
    blur_mm: float = automatic_length(
        "Standard deviation of the Gaussian blur for fill=blur.",
        automatic="a sixteenth of the image's longest side",
    )
    channel: str = parameter(
        _ALL,
        "Channels that the window covers: `all` together, `each` separately (one map per channel), "
        "or the channel with this name.",
    )
    output: str = parameter(
        "probability",
        "Output whose drop is measured: the target's probability, or its score before the "
        "activation.",
        choices=("probability", "score"),
    )

    def windows(
        self, shape: tuple[int, ...], spacing: tuple[float, ...], length_unit: str = "mm"
    ) -> Windows:
        """The boxes on a grid, with sizes rounded to whole voxels (at least one).

        Args:
            shape: Voxels per axis.
            spacing: Millimetres per voxel and axis.
            length_unit: Unit in messages, as in :class:`Task`.

        Raises:
            InputError: The image is smaller than the box along more than one axis of a volume,
                or along an axis in 2D; or the stride leaves gaps.
        """
        window_mm, stride_mm = self._sizes_mm(shape, spacing)
        if stride_mm > window_mm:
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"occlusion.stride_mm: {stride_mm:g} {length_unit} is larger than the window of "
                f"{window_mm:g} {length_unit}, so voxels between the windows would never be "
                "covered. Set a stride of at most the window.",
            )
        widths = [_voxels(window_mm, voxel) for voxel in spacing]
        short = sum(width > size for width, size in zip(widths, shape, strict=True))
        if short > (len(shape) == 3):
            image = " x ".join(f"{n * voxel:g}" for n, voxel in zip(shape, spacing, strict=True))
            raise InputError(
                ErrorCode.WINDOW,
                f"occlusion.window_mm: the window of {window_mm:g} {length_unit} is larger than "
                f"the image ({image} {length_unit}). Set a smaller window.",
            )
        window = tuple(min(width, size) for width, size in zip(widths, shape, strict=True))
        starts = tuple(
            (*range(0, size - width, min(_voxels(stride_mm, voxel), width)), size - width)
            for size, voxel, width in zip(shape, spacing, window, strict=True)
        )
        found = Windows(window, starts)
        if math.prod(found.grid) > _MOST_WINDOWS:
            raise InputError(
                ErrorCode.WINDOW,
                f"occlusion.stride_mm: a stride of {stride_mm:g} {length_unit} gives "
                f"{math.prod(found.grid):,} windows, and the limit is {_MOST_WINDOWS:,}. "
                "Set a larger stride.",
            )
        return found

    def resolved(self, task: Task) -> Occlusion:
        """The method with the window, stride and blur in millimetres for this image."""
        shape = tuple(task.input.shape[2:])
        window_mm, stride_mm = self._sizes_mm(shape, task.spacing)
        blur_mm = self.blur_mm
        if self.fill == "blur" and not blur_mm:
            blur_mm = automatic_blur_mm(shape, task.spacing)
        return dataclasses.replace(self, window_mm=window_mm, stride_mm=stride_mm, blur_mm=blur_mm)

    def _sizes_mm(self, shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, float]:
        """Window and stride in mm."""
        if self.window_mm:
            return self.window_mm, self.stride_mm or self.window_mm / 2
        sides = sorted(size * voxel for size, voxel in zip(shape, spacing, strict=True))
        # A volume may have so few slices that the box covers all of them.
        most = sides[-2]
        window_mm = min(sides[-1] / 8, most)
        if self.stride_mm:
            return window_mm, self.stride_mm
        stride_mm = _half_window_mm(window_mm / 2, most / 2, shape, spacing)
        return 2 * stride_mm, stride_mm

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; drops of probability lie in [-1, 1].

        With ``channel`` the keys of the maps are the channels' names.
        """
        image = plain(task.input)
        windows, infill = self._places(task)
        for width, size in zip(windows.window, image.shape[2:], strict=True):
            if image.ndim == 5 and width == size > 1:
                task.note(
                    f"The window covers all {size} slices along one axis, so the map is the same "
                    "in all of them."
                )
        between = windows.interpolation(tuple(image.shape[2:]))
        keys = self._channels(task)
        changing = self._changing(task, windows, infill)
        for key in keys:
            task.resolution(key, self._sizes_mm(image.shape[2:], task.spacing)[0])
        growing, watched = AnytimeMap(task), Watched(task, self.output)
        wanted = SCORE if self.output == "score" else PROBABILITY
        with untouched(task.network):
            covered = OcclusionScorer(
                task, windows, infill, sorted(set().union(*map(set, changing)))
            )
            total = sum(map(len, changing))
            guides = gradient_priors(
                task,
                infill,
                windows,
                list(keys.values()),
                probability=self.output == "probability",
                forward_passes=covered.share * total,
            )
            drops = [
                CoarseToFine(windows.starts, asked, guide)
                for asked, guide in zip(changing, guides, strict=True)
            ]
            score_falls = [np.zeros_like(one.values) for one in drops]
            # The unchanged image comes first, then the windows in their order.
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
                return watched.outputs(scores)

            def so_far() -> dict[str, Tensor]:
                chosen = drops
                if self.output == "probability" and watched.column == SCORE:
                    chosen = [one.of(falls) for one, falls in zip(drops, score_falls, strict=True)]
                return {
                    key: along_axes(torch.from_numpy(one.guess()), between).float().to(image.device)
                    for key, one in zip(keys, chosen, strict=True)
                }

            original = np.zeros(2)
            for indices, values in in_stages(
                task, stages(), watch, gradient=False, total=1.0 + total, share=covered.share
            ):
                watched.see(values.numpy())
                if indices.start == 0:
                    original = values.numpy()[0]
                    continue
                numbers, falls = order[indices.start : indices.stop], original - values.numpy()
                drops[current].tell(numbers, falls[:, wanted])
                score_falls[current].flat[numbers] = falls[:, SCORE]
                # The estimates need the finished coarsest stage.
                last = indices.stop == len(order)
                share = (indices.stop - 1) / total
                if all(one.guesses for one in drops) and growing.is_enough(
                    share, so_far, stage=last
                ):
                    break
        watched.tell(original)
        return so_far()

    def forward_passes(self, task: Task) -> float:
        """One for the image and one for each box that changes a voxel."""
        return 1.0 + sum(map(len, self._changing(task, *self._places(task))))

    def _places(self, task: Task) -> tuple[Windows, Infill]:
        """The boxes, and what replaces their voxels."""
        image = plain(task.input)
        return self.windows(tuple(image.shape[2:]), task.spacing, task.length_unit), infill_of(
            image,
            self.fill,
            task.spacing,
            value=self.value,
            blur_mm=self.blur_mm,
            seed=task.seed,
        )

    def _channels(self, task: Task) -> dict[str, int | None]:
        """The covered channel for each key of the maps; None: all channels together.

        Raises:
            InputError: The image has no channel of that name.
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

    def channel_of(self, key: str, task: Task) -> int | None:
        """The covered channel; None: all channels together."""
        return self._channels(task)[key]

    def _changing(self, task: Task, windows: Windows, infill: Infill) -> list[list[int]]:
        """For each map, the boxes that change at least one voxel."""
        changes = infill.changes(windows)
        return [
            np.flatnonzero(changes.any(axis=0) if channel is None else changes[channel]).tolist()
            for channel in self._channels(task).values()
        ]


def _voxels(size_mm: float, voxel: float) -> int:
    """A size in whole voxels, at least one."""
    return max(1, round(size_mm / voxel))


def _half_window_mm(
    wanted: float, most: float, shape: Sequence[int], spacing: Sequence[float]
) -> float:
    """The stride nearest to the requested one for which the window is twice as long on the grid.

    It is a whole number of voxels along one axis. Along the others, stride and window in whole
    voxels also have the ratio 1 to 2, or the window is a single voxel or the whole axis.

    Args:
        wanted: The requested stride, mm.
        most: Largest stride, mm.
        shape: Voxels per axis.
        spacing: Millimetres per voxel and axis.
    """

    def is_half(stride: float) -> bool:
        for size, voxel in zip(shape, spacing, strict=True):
            width = _voxels(2 * stride, voxel)
            if 1 < width < size and width != 2 * _voxels(stride, voxel):
                return False
        return True

    # Without such a stride within a third of the requested one, the requested one is used; the
    # map is interpolated in either case.
    least, largest = 0.7 * wanted, min(1.4 * wanted, most)
    found = [
        count * voxel
        for voxel in spacing
        for count in range(1, int(largest / voxel * (1 + 1e-9)) + 1)
        if count * voxel >= least and is_half(count * voxel)
    ]
    one_voxel = min(spacing)
    if not found and wanted < one_voxel <= most:
        return one_voxel
    return min(found, key=lambda stride: abs(np.log(stride / wanted)), default=wanted)
