"""Occlusion sensitivity: cover a place and see how much less sure the classifier is."""

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
from SaliencyExplain.attribution.parameters import LARGEST_MM, LARGEST_VALUE, parameter
from SaliencyExplain.attribution.passes.anytime import GrowingMap
from SaliencyExplain.attribution.passes.batches import in_stages
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.passes.watched_output import PROBABILITY, SCORE, Watched
from SaliencyExplain.attribution.perturbation.coarse_to_fine import CoarseToFine
from SaliencyExplain.attribution.perturbation.gradient_prior import hints
from SaliencyExplain.attribution.perturbation.infill import Filling, automatic_blur_mm
from SaliencyExplain.attribution.perturbation.infill import filling as filling_of
from SaliencyExplain.attribution.perturbation.infill_choices import FILLS, FILLS_HELP
from SaliencyExplain.attribution.perturbation.occlusion_scorer import OcclusionScorer
from SaliencyExplain.attribution.perturbation.occlusion_windows import Windows
from SaliencyExplain.attribution.separable import along_axes
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name

#: ``channel``: all at once, or each by itself with a map for each.
_ALL, _EACH = "all", "each"
#: Windows that are computed: at most. Volumes of 96^3 voxels have 14,000 with every fourth voxel,
#: pictures of 256 x 256 have 65,000 with each.
_MOST_WINDOWS = 100_000


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion sensitivity with a box of constant size in millimetres.

    A box moves over the image and replaces what it covers, in all channels at once or in
    one of them, such as one modality (:func:`filling` says by what). The drop of
    the target's probability, ``p(original) - p(occluded)``, belongs to the box's centre;
    between the centres it is interpolated (:func:`interpolation_between_windows`). The boxes
    lie as in MONAI: from the first voxel in steps of the stride, the last one flush with the
    border, so that each voxel is covered and no box reaches outside. MONAI's map is the mean
    of the boxes over a voxel instead: it jumps wherever one box more or less covers a voxel.

    The automatic box is twice the stride on the grid. In a volume whose slices are so few that
    they are thinner than the box, the box covers all of them.

    Where the probability cannot move
    (:mod:`SaliencyExplain.attribution.passes.watched_output`), the drop is of the score, and a
    note says so.

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
        "Zeiler & Fergus 2014, section 4.2; each window's drop is that of "
        "monai.visualize.OcclusionSensitivity with a constant fill"
    )
    signed: ClassVar[bool] = True
    parts: ClassVar[str] = "windows"

    window_mm: float = parameter(
        0.0,
        "Side of the occluding box.",
        unit="mm",
        minimum=0.0,
        maximum=LARGEST_MM,
        automatic="about an eighth of the image's longest side",
    )
    stride_mm: float = parameter(
        0.0,
        "Step from box to box.",
        unit="mm",
        minimum=0.0,
        maximum=LARGEST_MM,
        automatic="half the window",
    )
    fill: str = parameter(
        "mean",
        f"What replaces the voxels: {FILLS_HELP}.",
        choices=FILLS,
    )
    value: float = parameter(
        0.0,
        "The constant for fill=value, in the units of the classifier's prepared input.",
        minimum=-LARGEST_VALUE,
        maximum=LARGEST_VALUE,
    )
    blur_mm: float = parameter(
        0.0,
        "Standard deviation of the Gaussian filter for fill=blur.",
        unit="mm",
        minimum=0.0,
        maximum=LARGEST_MM,
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

    def windows(
        self, shape: tuple[int, ...], spacing: tuple[float, ...], length_unit: str = "mm"
    ) -> Windows:
        """Where the boxes lie on a grid, sizes rounded to whole voxels (at least one).

        Args:
            shape: Voxels per axis.
            spacing: Millimetres per voxel and axis.
            length_unit: How millimetres are told, as in :class:`Task`.

        Raises:
            InputError: The image is smaller than the box along more than one axis of a volume,
                or along an axis in 2D; or the stride leaves gaps.
        """
        window_mm, stride_mm = self._sizes_mm(shape, spacing)
        if stride_mm > window_mm:
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"occlusion.stride_mm ({stride_mm:g} {length_unit}) is larger than the window "
                f"({window_mm:g} {length_unit}): voxels between the boxes would never be covered.",
            )
        widths = [_voxels(window_mm, voxel) for voxel in spacing]
        short = sum(width > size for width, size in zip(widths, shape, strict=True))
        if short > (len(shape) == 3):
            image = " x ".join(f"{n * voxel:g}" for n, voxel in zip(shape, spacing, strict=True))
            raise InputError(
                ErrorCode.WINDOW,
                f"The image ({image} {length_unit}) is smaller than the occlusion window "
                f"({window_mm:g} {length_unit}); set occlusion.window_mm to less.",
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
                f"With a stride of {stride_mm:g} {length_unit} there are "
                f"{math.prod(found.grid):,} occlusion windows, and at most {_MOST_WINDOWS:,} are "
                "computed; set occlusion.stride_mm to more.",
            )
        return found

    def resolved(self, task: Task) -> Occlusion:
        """With the window, stride and blur in millimetres that this image gets."""
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
        # The slices of a volume may be so few that the box covers them all.
        most = sides[-2]
        window_mm = min(sides[-1] / 8, most)
        if self.stride_mm:
            return window_mm, self.stride_mm
        stride_mm = _half_window_mm(window_mm / 2, most / 2, shape, spacing)
        return 2 * stride_mm, stride_mm

    def attribute(self, task: Task) -> dict[str, Tensor]:
        """See :meth:`Method.attribute`; drops of probability lie in [-1, 1].

        With ``channel`` the maps have the channels' names as their keys.
        """
        image = plain(task.input)
        windows, filling = self._places(task)
        for width, size in zip(windows.window, image.shape[2:], strict=True):
            if image.ndim == 5 and width == size > 1:
                task.note(
                    f"The window covers all {size} slices along one axis: the map does not tell "
                    "them apart."
                )
        between = windows.interpolation(tuple(image.shape[2:]))
        keys = self._channels(task)
        changing = self._changing(task, windows, filling)
        for key in keys:
            task.resolution(key, self._sizes_mm(image.shape[2:], task.spacing)[0])
        growing, watched = GrowingMap(task), Watched(task, self.output)
        wanted = SCORE if self.output == "score" else PROBABILITY
        with untouched(task.network):
            covered = OcclusionScorer(
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
            score_falls = [np.zeros_like(one.values) for one in drops]
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
                # Before the coarsest stage is done there is nothing to guess by.
                last = indices.stop == len(order)
                share = (indices.stop - 1) / total
                if all(one.guesses for one in drops) and growing.is_enough(
                    share, so_far, stage=last
                ):
                    break
        watched.tell(original)
        return so_far()

    def forward_passes(self, task: Task) -> float:
        """One for the image and one for each box that replaces something."""
        return 1.0 + sum(map(len, self._changing(task, *self._places(task))))

    def _places(self, task: Task) -> tuple[Windows, Filling]:
        """The boxes, and what they are filled with."""
        image = plain(task.input)
        return self.windows(tuple(image.shape[2:]), task.spacing, task.length_unit), filling_of(
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

    def channel_of(self, key: str, task: Task) -> int | None:
        """The channel that is covered; None: all together."""
        return self._channels(task)[key]

    def _changing(self, task: Task, windows: Windows, filling: Filling) -> list[list[int]]:
        """For each map the boxes that replace at least one voxel by another value."""
        changes = filling.changes(windows)
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
    """The stride nearest to the wanted one of which the window is twice as long on the grid.

    It is a whole number of voxels along one axis. Along the others, stride and window in whole
    voxels are also 1 to 2, or the window is a single voxel or the whole axis.

    Args:
        wanted: The stride, mm.
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

    # Spacings that share no such size within a third keep the wanted one: the map is
    # interpolated all the same.
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
