"""Text and display ranges of a picture: the map's peak and window, the anatomy's greys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.colormaps import THRESHOLD, window_end
from SaliencyExplain.geometry import world_vectors
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.peak import Peak

Segment = tuple[str, tuple[float, float, float], NDArray[np.bool_]]
"""A segment's name, colour (RGB in [0, 1]) and voxels."""

_SAMPLE = 500_000
_NOISE = 0.005
_VIEW_MARGIN = 0.04


def peak_and_segments(peak: Peak, segments: Sequence[Segment], affine: NDArray[np.float64]) -> str:
    """Where the peak lies with regard to the segments, in words; empty without segments."""
    filled = [(name, mask) for name, _, mask in segments if mask.any()]
    if peak.remark or not filled:
        return ""
    inside = [name for name, mask in filled if mask[peak.index]]
    if inside:
        return f"in {', '.join(inside)}"
    distances = []
    for name, mask in filled:
        offsets = world_vectors(np.argwhere(mask) - np.array(peak.index), affine)
        distances.append((float(np.linalg.norm(offsets, axis=1).min()), name))
    distance, name = min(distances)
    unit = length_unit(affine, segments[0][2].shape)
    return f"{distance:.1f} {unit} from {name}"


@dataclass(frozen=True)
class HeatWindow:
    """The values that the colours span: from ``-end``, or 0, to ``end``.

    Attributes:
        end: The value at which the colours end.
        clipped_above: Whether stronger voxels exist.
        clipped_below: Whether stronger voxels against the class exist.
    """

    end: float
    clipped_above: bool
    clipped_below: bool


def heat_window(values: NDArray[np.floating], signed: bool) -> HeatWindow | None:
    """The colours' window of a map, and what lies beyond it.

    Returns:
        The window, or None where there is nothing to draw (see `colormaps.window_end`).
    """
    end = window_end(values, signed)
    if end is None:
        return None
    low, high = float(values.min()), float(values.max())
    return HeatWindow(end, clipped_above=high > end, clipped_below=signed and low < -end)


@dataclass(frozen=True)
class GreyWindow:
    """The greys of the anatomy.

    Attributes:
        black: The value drawn black.
        white: The value drawn white.
        background: Values up to this are air, or zeros.
    """

    black: float
    white: float
    background: float


def grey_window(image: NDArray[np.floating]) -> GreyWindow:
    """Takes black and white from the 1st and 99.5th percentile of what is not background.

    Background is what lies within a twentieth of the range above the darkest value: air in CT,
    zeros in MR and PET. Including it, the percentiles would depend on the field of view.
    """
    step = max(1, math.ceil((image.size / _SAMPLE) ** (1 / image.ndim)))
    # The same voxels from either end, so that a flipped copy has the same greys.
    steps = [np.arange(0, size, step) for size in image.shape]
    both = [np.union1d(at, size - 1 - at) for at, size in zip(steps, image.shape, strict=True)]
    sample = image[np.ix_(*both)]
    low, high = float(sample.min()), float(np.percentile(sample, 99.5))
    background = low + 0.05 * (high - low)
    body = sample[sample > background]
    if body.size > 0:
        black, white = (float(edge) for edge in np.percentile(body, (1, 99.5)))
        if white > black:
            return GreyWindow(black, white, background)
    return GreyWindow(low, max(float(image.max()), low + 1), background)


def field_of_view(
    image: NDArray[np.floating],
    values: NDArray[np.floating],
    segments: Sequence[Segment],
    index: tuple[int, ...],
    greys: GreyWindow,
    window: HeatWindow | None,
) -> tuple[slice, ...]:
    """The box of a volume that a picture needs: the air around it would make the body small.

    It holds every slice with anatomy in more than one voxel of 200 (less is noise),
    every voxel that is drawn as heat, every segment, the peak, and a little margin.
    """
    shown = [mask for _, _, mask in segments]
    if window is not None:
        shown.append(np.abs(values) >= THRESHOLD * window.end)
    body = image > greys.background
    box = []
    for axis, size in enumerate(image.shape):
        others = tuple(other for other in range(image.ndim) if other != axis)
        wanted = body.mean(axis=others) > _NOISE
        for voxels in shown:
            wanted |= voxels.any(axis=others)
        wanted[index[axis]] = True
        used = np.flatnonzero(wanted)
        margin = math.ceil(_VIEW_MARGIN * (used[-1] - used[0] + 1))
        box.append(slice(max(0, int(used[0]) - margin), min(size, int(used[-1]) + 1 + margin)))
    return tuple(box)
