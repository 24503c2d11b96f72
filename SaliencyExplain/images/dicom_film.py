"""2D DICOM images: radiographs and others without a position in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS
from SaliencyExplain.images.dicom_header import DAMAGED, damaged, text
from SaliencyExplain.images.dicom_pixels import padding_of, read_stored, rescaled, without_padding
from SaliencyExplain.images.volume import Volume

#: Modalities whose single images are projections, even if their header has a position.
_PROJECTIONS = ("CR", "DX", "DR", "MG", "PX", "IO", "RG", "RF", "XA", "RTIMAGE")


def is_projection(header: Dataset) -> bool:
    """Whether an image is a projection such as a radiograph, even if it has a position."""
    if header.get("SharedFunctionalGroupsSequence"):
        return False
    return text(header, "Modality") in _PROJECTIONS or is_radiograph(header)


def is_radiograph(header: Dataset) -> bool:
    """Whether an image is a radiograph by its SOP class, and not a slice of a rotation (XA)."""
    name = UID(text(header, "SOPClassUID")).name
    enhanced = bool(header.get("SharedFunctionalGroupsSequence"))
    return not enhanced and ("X-Ray" in name or name.startswith("Computed Radiography"))


def read_film(source: Path, files: Sequence[Path], header: Dataset) -> Volume:
    """Reads a 2D image.

    Args:
        source: The path that the user gave, for messages.
        files: Its one file.
        header: Its header.

    Returns:
        One layer of two axes; dense tissue is bright (MONOCHROME1 is inverted).

    Raises:
        InputError: There are several files, or the file cannot be read.
    """
    count = len(files) * int(header.get("NumberOfFrames") or 1)
    if count > 1:
        kind = "films" if is_radiograph(header) else "images without a position in the patient"
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{source}: holds {count} {kind}, which do not form a volume. Give the file of one "
            "image.",
        )
    path = files[0]
    stored, dataset = read_stored(path)
    if stored.ndim == 3:
        stored = stored[0]
    values = np.asarray(rescaled(path, stored, header, dataset).T, dtype=np.float32)
    padding = padding_of(path, stored, header).T
    notes = []
    if text(header, "PhotometricInterpretation") == "MONOCHROME1":
        picture = values if padding.all() else values[~padding]
        values = picture.max() + picture.min() - values
        notes.append("grey values are inverted (MONOCHROME1), so that dense tissue is bright")
    elif text(header, "PresentationLUTShape") == "INVERSE":
        notes.append(
            "the header specifies an inverted display (PresentationLUTShape), but its values are "
            "MONOCHROME2; they are used as stored"
        )
    values, padded = without_padding(values, padding, text(header, "Modality"))
    notes += [padded] if padded else []
    notes += _orientation_notes(header)
    if header.get("VOILUTSequence") or text(header, "VOILUTFunction") not in ("", "LINEAR"):
        notes.append("the display curve of the header (VOI LUT) is not applied")
    if text(header, "PresentationIntentType") == "FOR PROCESSING":
        notes.append(
            "the image holds unprocessed detector values (PresentationIntentType FOR PROCESSING), "
            "which differ from the displayed image"
        )
    spacing, told = _spacing(path, header)
    affine = LPS_TO_RAS @ np.diag([spacing[1], spacing[0], 1.0, 1.0])
    return Volume(values[np.newaxis], affine, (*notes, *told), modality=text(header, "Modality"))


def _orientation_notes(header: Dataset) -> list[str]:
    """A note if, by the header, columns run to the patient's right or rows run upwards.

    Source: DICOM PS3.3 C.7.6.1.1.1: PatientOrientation has the direction of the rows and that of
    the columns; the first letter is the main component.
    """
    value = header.get("PatientOrientation") or []
    rows, columns = ([str(one).strip().upper() for one in value] + ["", ""])[:2]
    wrong = []
    if rows.startswith("R"):
        wrong.append("its columns run to the patient's right")
    elif rows.startswith(("H", "F")):
        wrong.append("its columns run along the patient, so that it lies on its side")
    if columns.startswith("H"):
        wrong.append("its rows run upwards")
    if not wrong:
        return []
    return [
        f"by its header {' and '.join(wrong)} (PatientOrientation {rows}\\{columns}); the image "
        "is used as stored, in an orientation that the classifier may not have been trained with"
    ]


def _spacing(path: Path, header: Dataset) -> tuple[tuple[float, float], list[str]]:
    """Millimetres between rows and between columns, and notes on their source."""
    try:
        for keyword, note in (
            ("PixelSpacing", ""),
            (
                "ImagerPixelSpacing",
                "millimetres are measured on the detector and larger than in the patient",
            ),
            ("NominalScannedPixelSpacing", "millimetres are measured on the scanned film"),
        ):
            if header.get(keyword):
                rows, columns = (float(part) for part in header[keyword].value)
                _check_sizes(path, keyword, rows, columns)
                return (rows, columns), [note] if note else []
        unknown = "the pixel size is unknown: "
        if header.get("PixelAspectRatio"):
            rows, columns = (float(part) for part in header.PixelAspectRatio)
            _check_sizes(path, "PixelAspectRatio", rows, columns)
            if rows != columns:
                return (rows / columns, 1.0), [
                    f"{unknown}a pixel's (px) width counts as 1 mm, its height as "
                    f"{rows / columns:.4g} mm (PixelAspectRatio)"
                ]
        return (1.0, 1.0), [f"{unknown}a pixel (px) counts as 1 mm"]
    except DAMAGED as error:
        raise damaged(path, error) from error


def _check_sizes(path: Path, keyword: str, rows: float, columns: float) -> None:
    if not (np.isfinite([rows, columns]).all() and rows > 0 and columns > 0):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: its {keyword} ({rows:g}, {columns:g}) is not a valid pixel size. Correct "
            "the header.",
        )
