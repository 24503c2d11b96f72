"""Volumes of an engine as images and segmentations of the library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import same_grid
from SaliencyExplain.images.segment_labels import PALETTE
from SaliencyExplain.images.segmentation import Segment, Segmentation
from SaliencyExplain.voxel_volume import Volume


def image_of(volume: Volume, name: str = "") -> MetaTensor:
    """A volume ``(C, *S)`` as the image that the library takes; its voxels are copied."""
    values = torch.from_numpy(volume.values.astype(np.float32))
    image = MetaTensor(values, affine=torch.from_numpy(np.array(volume.affine)))
    image.meta["name"] = name
    image.meta["notes"] = []
    return image


def segmentation_of(
    names: Sequence[str],
    segments: Volume,
    image: Volume,
    notes: list[str],
) -> Segmentation:
    """A stack of masks as a segmentation; masks without a voxel are left out.

    Args:
        names: A name for each mask.
        segments: The masks ``(N, *S)``, uint8.
        image: The image whose grid they must lie on.
        notes: Receives the names of masks that were left out.

    Raises:
        InputError: They are on another grid, lack names or share one, or none has a voxel.
    """
    values = segments.values
    check_grid("The stack of segments", segments, values.shape[1:], image)
    if len(names) != len(values):
        raise InputError(
            ErrorCode.ENGINE_REQUEST,
            f"Segments: {len(values)} mask(s), {len(names)} name(s). Give one name for each mask.",
        )
    named: dict[str, Segment] = {}
    empty = []
    for index, (name, mask) in enumerate(zip(names, values, strict=True)):
        if not mask.any():
            empty.append(name)
            continue
        if name in named:
            raise InputError(
                ErrorCode.NAME_DUPLICATE, f"Two segments are named '{name}'; give one another name."
            )
        named[name] = Segment(name, PALETTE[index % len(PALETTE)], mask.astype(bool))
    if empty:
        notes.append(f"without a voxel in the image and left out: {', '.join(empty)}")
    if not named:
        raise InputError(
            ErrorCode.SEGMENTATION_EMPTY,
            "No voxel of the image lies in a segment, so nothing can be compared. Check that the "
            "segmentation belongs to the image.",
        )
    return Segmentation(tuple(named.values()), np.asarray(image.affine), ())


def check_grid(what: str, volume: Volume, shape: tuple[int, ...], image: Volume) -> None:
    """Refuses voxels that are not on the image's grid, since their positions would be wrong.

    Args:
        what: Names the voxels in the message.
        volume: The voxels with their affine.
        shape: Their shape, without channels.
        image: The image ``(C, *S)``.

    Raises:
        InputError: Their shape or affine is another than the image's.
    """
    wanted = image.values.shape[1:]
    if shape != wanted:
        raise InputError(
            ErrorCode.GRID_MISMATCH,
            f"{what} has {shape} voxels and the image {wanted}: give it on the image's own grid.",
        )
    if not same_grid(shape, volume.affine, wanted, image.affine):
        raise InputError(
            ErrorCode.GRID_MISMATCH,
            f"{what} has another position than the image: give it on the image's own grid.",
        )
