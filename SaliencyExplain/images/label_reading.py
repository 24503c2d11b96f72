"""Reading segments of any format on their file's own grid, if it has one; without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.apart import apart
from SaliencyExplain.images.dicom_header import is_dicom, read_header, text
from SaliencyExplain.images.dicom_seg import read_dicom_seg
from SaliencyExplain.images.dicom_series import list_series
from SaliencyExplain.images.input_file import check_exists
from SaliencyExplain.images.reader_registry import find_reader
from SaliencyExplain.images.rtstruct import read_rtstruct
from SaliencyExplain.images.segment_labels import LabelMap, from_volume, layers_last
from SaliencyExplain.images.volume_reading import read_volume


@apart
def read_label_map(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> LabelMap:
    """Reads the segments of a file or folder.

    Args:
        path: A label map (any volume format), `.seg.nrrd`, DICOM SEG, RTSTRUCT, a picture, or
            a DICOM folder with one of these.
        shape: Voxels of the image; contours are filled on its grid.
        affine: The image's 4x4 affine to RAS millimetres.

    Raises:
        InputError: It is missing or unreadable, no label map, or ambiguous.
    """
    check_exists(path)
    return _read(_object_in(path) if path.is_dir() else path, shape, affine)


def _object_in(folder: Path) -> Path:
    """The segmentation object in a folder, or the folder itself if it holds slices."""
    objects = [
        file
        for series in list_series(folder)
        if series.modality in ("SEG", "RTSTRUCT")
        for file in series.files
    ]
    if len(objects) > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{folder}: holds {len(objects)} segmentations. Give one of them: "
            f"{', '.join(str(file.relative_to(folder)) for file in objects[:10])}.",
        )
    return objects[0] if objects else folder


def _read(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> LabelMap:
    dicom = not path.is_dir() and is_dicom(path)
    found = None if dicom or path.is_dir() else find_reader(path)
    labels = found.read_labels(path) if found is not None else None
    if labels is not None:
        return labels
    modality = text(read_header(path, ["Modality"]), "Modality") if dicom else ""
    if modality == "SEG":
        return read_dicom_seg(path)
    if modality == "RTSTRUCT":
        if len(shape) != 3:
            raise InputError(
                ErrorCode.IMAGE_AXES,
                f"{path}: contours of an RTSTRUCT need a 3D image, and the image is 2D. Give a "
                "mask of the image's size.",
            )
        return read_rtstruct(path, shape, affine)
    volume = layers_last(path, read_volume(path, several=True), shape, affine)
    return from_volume(path, volume)
