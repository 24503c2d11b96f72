"""The part of an image that a model looks at, such as a lesion with its surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.geometry import bounding_box, indices_of, spacing_of
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.models.network_grid import other_meta
from SaliencyExplain.quantities import LENGTHS, number_of
from SaliencyExplain.specification.spec import RegionOfInterest

SEGMENTATION, SEGMENT, LESION, POINT, BOX = "segmentation", "segment", "lesion", "point", "box"
#: The forms of a region, as a user writes them.
FORMS = ("segmentation", "segment:NAME", "lesion:NUMBER", "point:R,A,S", "box:R,A,S,R,A,S")
#: Lesions that an error names.
_SHOWN = 5


@dataclass(frozen=True)
class CroppedImage:
    """A box cut out of an image.

    Attributes:
        image: ``(C, *B)`` with its affine: each voxel is where it is in the whole image.
        note: What was cut out, for the user.
        first: Index of its first voxel in the image.
        shape: Its voxels along each axis.
    """

    image: MetaTensor
    note: str
    first: tuple[int, ...]
    shape: tuple[int, ...]


def cropped(
    image: MetaTensor, region: RegionOfInterest, segmentation: Segmentation | None
) -> CroppedImage:
    """Cuts a region of interest out of an image, along the image's axes.

    Args:
        image: ``(C, *S)`` with its affine.
        region: What is cut out; ``roi`` is not empty.
        segmentation: On the image's grid; for regions that are named by it.

    Raises:
        InputError: The region cannot be understood, needs a segmentation or a size, holds several
            lesions, or lies outside of the image.
    """
    shape = tuple(image.shape[1:])
    affine = image.affine.numpy().astype(np.float64)
    spacing = np.array(spacing_of(affine, len(shape)))
    low, high = _box(image, affine, region, segmentation)
    if region.roi_size_mm is not None:
        half = region.roi_size_mm / spacing / 2
        middle = (low + high) / 2
        low, high = middle - half, middle + half
    margin = region.roi_margin_mm / spacing
    begin = np.floor(low - margin + 0.5).astype(int)
    end = np.maximum(np.floor(high + margin + 0.5).astype(int), begin + 1)
    first = np.clip(begin, 0, shape)
    last = np.clip(end, 0, shape)
    if (last <= first).any():
        raise InputError(
            ErrorCode.PLACE_OUTSIDE,
            f"The region of interest {region.roi} lies outside of the image.",
        )
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, : len(shape)] @ first
    inside = (slice(None), *box)
    values = image.as_tensor()[inside]
    size = tuple(int(edge) for edge in last - first)
    whole = (first == begin).all() and (last == end).all()
    cut = "" if whole else ", cut off at the image's border"
    unit = length_unit(affine, shape)
    lengths = " x ".join(f"{edge:.4g}" for edge in np.array(size) * spacing)
    return CroppedImage(
        MetaTensor(values, affine=torch.from_numpy(moved), meta=other_meta(image)),
        f"The model sees the region of interest {region.roi}, {lengths} {unit}{cut}. Outside of it "
        "maps are undefined.",
        tuple(map(int, first)),
        size,
    )


def _box(
    image: MetaTensor,
    affine: NDArray[np.float64],
    region: RegionOfInterest,
    segmentation: Segmentation | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The outermost corners of the region in voxels, the centre of voxel 0 at 0.5."""
    axes = image.ndim - 1
    kind, _, rest = region.roi.partition(":")
    if kind in (POINT, BOX) and rest:
        points = _points(region.roi, rest, 3 if kind == POINT else 6)
        indices = np.array([indices_of(point, affine)[:axes] for point in points]) + 0.5
        if kind == POINT and region.roi_size_mm is None:
            raise InputError(
                ErrorCode.OPTION_MISSING,
                f"The region of interest {region.roi} needs a size: give roi_size_mm (on the "
                "command line --roi-size-mm).",
            )
        return indices.min(axis=0), indices.max(axis=0)
    mask = _mask(kind, rest, region.roi, segmentation)
    box = bounding_box(mask.reshape(image.shape[1:]))
    return (
        np.array([side.start for side in box], dtype=float),
        np.array([side.stop for side in box], dtype=float),
    )


def _mask(kind: str, rest: str, text: str, segmentation: Segmentation | None) -> NDArray[np.bool_]:
    known = (kind == SEGMENTATION and not rest) or (kind in (SEGMENT, LESION) and rest)
    if not known:
        raise unknown_name("region of interest", text, FORMS)
    if segmentation is None:
        raise InputError(
            ErrorCode.SEGMENTATION_MISSING,
            f"The region of interest {text} needs a segmentation: give one.",
        )
    if kind == SEGMENT:
        return np.asarray(segmentation.find(rest).mask) != 0
    union = np.any([np.asarray(one.mask) != 0 for one in segmentation.segments], axis=0)
    lesions = _lesions(union)
    if kind == SEGMENTATION:
        if len(lesions) > 1:
            sizes = ", ".join(
                f"lesion:{number} ({int(one.sum())} voxels)"
                for number, one in enumerate(lesions[:_SHOWN], start=1)
            )
            more = f" and {len(lesions) - _SHOWN} more" if len(lesions) > _SHOWN else ""
            raise InputError(
                ErrorCode.OPTION_MISSING,
                f"The segmentation has {len(lesions)} lesions that do not touch, each a question "
                f"of its own: name one as the region of interest: {sizes}{more}.",
            )
        return union
    if not rest.isdecimal() or not 1 <= int(rest) <= len(lesions):
        raise InputError(
            ErrorCode.NAME_UNKNOWN,
            f"There is no {text}: the segmentation has the lesions 1 to {len(lesions)}, the "
            "largest first.",
        )
    return lesions[int(rest) - 1]


def _lesions(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The parts of a mask that do not touch, the largest first."""
    labels, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return [labels == 1 + index for index in np.argsort(-sizes, kind="stable")]


def _points(text: str, rest: str, count: int) -> list[NDArray[np.float64]]:
    try:
        numbers = [number_of(part, LENGTHS) for part in rest.split(",")]
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise ValueError
    except ValueError:
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The region of interest '{text[:80]}' is not {count} numbers in mm with commas "
            "(right, anterior, superior).",
        ) from None
    return [np.array(numbers[start : start + 3]) for start in range(0, count, 3)]
