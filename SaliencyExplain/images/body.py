"""The body of the patient in an image, as far as grey values show it."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label

#: Air is -1000 Hounsfield units; values below -1024 are padding outside the scanner's circle.
_LOWEST_HU = -1024.0
#: If the darkest voxels are below this, values are Hounsfield units and voxels below it are air.
_AIR_HU = -900.0
#: Parts of at least this share of the largest one are body as well: two legs, skull and brain.
_PART = 0.2
#: Smallest share of the image that the body fills, and that the background fills.
_LEAST = 0.02
#: Air is uniform. If the background's spread (5th to 95th percentile) is more than this share of
#: its distance to the body, it is tissue: 0.5 to 2 in chest X-rays, 0.2 around a tumour in PET.
#: Heads in MR and limbs in CT have up to 0.13.
_UNEVEN = 0.15
#: Standard deviations of the smoothing for images with noisy air, in voxels, in order of use.
_SMOOTHING = (1.0, 2.0, 3.0)
#: The background is noise if at least this share of its spread remains after a Gaussian of one
#: voxel is subtracted. White noise has 0.87 in 2D and 0.94 in 3D; chest X-rays have 0.02 to 0.23,
#: the background of PET 0.3 to 0.71.
_NOISE = 0.8


def body_mask(image: MetaTensor) -> NDArray[np.bool_] | None:
    """Separates the body from the air around it.

    Otsu's threshold (scikit-image) on the first channel, the largest connected part and others
    of similar size, holes filled slice by slice. If only noise makes the air non-uniform, the
    image is smoothed first.

    Args:
        image: (C, *S), S of 2 or 3 axes.

    Returns:
        (*S), True in the body; None where it cannot be determined: in positron emission
        tomography, if it has less than 2 % or more than 98 % of the image, or if the background
        is not as uniform as air.
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
    # Flat, because scikit-image takes a last axis of length 3 for colours.
    body = _bright_parts(clipped, threshold_otsu(clipped.ravel()))
    if body is not None:
        # The patient table is not body, and makes the air of a CT non-uniform.
        air = float(np.median(clipped[~body]))
        even = air < _AIR_HU if low < _AIR_HU else _is_even(clipped, body, ~body)
        if even:
            return body
    return None if low < _AIR_HU else _body_in_noise(values.astype(np.float32))


def _body_in_noise(values: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The body after the weakest smoothing that makes a noisy background uniform.

    The threshold between the two darkest of three classes is used as well: with noise the best
    single threshold may lie between dark and bright tissue.
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
            # Excludes the blurred outline of the body.
            air = ndimage.distance_transform_edt(~body) > 3 * sigma
            if (
                air.mean() >= _LEAST
                and _is_even(clipped, body, air)
                and _noise_share(values, air) >= _NOISE
            ):
                return body
    return None


def _bright_parts(values: NDArray[np.floating], threshold: float) -> NDArray[np.bool_] | None:
    """The large parts above a threshold, without holes; None if they are too small or too large."""
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
    """The share of the background's spread that changes from voxel to voxel."""
    rough = values - ndimage.gaussian_filter(values, 1.0)
    low, high = np.percentile(values[air], (5, 95))
    rough_low, rough_high = np.percentile(rough[air], (5, 95))
    return float((rough_high - rough_low) / (high - low)) if high > low else 0.0


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fills holes slice by slice; in 3D nose and ears connect every hole with the outside."""
    if mask.ndim == 2:
        return ndimage.binary_fill_holes(mask)
    planes = [ndimage.binary_fill_holes(mask[..., index]) for index in range(mask.shape[2])]
    return np.stack(planes, axis=-1)
