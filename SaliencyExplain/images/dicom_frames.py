"""Frames of DICOM files: their positions, and what distinguishes frames at one position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from SaliencyExplain.errors import ErrorCode, InputError

#: Attributes that distinguish several volumes in one series, with the standard's keywords.
VOLUME_TAGS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TemporalPositionTimeOffset",
    "EchoTime",
    "EffectiveEchoTime",
    "EchoNumbers",
    "InversionTime",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "ComplexImageComponent",
    "StackID",
    "AcquisitionNumber",
    "SequenceName",
    "ImageType",
    "FrameType",
    "AcquisitionTime",
)

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
    "TemporalPositionTimeOffset": "TemporalPositionSequence",
    "StackID": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
    "FrameType": "MRImageFrameTypeSequence",
}
#: Private elements with the b-value: group, creator and element.
_B_VALUES = (
    (0x0019, "SIEMENS MR HEADER", 0x0C),
    (0x0043, "GEMS_PARM_01", 0x39),
    (0x2001, "Philips Imaging DD 001", 0x03),
)


@dataclass(frozen=True)
class Frame:
    """One slice.

    Attributes:
        path: Its file.
        index: Index of the frame in the file, from 0.
        size: Columns and rows.
        position: Centre of its first pixel, LPS millimetres.
        orientation: (2, 3) unit vectors along its rows and its columns, at right angles.
        spacing: Millimetres between its columns and between its rows.
        thickness: Millimetres, 0 where not stated.
        header: The file's header; for a multi-frame object the elements that apply to this frame.
    """

    path: Path
    index: int
    size: tuple[int, int]
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float
    header: Dataset

    def called(self) -> str:
        """Its name in messages."""
        return f"{self.path.name}" + (f" frame {self.index + 1}" if self.index else "")


def frames_of(path: Path, header: Dataset) -> list[Frame]:
    """The frames of one file.

    Args:
        path: The file.
        header: Its header.

    Raises:
        InputError: The position of a frame is missing or invalid.
    """
    groups = described_frames(path, header)
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    size = (int(header.Columns), int(header.Rows))
    try:
        if groups is None:
            return [_frame(path, 0, size, [header])]
        return [
            _frame(path, index, size, [frame, *shared, header])
            for index, frame in enumerate(groups)
        ]
    except (KeyError, AttributeError, TypeError, IndexError, ValueError) as error:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: its header gives no usable position, orientation or pixel spacing of its "
            "slices. Export it again.",
        ) from error


def described_frames(path: Path, header: Dataset) -> Sequence[Dataset] | None:
    """The functional groups of each frame; None for a single frame without them.

    Args:
        path: The file, for messages.
        header: Its header.

    Raises:
        InputError: Their number differs from that of the frames.
    """
    count = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups is None and count > 1:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: holds {count} frames without positions. Export them as single-frame files.",
        )
    if groups is not None and len(groups) != count:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: holds {count} frames, but its header describes {len(groups)}. Export it "
            "again.",
        )
    return groups


def _frame(path: Path, index: int, size: tuple[int, int], holders: list[Dataset]) -> Frame:
    header = _gathered(holders)
    between_rows, between_columns = (float(part) for part in header.PixelSpacing)
    position = np.array(header.ImagePositionPatient, dtype=np.float64)
    orientation = np.array(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    numbers = [*position, *orientation.ravel(), between_rows, between_columns]
    if len(position) != 3 or not np.isfinite(numbers).all():
        raise ValueError("a position is not three finite numbers")
    if between_rows <= 0 or between_columns <= 0:
        raise ValueError("pixels have no size")
    thickness = header.get("SliceThickness") or header.get("SpacingBetweenSlices") or 0.0
    return Frame(
        path,
        index,
        size,
        position,
        _at_right_angles(orientation),
        (between_columns, between_rows),
        abs(float(thickness)),
        header,
    )


def _gathered(holders: list[Dataset]) -> Dataset:
    """Elements of one frame; its own precede the shared ones, which precede the file's."""
    outer = holders[-1]
    header = outer
    if len(holders) > 1:
        header = Dataset()
        for keyword, group in _GROUPS.items():
            for holder in holders:
                inner = holder[group].value[0] if holder.get(group) else holder
                if inner.get(keyword) is not None:
                    header[keyword] = inner[keyword]
                    break
        for keyword in ("ModalityLUTSequence", *VOLUME_TAGS):
            if keyword in outer and keyword not in header:
                header[keyword] = outer[keyword]
    for number, creator, element in _B_VALUES if "DiffusionBValue" not in header else ():
        try:
            value = _first_number(outer.private_block(number, creator)[element].value)
        except KeyError:
            continue
        if value is not None:
            header.DiffusionBValue = value
            break
    return header


def _first_number(value: object) -> float | None:
    """The b-value of a private element, which may be a list and contain large offsets (GE)."""
    try:
        if isinstance(value, bytes):
            # In files with implicit types the type of a private element is unknown.
            value = value.decode("ascii").split("\\")[0].strip(" \0")
        first = value if isinstance(value, (int, float, str)) else value[0]  # type: ignore[index]
        return float(first) % 1e6
    except (ValueError, TypeError, IndexError, KeyError):
        return None


def _at_right_angles(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthogonal unit vectors; headers contain rounded ones.

    Raises:
        ValueError: They are not directions of rows and columns.
    """
    lengths = np.linalg.norm(orientation, axis=1)
    if (np.abs(lengths - 1) > 0.05).any():
        raise ValueError("directions are not unit vectors")
    unit = orientation / lengths[:, np.newaxis]
    overlap = float(unit[0] @ unit[1])
    if abs(overlap) > 0.05:
        raise ValueError("rows and columns are not at right angles")
    # The nearest such pair; both vectors are rotated by the same angle.
    turned = unit - 0.5 * overlap * unit[::-1]
    return turned / np.linalg.norm(turned, axis=1)[:, np.newaxis]
