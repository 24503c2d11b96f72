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
#: A body fills at least this share of the image, and so does the rest.
_LEAST = 0.02
#: Air is even. Where the background's spread (5th to 95th percentile) is more than this
#: share of its distance to the body, it is tissue: chest X-rays (0.5 to 2), the warm tissue
#: around a tumour in PET (0.2). Heads in MR and limbs in CT have up to 0.13.
_UNEVEN = 0.15
#: Standard deviations, voxels, of the Gaussian that is tried where noise makes the air uneven.
_SMOOTHING = (1.0, 2.0, 3.0)
#: The background is noise where this share of its spread or more is left when a Gaussian of
#: one voxel is subtracted. White noise has 0.87 in two axes and 0.94 in three; chest X-rays
#: have 0.02 to 0.23, the background of PET 0.3 to 0.71.
_NOISE = 0.8


def body_mask(image: MetaTensor) -> NDArray[np.bool_] | None:
    """Separates the body from the air around it.

    Otsu's threshold (scikit-image) on the first channel, the largest connected part and
    others of its order, holes filled slice by slice. Where the air is uneven because of
    noise, and of nothing else, the image is smoothed first.

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
    clipped = np.clip(values, low, high)
    # Flat, since scikit-image takes a last axis of three for colours.
    body = _bright_parts(clipped, threshold_otsu(clipped.ravel()))
    if body is not None:
        # The patient table is no body, and makes the air of a CT uneven.
        air = float(np.median(clipped[~body]))
        even = air < _AIR_HU if low < _AIR_HU else _is_even(clipped, body, ~body)
        if even:
            return body
    return None if low < _AIR_HU else _body_in_noise(values.astype(np.float32))


def _body_in_noise(values: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The body after the least smoothing that makes a noisy background even.

    The threshold between the two darkest of three classes is tried as well: in noise the best
    single one may lie between dark and bright tissue.
    """
    for sigma in _SMOOTHING:
        smooth = ndimage.gaussian_filter(values, sigma)
        clipped = np.clip(smooth, *np.percentile(smooth, (0.5, 99.5)))
        first = threshold_otsu(clipped.ravel())
        darker = clipped[clipped <= first]
        thresholds = [first, threshold_otsu(darker)] if np.ptp(darker) > 0 else [first]
        for threshold in thresholds:
            body = _bright_parts(clipped, threshold)
            if body is None:
                continue
            # Not the blurred outline of the body.
            air = ndimage.distance_transform_edt(~body) > 3 * sigma
            if (
                air.mean() >= _LEAST
                and _is_even(clipped, body, air)
                and _noise_share(values, air) >= _NOISE
            ):
                return body
    return None


def _bright_parts(values: NDArray[np.floating], threshold: float) -> NDArray[np.bool_] | None:
    """The large parts above a threshold without holes; None where they are all or nothing."""
    parts, count = label(values > threshold, return_num=True)
    if count == 0:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    large = np.concatenate([[False], sizes >= _PART * sizes.max()])
    body = _without_holes(large[parts])
    return body if _LEAST <= body.mean() <= 1 - _LEAST else None


def _is_even(values: NDArray[np.floating], body: NDArray[np.bool_], air: NDArray[np.bool_]) -> bool:
    low, middle, high = np.percentile(values[air], (5, 50, 95))
    return bool(high - low <= _UNEVEN * (float(np.median(values[body])) - middle))


def _noise_share(values: NDArray[np.float32], air: NDArray[np.bool_]) -> float:
    """How much of the background's spread differs from voxel to voxel."""
    rough = values - ndimage.gaussian_filter(values, 1.0)
    low, high = np.percentile(values[air], (5, 95))
    rough_low, rough_high = np.percentile(rough[air], (5, 95))
    return float((rough_high - rough_low) / (high - low)) if high > low else 0.0


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fills in planes: in three dimensions nose and ears open every hole to the outside."""
    if mask.ndim == 2:
        return ndimage.binary_fill_holes(mask)
    planes = [ndimage.binary_fill_holes(mask[..., index]) for index in range(mask.shape[2])]
    return np.stack(planes, axis=-1)
