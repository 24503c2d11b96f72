"""Label-map bands: the strongest voxels of a map, as nested shares.

Said once here for label maps, segmentations, pictures and the scene: which
bands there are, their labels, names and colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Band:
    """One band of a label map.

    Attributes:
        label: Its value in the label map.
        share: Share of the voxels of its sign that this band and those within it hold.
        sign: +1 where the voxels speak for the class, -1 where against it.
        name: The segment's name in Slicer.
        color: RGB, each in [0, 1].
    """

    label: int
    share: float
    sign: int
    name: str
    color: tuple[float, float, float]


_SHARES = (0.01, 0.05, 0.10, 0.20)
_FOR = ((0.99, 0.91, 0.15), (0.99, 0.60, 0.10), (0.87, 0.24, 0.20), (0.55, 0.08, 0.35))
_AGAINST = ((0.75, 0.95, 1.00), (0.35, 0.75, 0.95), (0.15, 0.45, 0.85), (0.12, 0.20, 0.55))


def _bands() -> tuple[Band, ...]:
    bands: list[Band] = []
    for sign, word, colors in ((1, "for", _FOR), (-1, "against", _AGAINST)):
        inner = ""
        for share, color in zip(_SHARES, colors, strict=True):
            # A label map holds each voxel once: a band is the ring around the
            # narrower ones, and its name says so, lest its volume be misread.
            name = f"{word} the class: top {inner}{share * 100:.0f} %"
            bands.append(Band(len(bands) + 1, share, sign, name, color))
            inner = f"{share * 100:.0f}-"
    return tuple(bands)


BANDS: tuple[Band, ...] = _bands()


def label_bands(attribution: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Labels each voxel with the narrowest band that it belongs to.

    The band of share q ends where q of the voxels of its sign are stronger. Ties
    at the threshold are left out, so that a band never holds more than its share
    and a constant map has no band.

    Args:
        attribution: Signed or unsigned map, any shape, positive = speaks for the class.

    Returns:
        Label map of the same shape, uint8, 0 outside all bands, else ``Band.label``.
    """
    labels = np.zeros(attribution.shape, dtype=np.uint8)
    for sign in (1, -1):
        strength = attribution * sign
        ordered = np.sort(strength[strength > 0], axis=None)[::-1]
        for band in sorted((b for b in BANDS if b.sign == sign), key=lambda b: -b.share):
            count = math.ceil(band.share * ordered.size)
            threshold = ordered[count] if count < ordered.size else 0.0
            labels[strength > threshold] = band.label
    return labels
