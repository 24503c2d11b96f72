"""Where the patient is in an image, as far as that can be told from its grey values."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label

#: Air in Hounsfield units is -1000; below -1024 lies what a scanner pads its circle with.
_LOWEST_HU = -1024.0
#: Where the darkest voxels are below this, values are Hounsfield units, and air is as well.
_AIR_HU = -900.0
#: Parts of this share of the largest belong to the body as well: two legs, skull and brain.
_PART = 0.2
#: Air is even. Where the background's spread (5th to 95th percentile) is more than this
#: share of its distance to the body, it is tissue: chest X-rays (0.5 to 2), the warm tissue
#: around a tumour in PET (0.2). Heads in MR and limbs in CT have up to 0.13.
_UNEVEN = 0.15


def body_mask(image: MetaTensor) -> NDArray[np.bool_] | None:
    """Separates the body from the air around it.

    Otsu's threshold (scikit-image) on the first channel, the largest connected part and
    others of its order, holes filled slice by slice.

    Args:
        image: (C, *S), S of 2 or 3 axes.

    Returns:
        (*S), True in the body; None where it cannot be told: positron emission
        tomography, less than 2 % or more than 98 % of the image, or a background
        that is not even as air is.
    """
    if image.meta.get("modality") == "PT":
        return None
    values = image.numpy()[0]
    if values.min() < _LOWEST_HU:
        values = np.maximum(values, _LOWEST_HU)
    low, high = np.percentile(values, (0.5, 99.5))
    if low == high:
        return None
    values = np.clip(values, low, high)
    # Flat, since scikit-image takes a last axis of three for colours.
    parts, count = label(values > threshold_otsu(values.ravel()), return_num=True)
    if count == 0:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    large = np.concatenate([[False], sizes >= _PART * sizes.max()])
    body = _without_holes(large[parts])
    if not 0.02 <= body.mean() <= 0.98:
        return None
    air_low, air, air_high = np.percentile(values[~body], (5, 50, 95))
    if low < _AIR_HU:
        # The patient table is no body, and makes the air of a CT uneven.
        return body if air < _AIR_HU else None
    inside = float(np.median(values[body]))
    return body if air_high - air_low <= _UNEVEN * (inside - air) else None


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fills in planes: in three dimensions nose and ears open every hole to the outside."""
    if mask.ndim == 2:
        return ndimage.binary_fill_holes(mask)
    planes = [ndimage.binary_fill_holes(mask[..., index]) for index in range(mask.shape[2])]
    return np.stack(planes, axis=-1)
