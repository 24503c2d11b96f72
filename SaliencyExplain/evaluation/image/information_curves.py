"""Accuracy and softmax information curves: how much image it takes to see the class again.

Kapishnikov et al. 2019, XRAI, section 4.2; ``saliency.metrics.pic`` of PAIR is the reference.
Voxels are given back to a bare image in the order of the map. The horizontal axis is not how
many voxels were given back but how much information the image holds again, since a map of
salt and pepper gives back many edges with few voxels.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import integrate, interpolate, ndimage

#: Points of a curve on even steps, its end not counted; as PAIR's default.
POINTS = 1000

#: Share of the pixels that the bare image of the published form keeps; as PAIR's default.
KEPT_PIXELS = 0.01

ENTROPIES = ("compressed", "histogram")
"""The measures of information: size after lossless compression, entropy of the grey values."""


@dataclass(frozen=True)
class InformationCurve:
    """A curve for one image and one map.

    Attributes:
        information: Share of the information that is back, for each share of voxels, in [0, 1].
        performance: Share of the probability (or of the right answer) that is back, [0, 1],
            never falling.
        area: Area under the curve through these points, (0, 0) and (1, 1), in [0, 1]; NaN
            where the curve is undefined.
        remark: Why it is undefined; empty otherwise.
    """

    information: tuple[float, ...]
    performance: tuple[float, ...]
    area: float
    remark: str = ""

    def on_even_steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The curve at 1001 even steps of information, as curves of many images are averaged."""
        return _even(np.array(self.information), np.array(self.performance))


def information_curve(
    information: NDArray[np.float64],
    performance: NDArray[np.float64],
    *,
    bare: tuple[float, float],
    whole: tuple[float, float],
) -> InformationCurve:
    """The curve from what was measured; equals ``compute_pic_metric`` of PAIR.

    Args:
        information: Of the partly restored images, any unit, the smallest share first.
        performance: Of the same images.
        bare: Information and performance of the image with nothing given back.
        whole: Of the image as it is.

    Returns:
        The curve; undefined, as PAIR refuses, where the bare image has no less information
        or no less performance than the whole one.
    """
    if not bare[0] < whole[0]:
        return _undefined("the bare image holds no less information than the image")
    if not bare[1] < whole[1]:
        return _undefined("the classifier answers the bare image no worse than the image")
    across = np.clip((information - bare[0]) / (whole[0] - bare[0]), 0.0, 1.0)
    up = np.clip((performance - bare[1]) / (whole[1] - bare[1]), 0.0, 1.0)
    up = np.maximum.accumulate(up)
    x, y = _even(across, up)
    return InformationCurve(
        tuple(across.tolist()), tuple(up.tolist()), float(integrate.trapezoid(y, x))
    )


def _undefined(remark: str) -> InformationCurve:
    return InformationCurve((), (), float("nan"), remark)


def _even(
    across: NDArray[np.float64], up: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    curve = interpolate.interp1d(np.append(across, (0.0, 1.0)), np.append(up, (0.0, 1.0)))
    steps = np.linspace(0.0, 1.0, POINTS, endpoint=False)
    return np.append(steps, 1.0), np.append(curve(steps), 1.0)


class GreyLevels:
    """The 256 grey values of an image's channels: what information is counted in.

    Args:
        image: ``(C, *S)``; the least and the greatest value of each channel are its ends.
    """

    def __init__(self, image: NDArray[np.float32]) -> None:
        channels = image.reshape(len(image), -1).astype(np.float64)
        along = (-1, *[1] * (image.ndim - 1))
        self._low = channels.min(axis=1).reshape(along)
        width = channels.max(axis=1).reshape(along) - self._low
        self._step = np.where(width > 0, width / 255, 1.0)

    def of(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Grey values ``(C, *S)`` of an image in the original's units."""
        grey = np.rint((image - self._low) / self._step)
        return np.clip(grey, 0, 255).astype(np.uint8)

    def values(self, grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The image that has exactly these grey values."""
        return (grey * self._step + self._low).astype(np.float32)


def histogram_entropy(grey: NDArray[np.uint8], known: NDArray[np.bool_]) -> float:
    """Entropy of the distribution of the grey values, bits per voxel, mean over the channels.

    What is not known counts as one grey value, the least. A blurred surface would have more
    grey values than the image with its even air: by that count a bare head often holds more
    information than the whole one.

    Args:
        grey: ``(C, *S)``, of the image as it is.
        known: ``(*S)``, the voxels that are given back.
    """
    return float(np.mean([_bits(np.where(known, channel, 0)) for channel in grey]))


def compressed_size(grey: NDArray[np.uint8]) -> float:
    """Bytes of an image after lossless compression.

    Args:
        grey: ``(C, *S)``. Pictures of one or three channels are compressed as WebP, as in
            PAIR (others: the sum over the channels), volumes by zlib over the differences of
            neighbouring voxels, which is what PNG does to a picture.
    """
    if grey.ndim == 4:
        steps = np.diff(grey, axis=-1, prepend=np.uint8(0))
        return float(len(zlib.compress(np.ascontiguousarray(steps).tobytes(), 6)))
    if len(grey) == 3:
        return _webp_bytes(np.moveaxis(grey, 0, -1))
    return sum(_webp_bytes(channel) for channel in grey)


def _bits(channel: NDArray[np.uint8]) -> float:
    shares = np.bincount(channel.ravel(), minlength=256) / channel.size
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _webp_bytes(picture: NDArray[np.uint8]) -> float:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(
        buffer, format="webp", lossless=True, quality=100
    )
    return float(buffer.tell())


def kept_pixels(shape: tuple[int, ...], seed: int) -> NDArray[np.bool_]:
    """The pixels that the bare image of the published form keeps, at random."""
    mask = np.zeros(shape, dtype=bool)
    chosen = np.random.default_rng(seed).choice(
        mask.size, size=int(mask.size * KEPT_PIXELS), replace=False
    )
    mask.flat[chosen] = True
    return mask


def interpolated(
    grey: NDArray[np.uint8], known: NDArray[np.bool_], *, rims_only: bool = False
) -> NDArray[np.uint8]:
    """A picture of which only some pixels are known, linear in between.

    Equals ``create_blurred_image`` of PAIR, the corners always known. Only for two axes: the
    triangulation of a volume takes minutes.

    Args:
        grey: ``(C, *S)``, S of two axes.
        known: ``(*S)``.
        rims_only: Leave known pixels whose eight neighbours are known out of the triangulation.
            No unknown pixel lies in a triangle with them, so the result is as right, but among
            triangulations of points on a circle, which a grid is full of, another one may be
            taken: up to 1 % of the pixels differ, in 1/3 to 1/18 of the time.
    """
    known = known.copy()
    known[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    if known.all():
        return grey
    used = known
    if rims_only:
        used = known & ~ndimage.binary_erosion(known, np.ones((3, 3), dtype=bool))
        used[[0, 0, -1, -1], [0, -1, 0, -1]] = True
    points, wanted = np.argwhere(used), np.argwhere(~known)
    result = grey.astype(np.float32)
    for channel, values in zip(result, grey, strict=True):
        channel[~known] = interpolate.griddata(
            points, values[used], wanted, method="linear", fill_value=values.mean()
        )
    return np.round(result).astype(np.uint8)
