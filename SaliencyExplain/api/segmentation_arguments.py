"""What may stand for a segmentation: files, and masks or label maps in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import same_grid
from SaliencyExplain.images.images_in_memory import image_in_memory
from SaliencyExplain.images.segment_labels import PALETTE
from SaliencyExplain.images.segmentation import EMPTY_NOTE, Segment, Segmentation
from SaliencyExplain.images.segmentation_files import read_ground_truths
from SaliencyExplain.models.inputs import is_path

#: Most labels in an array; an array with more values is taken for an image.
_MOST_LABELS = 1000


def segmentation_on(given: Any, image: MetaTensor) -> tuple[Segmentation | None, tuple[str, ...]]:
    """A segmentation on the grid of an image.

    Args:
        given: A path or several; what :func:`read_segmentation` gives; a dictionary of segments'
            names to masks; or a label map as an array, MetaTensor, nibabel or SimpleITK image.
            What is in memory must be on the image's own grid.
        image: ``(C, *S)`` with its affine.

    Returns:
        The segmentation, None where nothing is given or marked, and notes for the user.

    Raises:
        InputError: It cannot be read, is not a label map, or is not on the image's grid.
    """
    if given is None:
        return None, ()
    if is_path(given):
        return read_ground_truths([Path(given)], image)
    if isinstance(given, Sequence) and given and all(is_path(one) for one in given):
        return read_ground_truths([Path(one) for one in given], image)
    if isinstance(given, Segmentation):
        for segment in given.segments:
            _check_shape(segment.name, segment.mask, image)
        return given, given.notes
    named = _named(given) if isinstance(given, Mapping) else _labels(given, image)
    marked = {name: mask for name, mask in named.items() if mask.any()}
    for name, mask in marked.items():
        _check_shape(name, mask, image)
    if not marked:
        return None, (EMPTY_NOTE,)
    segments = tuple(
        Segment(name, PALETTE[number % len(PALETTE)], mask.reshape(image.shape[1:]))
        for number, (name, mask) in enumerate(marked.items())
    )
    return Segmentation(segments, image.affine.numpy().astype(np.float64), ()), ()


def _named(given: Mapping[Any, Any]) -> dict[str, NDArray[np.bool_]]:
    return {str(name): _array(mask) != 0 for name, mask in given.items()}


def _labels(given: Any, image: MetaTensor) -> dict[str, NDArray[np.bool_]]:
    values = _array(given, image)
    if not np.array_equal(values, np.round(values)):
        raise InputError(
            ErrorCode.SEGMENTATION_LABELS,
            "The segmentation has values that are not whole numbers, so it is not a label map. "
            "Give a label map or masks.",
        )
    labels = [int(label) for label in np.unique(values) if label]
    if len(labels) > _MOST_LABELS:
        raise InputError(
            ErrorCode.SEGMENTATION_LABELS,
            f"The segmentation has {len(labels)} different values, so it is not a label map. Give "
            "a label map or masks.",
        )
    return {f"label {label}": values == label for label in labels}


def _array(given: Any, image: MetaTensor | None = None) -> NDArray[Any]:
    if image is not None and isinstance(given, (MetaTensor, SpatialImage, sitk.Image, tuple)):
        read = image_in_memory(given, image.ndim - 1, "segmentation")
        if not same_grid(
            read.shape[1:], read.affine.numpy(), image.shape[1:], image.affine.numpy()
        ):
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"The segmentation has the grid {tuple(read.shape[1:])} and the image "
                f"{tuple(image.shape[1:])}, or their positions differ: resample it onto the "
                "image's grid, or give the file, which is resampled here.",
            )
        return read.numpy()[0]
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)


def _check_shape(name: str, mask: NDArray[Any], image: MetaTensor) -> None:
    shape = tuple(image.shape[1:])
    if mask.shape not in (shape, (1, *shape)):
        raise InputError(
            ErrorCode.GRID_MISMATCH,
            f"The segment '{name}' has {mask.shape} voxels and the image {shape}: give it on the "
            "image's own grid.",
        )
