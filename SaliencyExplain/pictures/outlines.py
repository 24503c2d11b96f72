"""Outlines of segments: along the voxels' edges, in colours that are not heat."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.colormaps import color_table

Color = tuple[float, float, float]

_STAND_INS: tuple[Color, ...] = (
    (0.25, 1.00, 0.35),
    (1.00, 0.35, 1.00),
    (0.10, 0.95, 0.90),
    (0.62, 0.35, 1.00),
    (1.00, 0.65, 0.85),
    (0.10, 0.60, 0.30),
)
_APART_FROM_HEAT = 0.42
_APART = 0.5
_COLORFUL = 0.35


def outline_colors(wished: Sequence[Color], signed: bool) -> list[Color]:
    """Chooses a colour for each outline: the requested one if it is distinct, else a substitute.

    Args:
        wished: The segments' own colours, RGB in [0, 1].
        signed: Whether the heat has two signs, hence blues too.

    Returns:
        As many colours; with more segments than substitutes some are used again.
    """
    heat = color_table(signed)
    stand_ins = [color for color in _STAND_INS if _distance(color, heat) >= _APART_FROM_HEAT]
    chosen: list[Color] = []
    for wish in wished:
        colorful = max(wish) - min(wish) >= _COLORFUL
        unlike_heat = _distance(wish, heat) >= _APART_FROM_HEAT
        if colorful and unlike_heat and _distance(wish, chosen) >= _APART:
            chosen.append(wish)
            continue
        others = [*chosen, *(color for color in wished if color != wish)]
        chosen.append(max(stand_ins, key=lambda color: _rank(color, others, chosen)))
    return chosen


def _rank(color: Color, others: Sequence[Color], chosen: Sequence[Color]) -> tuple[bool, bool, int]:
    """Prefers colours unlike all others, then the first of the list."""
    return color not in chosen, _distance(color, others) >= _APART, -_STAND_INS.index(color)


def _distance(color: Color, others: Sequence[Color] | NDArray[np.float64]) -> float:
    """Distance to the nearest of some colours; infinite without colours."""
    if len(others) == 0:
        return float("inf")
    return float(np.linalg.norm(np.asarray(others) - np.array(color), axis=1).min())


def outline_edges(
    mask: NDArray[np.bool_], size_mm: tuple[float, float]
) -> list[NDArray[np.float64]]:
    """The edges between the pixels of a mask and those outside it, as line segments.

    Args:
        mask: Pixels of a plane, rows from the top.
        size_mm: Width and height of the plane, mm.

    Returns:
        Segments [(x, y), (x, y)] from the left and top edge, mm, joined along straight runs.
    """
    padded = np.pad(mask.astype(np.int8), 1)
    pixel = np.array([size_mm[0] / mask.shape[1], size_mm[1] / mask.shape[0]])
    edges = []
    # The sign of the difference keeps apart runs that touch at a corner only.
    for axis in (0, 1):
        change = np.diff(padded, axis=axis)
        lines = change if axis == 0 else change.T
        for at in np.flatnonzero(lines.any(axis=1)):
            line = np.concatenate(([0], lines[at], [0]))
            bounds = np.flatnonzero(np.diff(line))
            for start, end in itertools.pairwise(bounds):
                if line[end] != 0:
                    # Padding moves pixels by one, an edge lies between two of them.
                    run = np.array([[start - 1, at], [end - 1, at]], dtype=np.float64)
                    edges.append((run if axis == 0 else run[:, ::-1]) * pixel)
    return edges
