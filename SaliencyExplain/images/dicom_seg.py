"""DICOM SEG objects, through highdicom; overlapping segments stay apart."""

from __future__ import annotations

import math
from pathlib import Path

import highdicom
import numpy as np
from pydicom.dataset import Dataset
from skimage.color import lab2rgb

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_file import opened
from SaliencyExplain.images.dicom_header import DAMAGED, damaged
from SaliencyExplain.images.grids import LPS_TO_RAS
from SaliencyExplain.images.labels import Color, Label, LabelMap
from SaliencyExplain.images.sizes import check_memory


def read_dicom_seg(path: Path) -> LabelMap:
    """Reads a DICOM SEG (binary, fractional or label map) as a layer for each segment.

    Fractional segments are inside from one half on.

    Args:
        path: The file.

    Returns:
        The segments on the grid that the SEG's own frames span.

    Raises:
        InputError: It is damaged, or its frames lie on no regular grid.
    """
    try:
        with opened(path) as file:
            seg = highdicom.seg.segread(file)
        numbers = [int(number) for number in seg.segment_numbers if number != 0]
        described = [seg.get_segment_description(number) for number in numbers]
    except (*DAMAGED, RuntimeError) as error:
        raise damaged(path, error) from error
    try:
        geometry = seg.get_volume_geometry()
        if geometry is not None:
            # Slices that are missing between others are filled in: a few frames may be far apart.
            voxels = math.prod(geometry.spatial_shape) * len(numbers)
            check_memory(path, voxels, 1, labels=True)
        volume = seg.get_volume(segment_numbers=numbers, combine_segments=False)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: the frames of this DICOM SEG lie on no regular grid, and cannot be put "
            "together to a volume.",
        ) from error
    affine = LPS_TO_RAS @ volume.affine[:, [2, 1, 0, 3]]
    layers = np.moveaxis(volume.array, -1, 0).transpose(0, 3, 2, 1) >= 0.5
    labels = tuple(
        Label(str(segment.segment_label), _color(segment), layer, 1)
        for layer, segment in enumerate(described)
    )
    return LabelMap(layers, affine, labels, (), str(seg.get("FrameOfReferenceUID", "") or ""))


def _color(segment: Dataset) -> Color | None:
    """RGB of DICOM's scaled CIELab (PS3.3 C.10.7.1.1)."""
    scaled = segment.get("RecommendedDisplayCIELabValue")
    if scaled is None or len(scaled) != 3:
        return None
    share = np.array([float(part) for part in scaled]) / 65535.0
    rgb = lab2rgb(share * [100.0, 255.0, 255.0] - [0.0, 128.0, 128.0])
    return float(rgb[0]), float(rgb[1]), float(rgb[2])
