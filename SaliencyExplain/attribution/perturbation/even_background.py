"""Where an image is even: the air or the padding around what it shows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.perturbation.scikit_image import scikit_image
from SaliencyExplain.errors import ErrorCode, InputError

#: Air is within this share of the image's range, in each channel.
_EVEN = 0.02


#: Single voxels of it may be so far off.
_NOISE = 0.06


def even_background(image: Tensor) -> NDArray[np.bool_]:
    """Where the image is air or padding: even, and connected to the image's border.

    Even is what differs from the border's median by at most 2 % of the range in each
    channel (single voxels: 6 %), without parts thinner than three voxels. There is none where
    that is less than half of the border, or the whole image.

    Args:
        image: ``(C, *S)``.

    Returns:
        ``(*S)``, True in the background.

    Raises:
        InputError: A value of the image is not finite; scikit-image is not installed.
    """
    measure = scikit_image("measure")
    # scikit-image brings it.
    from scipy import ndimage

    values = comparable(image).numpy()
    axes = values.ndim - 1
    border = np.ones(values.shape[1:], dtype=bool)
    border[(slice(1, -1),) * axes] = False
    median = np.median(values[:, border], axis=1).reshape(-1, *[1] * axes)
    distance = np.abs(values - median).max(axis=0)
    even = distance <= _EVEN
    if even[border].mean() < 0.5:
        return np.zeros_like(even)
    # Single voxels of noise are closed first; what is clearly brighter stays. Beyond the
    # border it is even, and so far out that the two, which take off the outermost voxels, do
    # not reach the image.
    wide = np.pad(even, 3, constant_values=True)
    noise = np.pad(distance <= _NOISE, 3, constant_values=True)
    wide = ndimage.binary_opening(ndimage.binary_closing(wide) & noise)
    parts = measure.label(wide, connectivity=1)
    outside = parts[(slice(3, -3),) * axes] == parts[(2,) * axes]
    return np.zeros_like(outside) if outside.all() else outside


def comparable(image: Tensor) -> Tensor:
    """Each channel from 0 to 1 between its 0.5th and 99.5th percentile, ``(C, *S)`` on the CPU.

    Raises:
        InputError: A value is not finite.
    """
    values = image.detach().cpu().float()
    check_finite(values)
    scaled = []
    for channel in values:
        low, high = np.percentile(channel.numpy(), (0.5, 99.5))
        if low == high:
            low, high = float(channel.min()), float(channel.max())
        scaled.append((channel - low).div(high - low or 1.0).clamp(0, 1))
    return torch.stack(scaled)


def check_finite(values: Tensor) -> None:
    """Raises InputError where a value of a prepared image is not finite."""
    if not values.isfinite().all():
        raise InputError(
            ErrorCode.REGIONS,
            "Prepared image: it has values that are not finite and cannot be divided into regions. "
            "Check the intensity preprocessing.",
        )
