"""The preprocessing of nnU-Net v2: axes, crop to what is not zero, intensities, voxel size.

The numbers are those of nnU-Net's ``DefaultPreprocessor``; the affine is kept true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import bounding_box, spacing_of
from SaliencyExplain.models.nnunet_plans import NnunetPlans, Normalisation
from SaliencyExplain.progress import may_stop

Floats = NDArray[np.float32]

#: Ratio of the largest to the smallest spacing from which on an axis is resampled by itself.
_ANISOTROPIC = 3
_LEAST = 1e-8


@dataclass(frozen=True)
class NnunetPreprocessing:
    """From ``{"image": MetaTensor (C, *S)}`` to the network's input.

    Attributes:
        plans: What nnU-Net has planned.
    """

    plans: NnunetPlans

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """See the class.

        Raises:
            InputError: All voxels of the image are zero, or a picture's are no colours.
        """
        image = data["image"]
        affine = image.affine.numpy().astype(np.float64)
        values = np.asarray(image.as_tensor().numpy(), dtype=np.float32)
        axes = values.ndim - 1
        spacing = list(spacing_of(affine, axes))
        if axes == 2:
            # nnU-Net takes a picture as a volume of one slice, whose thickness is large.
            values, spacing = values[..., None], [*spacing, 999 * max(spacing)]
        # nnU-Net's arrays are z, y, x; of each of the network's axes the image's.
        order = [2 - axis for axis in self.plans.transpose]
        values = values.transpose(0, *(1 + axis for axis in order))
        spacing = [spacing[axis] for axis in order]
        mask = ndimage.binary_fill_holes((values != 0).any(axis=0))
        if not mask.any():
            raise InputError(
                ErrorCode.IMAGE_VALUES,
                "nnU-Net's preprocessing crops to the voxels that are not zero, and all voxels "
                "of this image are zero.",
            )
        box = bounding_box(mask)
        values = np.stack([one[box] for one in values])
        mask = mask[box]
        for channel, normalisation in zip(values, self.plans.normalisations, strict=True):
            _normalise(channel, mask, normalisation)
        wanted = [*self.plans.spacing]
        wanted = [spacing[0]] * (3 - len(wanted)) + wanted
        shape = [
            round(have / want * size)
            for have, want, size in zip(spacing, wanted, mask.shape, strict=True)
        ]
        if min(shape) < 1:
            raise InputError(
                ErrorCode.IMAGE_VALUES,
                f"nnU-Net's preprocessing leaves {'x'.join(map(str, shape))} voxels of this image. "
                "Check its voxel size.",
            )
        separate = _separate_axis(self.plans.separate, spacing, wanted)
        resampled = np.stack(
            [_resized(one, shape, self.plans.order, separate) for one in values]
        ).astype(np.float32)
        # Index in the image of a voxel of the network's grid, axis by axis.
        to_image = np.zeros((4, 4))
        to_image[3, 3] = 1
        for number, axis in enumerate(order):
            scale = mask.shape[number] / shape[number]
            to_image[axis, number] = scale
            to_image[axis, 3] = box[number].start + scale / 2 - 0.5
        if axes == 2:
            resampled = resampled[:, 0]
            # The plane's axes are the network's second and third one.
            to_image = to_image[:, [1, 2, 0, 3]]
        found = MetaTensor(
            torch.from_numpy(np.ascontiguousarray(resampled)),
            affine=torch.from_numpy(affine @ to_image),
        )
        return {**data, "image": found}


def _normalise(values: Floats, mask: NDArray[np.bool_], how: Normalisation) -> None:
    """Scales the intensities of a channel in place."""
    if how.scheme == "ZScoreNormalization":
        inside = mask if how.in_mask else np.ones_like(mask)
        chosen = values[inside] if how.in_mask else values
        mean, deviation = chosen.mean(), chosen.std()
        values[inside] = (values[inside] - mean) / max(deviation, _LEAST)
    elif how.scheme == "CTNormalization":
        low, high = how.properties["percentile_00_5"], how.properties["percentile_99_5"]
        np.clip(values, low, high, out=values)
        values -= how.properties["mean"]
        values /= max(how.properties["std"], _LEAST)
    elif how.scheme == "RescaleTo01Normalization":
        values -= values.min()
        values /= max(values.max(), _LEAST)
    elif how.scheme == "RGBTo01Normalization":
        if values.min() < 0 or values.max() > 255:
            raise InputError(
                ErrorCode.IMAGE_VALUES,
                f"The network takes colours from 0 to 255, and the image has values from "
                f"{values.min():g} to {values.max():g}.",
            )
        values /= 255


def _separate_axis(
    forced: bool | None, spacing: Sequence[float], wanted: Sequence[float]
) -> int | None:
    """The axis that is resampled by itself, slice by slice; None: none."""
    chosen: Sequence[float] | None = None
    if forced is None:
        for one in (spacing, wanted):
            if chosen is None and max(one) / min(one) > _ANISOTROPIC:
                chosen = one
    elif forced:
        chosen = spacing
    if chosen is None:
        return None
    largest = [axis for axis, one in enumerate(chosen) if max(chosen) / one == 1]
    return largest[0] if len(largest) == 1 else None


def _resized(
    values: Floats, shape: Sequence[int], order: int, separate: int | None
) -> NDArray[np.floating]:
    """The volume with other numbers of voxels, by splines."""
    may_stop()
    if list(values.shape) == list(shape):
        return values
    if separate is None:
        return _zoomed(values.astype(np.float64), shape, order)
    plane = [size for axis, size in enumerate(shape) if axis != separate]
    slices = []
    for one in np.moveaxis(values, separate, 0):
        may_stop()
        slices.append(_zoomed(one.astype(np.float64), plane, order))
    stacked = np.stack(slices)
    places = (np.arange(shape[separate]) + 0.5) * len(stacked) / shape[separate] - 0.5
    nearest = ndimage.map_coordinates(
        np.arange(len(stacked), dtype=np.float64), places[None], order=0, mode="nearest"
    )
    return np.moveaxis(stacked[nearest.astype(int)], 0, separate)


def _zoomed(values: NDArray[np.float64], shape: Sequence[int], order: int) -> NDArray[np.float64]:
    """As ``skimage.transform.resize`` with the mode edge and without smoothing before."""
    if list(values.shape) == list(shape):
        return values
    factors = [size / old for size, old in zip(shape, values.shape, strict=True)]
    found = ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(found, values.min(), values.max())
