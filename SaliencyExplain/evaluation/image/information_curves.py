"""Accuracy and softmax information curves: the information that restores the classification.

Kapishnikov et al. 2019, XRAI, section 4.2; ``saliency.metrics.pic`` of PAIR is the reference.
Voxels are restored to a bare image in the order of the map. The horizontal axis is the image's
information and not the number of restored voxels, because a noisy map restores many edges with
few voxels.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import integrate, interpolate, ndimage

from SaliencyExplain.results.map_faithfulness import InformationCurve

#: Number of even steps of a curve; PAIR's default.
POINTS = 1000

#: Share of the pixels that the bare image of the published form keeps; PAIR's default.
KEPT_PIXELS = 0.01

ENTROPIES = ("compressed", "histogram")
"""The measures of information: size after lossless compression, entropy of the grey values."""


def on_even_steps(
    curve: InformationCurve,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A curve at 1001 even steps of information, as curves of many images are averaged."""
    return _even(np.array(curve.information), np.array(curve.performance))


def information_curve(
    information: NDArray[np.float64],
    performance: NDArray[np.float64],
    *,
    bare: tuple[float, float],
    whole: tuple[float, float],
) -> InformationCurve:
    """The curve from measured points; equals ``compute_pic_metric`` of PAIR.

    Args:
        information: Information of the partly restored images, any unit, smallest share first.
        performance: Performance of the same images.
        bare: Information and performance of the bare image.
        whole: Information and performance of the unchanged image.

    Returns:
        The curve. As in PAIR it is undefined if the bare image has no less information or
        performance than the whole one.
    """
    if not bare[0] < whole[0]:
        return _undefined("the bare image has as much information as the image")
    if not bare[1] < whole[1]:
        return _undefined("the output for the bare image is not lower than for the image")
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
    """The 256 grey values of an image's channels, from which information is computed.

    Args:
        image: ``(C, *S)``; the range is that of each channel's values.
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
        """The image with exactly these grey values."""
        return (grey * self._step + self._low).astype(np.float32)


def histogram_entropy(grey: NDArray[np.uint8], known: NDArray[np.bool_]) -> float:
    """Entropy of the distribution of the grey values, bits per voxel, mean over the channels.

    Unknown voxels count as the smallest grey value. With a blurred surface a bare head would
    often have more information than the whole one, because the surface has more grey values
    than uniform air.

    Args:
        grey: ``(C, *S)`` of the unchanged image.
        known: ``(*S)``, the restored voxels.
    """
    return float(np.mean([_bits(np.where(known, channel, 0)) for channel in grey]))


def compressed_size(grey: NDArray[np.uint8]) -> float:
    """Bytes of an image after lossless compression.

    Args:
        grey: ``(C, *S)``. 2D images of one or three channels are compressed as WebP, as in
            PAIR (others: the sum over the channels); volumes by zlib on the differences of
            neighbouring voxels, as PNG does for 2D images.
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
    """The random pixels that the bare image of the published form keeps."""
    mask = np.zeros(shape, dtype=bool)
    chosen = np.random.default_rng(seed).choice(
        mask.size, size=int(mask.size * KEPT_PIXELS), replace=False
    )
    mask.flat[chosen] = True
    return mask


def interpolated(
    grey: NDArray[np.uint8], known: NDArray[np.bool_], *, rims_only: bool = False
) -> NDArray[np.uint8]:
    """A 2D image interpolated linearly from its known pixels.

    Equals ``create_blurred_image`` of PAIR; the corners are always known. Only for two axes,
    because the triangulation of a volume takes minutes.

    Args:
        grey: ``(C, *S)``, S of two axes.
        known: ``(*S)``.
        rims_only: Leave known pixels whose eight neighbours are known out of the triangulation.
            No unknown pixel lies in a triangle with them, so the result is equally valid.
            However, a different triangulation of points on a circle, common in a grid, may be
            chosen: up to 1 % of the pixels differ, in 1/3 to 1/18 of the time.
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
