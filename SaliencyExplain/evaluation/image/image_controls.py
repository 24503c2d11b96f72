"""Control maps, which use the image but not the classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from SaliencyExplain.attribution.methods.control_maps import centre_map

#: Standard deviations for the image, its edges and its spots, in voxels.
_SMOOTH, _EDGES, _SPOTS = (0.0, 2.0, 4.0), (1.0, 2.0, 4.0), (1.5, 3.0)

#: Widths of the Gaussian in the middle of the body, as shares of the body's width.
_MIDDLES = (1.0, 0.5, 0.25)

#: Largest number of control maps of an image.
MOST_CONTROLS = 2 * len(_SMOOTH) + len(_EDGES) + len(_SPOTS) + len(_MIDDLES) + 4

CENTRE = "centre"
"""The control that is bright in the middle of the image."""


def control_maps(
    image: NDArray[np.floating], body: NDArray[np.bool_], spacing: Sequence[float]
) -> dict[str, NDArray[np.float32]]:
    """The control maps of an image, by their descriptions.

    The image and its negative, its contrast, edges and spots, the body and the depth in it, the
    middle of the image and that of the body; each at several widths, to match maps of different
    smoothness. Constant ones are left out.

    Args:
        image: ``(C, *S)``; for several channels the mean of the channels' maps is used, each
            channel divided by its standard deviation.
        body: ``(*S)``.
        spacing: Millimetres per voxel, one number per axis of ``S``.
    """
    channels = [
        channel.astype(np.float64) / (float(channel.std()) or 1.0) for channel in np.asarray(image)
    ]

    def mean(make: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.mean([make(channel) for channel in channels], axis=0)
        return found

    found: dict[str, NDArray[Any]] = {}
    for sigma in _SMOOTH:
        words = f", blurred by {sigma:g} voxels" if sigma else ""
        values = mean(partial(ndimage.gaussian_filter, sigma=sigma))
        found[f"the image{words}"] = values - values.min()
        found[f"the negative image{words}"] = values.max() - values
    found["the contrast to the body"] = mean(lambda c: np.abs(c - np.median(c[body])) * body)
    for sigma in _EDGES:
        found[f"edges at {sigma:g} voxels"] = mean(
            partial(ndimage.gaussian_gradient_magnitude, sigma=sigma)
        )
    for sigma in _SPOTS:
        found[f"spots at {sigma:g} voxels"] = mean(partial(_spots, sigma=sigma))
    found["the body"] = body.astype(np.float64)
    found["the depth in the body"] = ndimage.distance_transform_edt(body, sampling=spacing)
    found[CENTRE] = centre_map(body.shape, spacing)
    for width in _MIDDLES:
        words = f" at {width:g} of its width" if width < 1 else ""
        found[f"the centre of the body{words}"] = _body_gaussian(body, spacing, width)
    return {name: values.astype(np.float32) for name, values in found.items() if _ranks(values)}


def _spots(channel: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.abs(ndimage.gaussian_laplace(channel, sigma))
    return found


def _body_gaussian(
    body: NDArray[np.bool_], spacing: Sequence[float], share: float
) -> NDArray[np.float64]:
    """A Gaussian around the middle of the body; its width is a share of the longest extent."""
    axes = [np.arange(size) * mm for size, mm in zip(body.shape, spacing, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inside = places[body]
    width = share * float(inside.std(axis=0).max()) or 1.0
    distance = ((places - inside.mean(axis=0)) ** 2).sum(axis=-1)
    values: NDArray[np.float64] = np.exp(-0.5 * distance / width**2)
    return values


def _ranks(values: NDArray[np.floating]) -> bool:
    as_shown = values.astype(np.float32)
    return bool(np.isfinite(as_shown).all() and as_shown.min() < as_shown.max())
