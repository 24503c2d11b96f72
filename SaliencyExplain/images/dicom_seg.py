"""DICOM SEG objects, through highdicom; overlapping segments stay apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.uid import UID, RLELossless
from skimage.color import lab2rgb

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS
from SaliencyExplain.images.dicom_file import opened, with_known_types
from SaliencyExplain.images.dicom_frames import described_frames
from SaliencyExplain.images.dicom_header import DAMAGED, damaged
from SaliencyExplain.images.segment_labels import Color, Label, LabelMap
from SaliencyExplain.images.sizes import check_memory

#: Largest deviation of distances from multiples of the slices' thickness, as a share of it.
_NEAR = 0.05


def read_dicom_seg(path: Path) -> LabelMap:
    """Reads a DICOM SEG (binary, fractional or label map) as a layer for each segment.

    Fractional segments are inside from one half on; a note says so. Slices without a frame are
    empty.

    Args:
        path: The file.

    Returns:
        The segments on the grid that the SEG's own frames span; no label where it has none.

    Raises:
        InputError: It is damaged, states another number of frames than it describes or holds,
            or its frames lie on no regular grid.
    """
    try:
        with opened(path) as file:
            dataset = with_known_types(pydicom.dcmread(file))
        if dataset.get("SegmentSequence"):
            described_frames(path, dataset)
            _check_pixels(path, dataset)
        notes = _with_distance(dataset)
        seg = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
        numbers = [int(number) for number in seg.segment_numbers if number != 0]
        described = [seg.get_segment_description(number) for number in numbers]
    except (*DAMAGED, RuntimeError) as error:
        raise damaged(path, error) from error
    if not numbers:
        return _nothing(seg)
    if str(seg.SegmentationType) == "FRACTIONAL":
        kind = str(seg.get("SegmentationFractionalType", "")).lower() or "of an unnamed kind"
        notes.append(f"the segments are fractional ({kind}): from one half on counts as inside")
    try:
        geometry = seg.get_volume_geometry()
        if geometry is not None:
            # Slices that are missing between others are filled in: a few frames may be far apart.
            voxels = math.prod(geometry.spatial_shape) * len(numbers)
            check_memory(path, voxels, 1, stored=path.stat().st_size, labels=True)
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
    frame_of_reference = str(seg.get("FrameOfReferenceUID", "") or "")
    return LabelMap(layers, affine, labels, tuple(notes), frame_of_reference)


def _check_pixels(path: Path, dataset: Dataset) -> None:
    """Refuses pixels of more or fewer frames than the header states.

    highdicom leaves out frames that are too many.
    """
    stated = int(dataset.get("NumberOfFrames") or 1)
    content = dataset.PixelData
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if syntax.is_encapsulated:
        held: float = _encapsulated(dataset, content, stated, syntax)
    else:
        bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
        # A byte may fill up the last bits, and another one makes the number of bytes even.
        least, most = 8 * (len(content) - 2) / bits, 8 * len(content) / bits
        held = stated if least < stated <= most else math.floor(most * 100) / 100
    if held != stated:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: its header states {stated} frames, and its pixels are {held:g} frames.",
        )


def _encapsulated(dataset: Dataset, content: bytes, stated: int, syntax: UID) -> int:
    """Frames of compressed pixels; as stated where a frame may be in several pieces."""
    if table := dataset.get("ExtendedOffsetTable"):
        return len(table) // 8
    if offsets := parse_basic_offsets(content):
        return len(offsets)
    pieces, _ = parse_fragments(content[8:])
    # Each frame is one piece in RLE (PS3.5, annex A.4.2).
    return pieces if pieces < stated or syntax == RLELossless else stated


def _nothing(seg: Dataset) -> LabelMap:
    """A label map of an object that describes no segment."""
    layers = np.zeros((1, int(seg.Columns), int(seg.Rows), 1), dtype=bool)
    return LabelMap(layers, np.eye(4), ())


def _with_distance(dataset: Dataset) -> list[str]:
    """Adds the distance of slices where a file leaves it out; gives what is to be told.

    Frames of slices in which nothing is marked are left out as a rule. Without the distance of
    slices highdicom takes that of the frames, and a marked slice would reach over the empty ones
    beside it.
    """
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = [*(shared.get("PixelMeasuresSequence") or [])]
    groups += [one for frame in frames for one in frame.get("PixelMeasuresSequence") or []]
    if not groups or any("SpacingBetweenSlices" in one for one in groups):
        return []
    heights = _heights(shared, frames)
    if len(heights) < 2:
        return []
    gaps = np.diff(heights)
    thickness = float(groups[0].get("SliceThickness") or 0)
    steps = np.rint(gaps / thickness) if thickness > 0 else np.zeros(len(gaps))
    if steps.min() >= 1 and np.abs(gaps - steps * thickness).max() <= _NEAR * thickness:
        for one in groups:
            one.SpacingBetweenSlices = f"{gaps.sum() / steps.sum():.10g}"
        return []
    return [
        "the DICOM SEG does not say how far its slices are apart: the distance of its frames, "
        f"{gaps.min():.4g} mm, is taken"
    ]


def _heights(shared: Dataset, frames: Sequence[Dataset]) -> NDArray[np.float64]:
    """Where the frames lie along their normal, each height once; none where that is not told."""
    places = []
    for frame in frames:
        plane = frame.get("PlaneOrientationSequence") or shared.get("PlaneOrientationSequence")
        position = frame.get("PlanePositionSequence") or shared.get("PlanePositionSequence")
        if not plane or not position:
            return np.empty(0)
        axes = np.array(plane[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
        place = np.array(position[0].ImagePositionPatient, dtype=float)
        places.append(float(np.cross(*axes) @ place))
    heights = np.sort(np.array(places))
    return heights[np.diff(heights, prepend=-np.inf) > 1e-3]


def _color(segment: Dataset) -> Color | None:
    """RGB of DICOM's scaled CIELab (PS3.3 C.10.7.1.1)."""
    scaled = segment.get("RecommendedDisplayCIELabValue")
    if scaled is None or len(scaled) != 3:
        return None
    share = np.array([float(part) for part in scaled]) / 65535.0
    rgb = lab2rgb(share * [100.0, 255.0, 255.0] - [0.0, 128.0, 128.0])
    return float(rgb[0]), float(rgb[1]), float(rgb[2])
