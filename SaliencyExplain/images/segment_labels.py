"""Label maps from volumes: the segments named in the header, else the values of the voxels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import same_grid
from SaliencyExplain.images.label_types import PALETTE as PALETTE
from SaliencyExplain.images.label_types import Color as Color
from SaliencyExplain.images.label_types import Label as Label
from SaliencyExplain.images.label_types import LabelMap as LabelMap
from SaliencyExplain.images.label_values import (
    hard_layers,
    labels_of,
    whole_numbers,
    without_background,
)
from SaliencyExplain.images.segment_fields import described_segments
from SaliencyExplain.images.volume import Volume


def from_volume(path: Path, volume: Volume) -> LabelMap:
    """Makes a label map from a volume, with Slicer's segment names if the header has them.

    Args:
        path: Its file, for messages.
        volume: Whole numbers, or a soft mask, in one or several layers.

    Raises:
        InputError: It holds an image and not labels, or its header does not determine the voxels
            of a segment.
    """
    layers, notes = whole_numbers(path, volume.values)
    labels, more = described_segments(path, volume.header, layers)
    notes = (*volume.notes, *notes, *more)
    if not labels:
        layers, more = without_background(path, layers)
        layers, soft = hard_layers(layers)
        notes = (*notes, *more, *soft)
        labels = tuple(
            Label(
                f"label {value}" if len(layers) == 1 else f"layer {layer + 1} label {value}",
                None,
                layer,
                value,
            )
            for layer, values in enumerate(layers)
            for value in labels_of(path, values)
        )
    return LabelMap(layers, volume.affine, labels, notes, volume.frame_of_reference)


def layers_last(
    path: Path, volume: Volume, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> Volume:
    """Moves the layers of a 4D volume to the first axis if they lie along the file's first axis.

    Arrays of one-hot masks are often saved like that.

    Args:
        path: Its file, for messages.
        volume: (L, i, j, k) as read, L along the file's last axis.
        shape: Voxels of the image.
        affine: The image's.

    Returns:
        The volume with the file's first axis as layers if the others have the image's shape, else
        the volume unchanged.

    Raises:
        InputError: The others have the image's shape, but the affine is not the image's.
    """
    found = volume.values
    if found.ndim != 4 or found.shape[1:] == shape:
        return volume
    values = found.transpose(1, 2, 3, 0)
    if values.shape[1:] != shape:
        return volume
    if not same_grid(shape, volume.affine, shape, affine):
        raise InputError(
            ErrorCode.GRID_MISMATCH,
            f"{path}: its first axis seems to be {len(values)} layers, and its affine differs from "
            "the image's. Save it with the layers last and the affine of the image.",
        )
    note = f"the segmentation's first axis is treated as {len(values)} layers"
    return replace(volume, values=values, notes=(*volume.notes, note))
