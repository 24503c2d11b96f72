"""The colours of heat, said once for pictures and for the scene.

The strongest voxels have the colours of the label-map bands: yellow over red for the class,
pale blue over blue against it. The tables grow steadily in lightness away from zero, so that
they are read without colour vision too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.bands import BANDS

ENTRIES = 512
"""Rows of a table."""

THRESHOLD = 0.15
"""Share of the window's end below which a value is not drawn at all.

A ramp that begins at zero covers the whole image with haze, and a reader takes haze for heat.
"""

_RAMP_END = 0.45
_LEAST_OPACITY = 0.3
_MOST_OPACITY = 0.72


def color_table(signed: bool) -> NDArray[np.float64]:
    """The colours from one end of the window to the other.

    Args:
        signed: Whether the window runs from -end over 0 to end, else from 0 to end.

    Returns:
        RGB, (ENTRIES, 3), each in [0, 1].
    """
    strength = _strength(signed)
    colors = _ramp(np.abs(strength), sign=1)
    against = strength < 0
    colors[against] = _ramp(-strength[against], sign=-1)
    return colors


def opacity_table(signed: bool) -> NDArray[np.float64]:
    """The opacity that belongs to each colour, for displays that know soft edges.

    Args:
        signed: As in `color_table`.

    Returns:
        (ENTRIES,), 0 around zero, [0, 1].
    """
    strength = np.abs(_strength(signed))
    rise = np.clip((strength - THRESHOLD) / (_RAMP_END - THRESHOLD), 0, 1)
    opacity = _LEAST_OPACITY + (_MOST_OPACITY - _LEAST_OPACITY) * rise
    return np.where(strength < THRESHOLD, 0.0, opacity)


def window_end(values: NDArray[np.floating], signed: bool) -> float | None:
    """The value at which the colours end: the 99.9th percentile of the strengths that are not zero.

    Gradient maps have single voxels many times stronger than all others; up to the maximum
    nothing else would be seen.

    Args:
        values: The map, any shape, finite.
        signed: Whether negative values are drawn, too.

    Returns:
        The end, > 0; None where there is nothing to draw: a constant map, or an unsigned one
        without a positive voxel.
    """
    if values.size == 0 or values.min() == values.max():
        return None
    strength = np.abs(values) if signed else values
    strong = strength[strength > 0]
    if strong.size == 0:
        return None
    at = strong.size - 1 - int(0.001 * strong.size)
    return float(np.partition(strong, at)[at])


def _strength(signed: bool) -> NDArray[np.float64]:
    """The value that each row of a table stands for, as a share of the window's end."""
    return np.linspace(-1.0 if signed else 0.0, 1.0, ENTRIES)


def _ramp(strength: NDArray[np.float64], sign: int) -> NDArray[np.float64]:
    """Colours of one sign: the bands', from the widest to the narrowest."""
    bands = sorted((b for b in BANDS if b.sign == sign), key=lambda b: -b.share)
    stops = np.linspace(THRESHOLD, 1.0, len(bands))
    channels = np.array([band.color for band in bands]).T
    return np.stack([np.interp(strength, stops, channel) for channel in channels], axis=-1)
