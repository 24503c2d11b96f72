"""Soft masks stored as whole numbers: whether grey levels are soft edges or segments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.plain_text import some_of

#: Labels count up from 1; masks that were scaled have 100 (per cent), 255 or 65535 inside.
_LEAST_TOP = 100
#: What white is in pictures.
_WHITES = (254, 255, 65535)
#: Levels up to this share of the brightest are noise of the background or ringing, and those
#: from the rest of it on are the same of the inside.
_NOISE = 0.05
#: Voxels to the brightest region within which soft edges end. Lanczos rings over three voxels,
#: a resampling to a quarter of the spacing has edges of three.
_REACH = 4
#: Least share of an edge's voxels that lie so near.
_NEAR = 0.9
#: Least share of them that have a brighter and a darker neighbour.
_RAMP = 0.8
#: Largest share of them whose neighbours all have the same level, as those within a segment.
_WITHIN = 0.02
#: The same where it is doubtful: a thin layer of two voxels.
_DOUBTFUL_WITHIN = 0.1
#: A scattered level has a smaller share of neighbours of the same level: next to 0, and next to
#: the brightest, where little is lost if two segments are one.
_SCATTERED = (0.4, 0.6)
#: Voxels of edges for each inside: as of soft masks in fractions.
_MOST_EDGE = 3
#: Voxels that are looked at.
_SAMPLE = 40_000
#: More levels than this are not named.
_NAMED = 8


def harden(
    layer: NDArray[np.integer[Any]], levels: Sequence[int]
) -> tuple[NDArray[np.integer[Any]], str]:
    """The layer cut at half of its brightest level where the others are soft edges.

    A linear or cubic resampling of a mask of 0 and 255 leaves levels between them along its
    border: each of these voxels has a brighter and a darker neighbour, as no voxel within a
    segment has.

    Args:
        layer: (*S), 0 outside.
        levels: Its values other than 0, in their order.

    Returns:
        The layer, with 0 and the brightest level alone where it was soft, and a note; the note
        is empty where the levels clearly are segments.
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
            f"{top}): from half of the brightest value on counts as inside"
        )
        return np.where(layer >= top / 2, layer.dtype.type(top), layer.dtype.type(0)), note
    few = len(levels) <= _NAMED
    beside = few and top in _WHITES and any(one <= low or high <= one < top for one in levels)
    if not (thin or beside):
        return layer, ""
    named = some_of([str(level) for level in levels], _NAMED)
    return layer, (
        f"the levels {named} are taken as segments; if those below {top} are soft edges or noise "
        "of one mask, cut it at one half first"
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
    """Indices (axes, N) of the mask's voxels, of some of them where there are many."""
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
    """Shares of voxels within one level and with a brighter and a darker neighbour.

    The third is the share of the neighbours across a face that have the voxel's level.
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
    """Share of the voxels with one from `level` on, or darker, at most :data:`_REACH` away."""
    at = at[:, :: max(1, at.shape[1] // 5000)]
    found = np.zeros(at.shape[1], bool)
    for step in product(range(-_REACH, _REACH + 1), repeat=layer.ndim):
        other = _moved(layer, at, step)
        found |= other >= level if brighter else other < level
    return float(found.mean())
