"""DICOM slices put together to a volume: single-frame series and enhanced multi-frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_series import DAMAGED, NOT_IMAGES, damaged
from SaliencyExplain.images.grids import LPS_TO_RAS
from SaliencyExplain.images.volume import Volume

#: Positions in headers are rounded, some to a tenth of a millimetre. A slice may lie this
#: share of the slice distance off the even grid before the series counts as uneven.
_UNEVEN = 0.1
#: From this share on the deviation is said aloud.
_NOTED = 0.01
#: Share of a pixel that slices may be shifted against each other within their plane.
_SHIFTED = 0.25

#: What tells apart several volumes in one series, in the words of the standard.
_VOLUME_TAGS = (
    "TemporalPositionIdentifier",
    "TemporalPositionTimeOffset",
    "EchoTime",
    "EchoNumbers",
    "InversionTime",
    "DiffusionBValue",
    "TriggerTime",
    "AcquisitionNumber",
    "ImageType",
)


@dataclass(frozen=True)
class _Frame:
    """One slice: where it lies (LPS millimetres) and where its pixels are."""

    path: Path
    index: int
    size: tuple[int, int]
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float
    header: Dataset

    def called(self) -> str:
        return f"{self.path.name}" + (f" frame {self.index + 1}" if self.index else "")


def read_slices(source: Path, files: Sequence[Path]) -> Volume:
    """Reads the slices of one series, in any order, as a volume.

    Slices are sorted along their normal. Where the gantry was tilted the affine that
    comes back is sheared, as the slices lie.

    Args:
        source: What the user named, for messages.
        files: Single-frame files, or enhanced multi-frame ones.

    Returns:
        One layer of three axes; of two for projections, which have no place in the
        patient. Values after the rescale slope and intercept.

    Raises:
        InputError: A file is damaged; it holds colours, several volumes or
            orientations, or slices at uneven distances.
    """
    headers = [_header(path) for path in files]
    first = headers[0]
    if int(first.get("SamplesPerPixel", 1)) != 1:
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{source}: holds colours, not one number at each pixel. Convert it to grey values.",
        )
    if not _has_place(first):
        return _projection(source, files, first)
    frames = [
        frame
        for path, header in zip(files, headers, strict=True)
        for frame in _frames(source, path, header)
    ]
    frames = _in_order(source, frames)
    affine, notes = _place(source, frames)
    width, height = frames[0].size
    values = np.empty((width, height, len(frames)), dtype=np.float32)
    places: dict[Path, list[int]] = {}
    for place, frame in enumerate(frames):
        places.setdefault(frame.path, []).append(place)
    for path, held in places.items():
        pixels = _pixels(path)
        for place in held:
            frame = frames[place]
            stored = pixels[frame.index] if pixels.ndim == 3 else pixels
            values[..., place] = _scaled(stored, frame.header).T
    return Volume(
        values[np.newaxis],
        affine,
        (*notes, *_unit_notes(first)),
        frame_of_reference=str(first.get("FrameOfReferenceUID", "") or ""),
        modality=str(first.get("Modality", "")),
    )


def _header(path: Path) -> Dataset:
    try:
        header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    except DAMAGED as error:
        raise damaged(path, error) from error
    modality = str(header.get("Modality", ""))
    if not header.get("Rows") or not header.get("Columns"):
        kind = modality or "no modality"
        raise InputError(
            ErrorCode.IMAGE_AXES, f"{path}: this DICOM file ({kind}) holds no image, or is cut off."
        )
    if modality in NOT_IMAGES:
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: this DICOM file is a {modality} object, and an image is wanted.",
        )
    return header


def _has_place(header: Dataset) -> bool:
    return "ImagePositionPatient" in header or "PerFrameFunctionalGroupsSequence" in header


def _pixels(path: Path) -> NDArray[np.generic]:
    try:
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            # Files without preamble do not name their encoding; pydicom has found it out.
            implicit, _ = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            )
        return pixel_array(dataset)
    except (*DAMAGED, RuntimeError, NotImplementedError) as error:
        raise damaged(path, error) from error


def _scaled(stored: NDArray[np.generic], header: Dataset) -> NDArray[np.float64]:
    return np.asarray(apply_modality_lut(stored, header), dtype=np.float64)


def _frames(source: Path, path: Path, header: Dataset) -> list[_Frame]:
    size = (int(header.Columns), int(header.Rows))
    try:
        if "PerFrameFunctionalGroupsSequence" not in header:
            count = int(header.get("NumberOfFrames") or 1)
            if count > 1:
                raise InputError(
                    ErrorCode.IMAGE_GEOMETRY,
                    f"{path}: holds {count} frames and does not say where they lie.",
                )
            return [_frame(path, 0, size, [header])]
        shared = list(header.get("SharedFunctionalGroupsSequence") or [])
        return [
            _frame(path, index, size, [frame, *shared, header])
            for index, frame in enumerate(header.PerFrameFunctionalGroupsSequence)
        ]
    except (KeyError, AttributeError, TypeError, IndexError, ValueError) as error:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: its header does not say where its slices lie (position, orientation or "
            "pixel spacing is missing).",
        ) from error


#: Attribute -> the functional group that holds it in enhanced objects (PS3.3 C.7.6.16).
_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
}


def _frame(path: Path, index: int, size: tuple[int, int], holders: list[Dataset]) -> _Frame:
    header = Dataset()
    for keyword, group in _GROUPS.items():
        for holder in holders:
            inner = holder[group].value[0] if holder.get(group) else holder
            if inner.get(keyword) is not None:
                header[keyword] = inner[keyword]
                break
    for keyword in ("ModalityLUTSequence", *_VOLUME_TAGS):
        if keyword in holders[-1]:
            header[keyword] = holders[-1][keyword]
    between_rows, between_columns = (float(part) for part in header.PixelSpacing)
    thickness = header.get("SliceThickness") or header.get("SpacingBetweenSlices") or 0.0
    return _Frame(
        path,
        index,
        size,
        np.array(header.ImagePositionPatient, dtype=np.float64),
        np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3),
        (between_columns, between_rows),
        abs(float(thickness)),
        header,
    )


def _in_order(source: Path, frames: list[_Frame]) -> list[_Frame]:
    first = frames[0]
    groups: dict[tuple[object, ...], int] = {}
    for frame in frames:
        key = (
            frame.size,
            tuple(np.round(frame.orientation.ravel(), 3) + 0.0),
            tuple(np.round(frame.spacing, 4)),
        )
        groups[key] = groups.get(key, 0) + 1
    if len(groups) > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{source}: holds {len(groups)} stacks of slices that differ in size, orientation or "
            f"pixel spacing ({', '.join(str(count) for count in groups.values())} slices). Keep "
            "the files of one stack in a folder of their own.",
        )
    normal = np.cross(*first.orientation)
    frames = sorted(frames, key=lambda frame: float(frame.position @ normal))
    heights = np.array([frame.position @ normal for frame in frames])
    distinct = 1 + int((np.diff(heights) > 1e-3).sum())
    if distinct < len(frames):
        raise InputError(ErrorCode.IMAGE_AMBIGUOUS, _several_volumes(source, frames, distinct))
    return frames


def _several_volumes(source: Path, frames: list[_Frame], distinct: int) -> str:
    differing = [
        tag
        for tag in (*_VOLUME_TAGS, "TemporalPositionIndex", "StackID")
        if len({str(frame.header.get(tag)) for frame in frames}) > 1
    ]
    by = f" (they differ in {', '.join(differing)})" if differing else ""
    if len(frames) % distinct == 0:
        return (
            f"{source}: holds {len(frames) // distinct} volumes (4D) of {distinct} slices{by}, and "
            "one (3D) is wanted. Keep the files of one volume in a folder of their own."
        )
    return (
        f"{source}: holds {len(frames)} slices at only {distinct} places{by}. Keep one slice for "
        "each place."
    )


def _place(source: Path, frames: list[_Frame]) -> tuple[NDArray[np.float64], list[str]]:
    """The affine of ordered slices; raises where no affine is true to all of them."""
    first, count = frames[0], len(frames)
    normal = np.cross(*first.orientation)
    normal /= np.linalg.norm(normal)
    notes = []
    if count > 1:
        positions = np.array([frame.position for frame in frames])
        step = (positions[-1] - positions[0]) / (count - 1)
        off = positions - positions[0] - np.outer(np.arange(count), step)
        along = float(np.abs(off @ normal).max() / (step @ normal))
        if along > _UNEVEN:
            raise InputError(
                ErrorCode.IMAGE_GEOMETRY, f"{source}: {_gaps(frames, positions @ normal)}"
            )
        if along > _NOTED:
            notes.append(
                f"slices lie up to {along * 100:.0f} % of their distance off an even grid; taken "
                "as even"
            )
        sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1).max()
        if sideways > _SHIFTED * min(first.spacing):
            raise InputError(
                ErrorCode.IMAGE_GEOMETRY,
                f"{source}: slices are shifted against each other by up to {sideways:.2f} mm, not "
                "evenly. Resample the series onto a regular grid first.",
            )
    else:
        step = normal * (first.thickness or 1.0)
        if not first.thickness:
            notes.append("the thickness of its one slice is not known: 1 mm is taken")
    lps = np.eye(4)
    lps[:3, 0] = first.orientation[0] * first.spacing[0]
    lps[:3, 1] = first.orientation[1] * first.spacing[1]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return LPS_TO_RAS @ lps, notes


def _gaps(frames: list[_Frame], heights: NDArray[np.float64]) -> str:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > _UNEVEN * usual)
    multiples = gaps[odd] / usual
    missing = bool((np.abs(multiples - np.rint(multiples)) < _UNEVEN).all() and multiples.min() > 1)
    places = ", ".join(
        f"{gaps[place]:.2f} mm between {frames[place].called()} and {frames[place + 1].called()}"
        for place in odd[:4]
    )
    more = f" and {odd.size - 4} more" if odd.size > 4 else ""
    if missing:
        count = int(np.rint(multiples).sum()) - odd.size
        return (
            f"{count} of its slices seem to be missing: they lie {usual:.2f} mm apart, but "
            f"{places}{more}. Add them."
        )
    return (
        f"the distance of its slices varies: {usual:.2f} mm mostly, but {places}{more}. Resample "
        "the series onto an even grid first."
    )


def _unit_notes(header: Dataset) -> list[str]:
    if header.get("Modality") == "PT" and header.get("Units") == "BQML":
        return ["values are Bq/ml as stored, not standardised uptake values"]
    return []


def _projection(source: Path, files: Sequence[Path], header: Dataset) -> Volume:
    count = len(files) * int(header.get("NumberOfFrames") or 1)
    if count > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{source}: holds {count} images without a position in the patient, which make no "
            "volume. Keep the one you mean in a file of its own.",
        )
    values = _scaled(_pixels(files[0]), header).T
    notes = []
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        values = values.max() + values.min() - values
        notes.append("grey values are inverted (MONOCHROME1), so that dense tissue is bright")
    spacing = header.get("PixelSpacing")
    if not spacing and header.get("ImagerPixelSpacing"):
        spacing = header.ImagerPixelSpacing
        notes.append("millimetres are those on the detector, larger than in the patient")
    if not spacing:
        spacing = (1.0, 1.0)
        notes.append("the size of its pixels is not known: a pixel (px) counts as 1 mm")
    affine = LPS_TO_RAS @ np.diag([float(spacing[1]), float(spacing[0]), 1.0, 1.0])
    return Volume(
        values[np.newaxis], affine, tuple(notes), modality=str(header.get("Modality", ""))
    )
