"""Soft masks stored as whole numbers: deciding whether levels are soft edges or segments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.plain_text import some_of

#: Labels count from 1; scaled masks have 100 (per cent), 255 or 65535 inside.
_LEAST_TOP = 100
#: Values of white in pictures.
_WHITES = (254, 255, 65535)
#: Levels up to this share of the brightest are noise or ringing of the background, and those above
#: the remaining share noise or ringing of the inside.
_NOISE = 0.05
#: Largest distance of soft edges from the brightest region, in voxels. Lanczos rings over three
#: voxels; resampling to a quarter of the spacing gives edges of three.
_REACH = 4
#: Smallest share of an edge's voxels within that distance.
_NEAR = 0.9
#: Smallest share of them that have both a brighter and a darker neighbour.
_RAMP = 0.8
#: Largest share of them whose neighbours all have the same level, as inside a segment.
_WITHIN = 0.02
#: The same limit in doubtful cases: a thin layer of two voxels.
_DOUBTFUL_WITHIN = 0.1
#: A scattered level has a smaller share of neighbours of the same level: limits next to 0, and next
#: to the brightest, where merging two segments has little effect.
_SCATTERED = (0.4, 0.6)
#: Largest number of edge voxels per inside voxel, as for soft masks in fractions.
_MOST_EDGE = 3
#: Number of voxels in the sample.
_SAMPLE = 40_000
#: Largest number of levels named in a note.
_NAMED = 8


def harden(
    layer: NDArray[np.integer[Any]], levels: Sequence[int]
) -> tuple[NDArray[np.integer[Any]], str]:
    """Thresholds a layer at half of its brightest level if the other levels are soft edges.

    Linear or cubic resampling of a mask of 0 and 255 gives intermediate levels along its border.
    Each of these voxels has a brighter and a darker neighbour; voxels inside a segment do not.

    Args:
        layer: (*S), 0 outside.
        levels: Its values other than 0, in order.

    Returns:
        The layer, with only 0 and the brightest level if it was soft, and a note; the note is
        empty if the levels are clearly segments.
    """
    if len(levels) < 2 or levels[0] < 0 or levels[-1] < _LEAST_TOP or layer.min() != 0:
        return layer, ""
    top = levels[-1]
    low, high = _NOISE * top, (1 - _NOISE) * top
    edge = (layer > low) & (layer < high)
    count, sure = int(edge.sum()), int((layer >= high).sum())
    soft, thin = True, False
    if count:
        at = _some(edge)
        within, ramp, _ = _neighbours(layer, at)
        near = _reached(layer, at, high, brighter=True) >= _NEAR
        thin = near and within < _DOUBTFUL_WITHIN
        soft = near and within < _WITHIN and ramp >= _RAMP and count <= _MOST_EDGE * sure
    if soft and _is_noise(layer, levels, low, high):
        note = (
            f"the mask is soft ({int(((layer > 0) & (layer < top)).sum())} voxels between 0 and "
            f"{top}); values of at least half of the maximum are inside"
        )
        return np.where(layer >= top / 2, layer.dtype.type(top), layer.dtype.type(0)), note
    few = len(levels) <= _NAMED
    beside = few and top in _WHITES and any(one <= low or high <= one < top for one in levels)
    if not (thin or beside):
        return layer, ""
    named = some_of([str(level) for level in levels], _NAMED)
    return layer, (
        f"the levels {named} are treated as segments; if those below {top} are soft edges or noise "
        "of one mask, threshold it at one half first"
    )


def _is_noise(
    layer: NDArray[np.integer[Any]], levels: Sequence[int], low: float, high: float
) -> bool:
    """Whether the levels next to 0 and to the brightest are scattered, or lie along edges."""
    half = levels[-1] / 2
    dark = (layer > 0) & (layer <= low)
    bright = [one for one in levels if one >= high]
    most = max(bright, key=lambda one: int((layer == one).sum()))
    inside = (layer >= high) & (layer != most)
    for part, scattered in zip((dark, inside), _SCATTERED, strict=True):
        if not part.any():
            continue
        at = _some(part)
        within, _, same = _neighbours(layer, at)
        if within >= _WITHIN:
            return False
        if same >= scattered and _reached(layer, at, half, brighter=part is dark) < _NEAR:
            return False
    return True


def _some(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices (axes, N) of the mask's voxels, or of a sample if there are many."""
    held = np.flatnonzero(mask)
    if held.size > _SAMPLE:
        held = np.random.default_rng(0).choice(held, _SAMPLE, replace=False)
    return np.stack(np.unravel_index(held, mask.shape))


def _moved(
    layer: NDArray[np.integer[Any]], at: NDArray[np.int64], step: tuple[int, ...]
) -> NDArray[np.integer[Any]]:
    last = np.array(layer.shape)[:, None] - 1
    return layer[tuple(np.clip(at + np.array(step)[:, None], 0, last))]


def _neighbours(
    layer: NDArray[np.integer[Any]], at: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Shares of voxels inside one level, and with both a brighter and a darker neighbour.

    The third number is the share of neighbours across a face that have the voxel's level.
    """
    own = layer[tuple(at)]
    brighter, darker = np.zeros(own.size, bool), np.zeros(own.size, bool)
    same = []
    for step in product((-1, 0, 1), repeat=layer.ndim):
        other = _moved(layer, at, step)
        brighter |= other > own
        darker |= other < own
        if sum(map(abs, step)) == 1:
            same.append(float((other == own).mean()))
    within = float((~brighter & ~darker).mean())
    return within, float((brighter & darker).mean()), float(np.mean(same))


def _reached(
    layer: NDArray[np.integer[Any]], at: NDArray[np.int64], level: float, *, brighter: bool
) -> float:
    """Share of voxels at most :data:`_REACH` from one of at least `level`, or from a darker one."""
    at = at[:, :: max(1, at.shape[1] // 5000)]
    found = np.zeros(at.shape[1], bool)
    for step in product(range(-_REACH, _REACH + 1), repeat=layer.ndim):
        other = _moved(layer, at, step)
        found |= other >= level if brighter else other < level
    return float(found.mean())
