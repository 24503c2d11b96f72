"""DICOM SEG objects, read with highdicom; overlapping segments stay separate."""

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

#: Largest deviation of distances from multiples of the slice thickness, as a share of it.
_NEAR = 0.05


def read_dicom_seg(path: Path) -> LabelMap:
    """Reads a DICOM SEG (binary, fractional or label map) as one layer for each segment.

    Fractional segments are thresholded at one half, with a note. Slices without a frame are empty.

    Args:
        path: The file.

    Returns:
        The segments on the grid of the SEG's own frames; no label if it has no segment.

    Raises:
        InputError: It is damaged, states another number of frames than it describes or holds,
            or its frames do not lie on a regular grid.
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
        notes.append(f"the segments are fractional ({kind}); values of at least 0.5 are inside")
    try:
        geometry = seg.get_volume_geometry()
        if geometry is not None:
            # Missing slices between others are filled in, because frames may be far apart.
            voxels = math.prod(geometry.spatial_shape) * len(numbers)
            check_memory(path, voxels, 1, stored=path.stat().st_size, labels=True)
        volume = seg.get_volume(segment_numbers=numbers, combine_segments=False)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{path}: the frames of this DICOM SEG do not lie on a regular grid and cannot form a "
            "volume. Export it again, or as a label map.",
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

    highdicom ignores surplus frames.
    """
    stated = int(dataset.get("NumberOfFrames") or 1)
    content = dataset.PixelData
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if syntax.is_encapsulated:
        held: float = _encapsulated(dataset, content, stated, syntax)
    else:
        bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
        # The last bits are padded to a byte, and another byte makes the number of bytes even.
        least, most = 8 * (len(content) - 2) / bits, 8 * len(content) / bits
        held = stated if least < stated <= most else math.floor(most * 100) / 100
    if held != stated:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: its header states {stated} frames, but it has pixels of {held:g} frames. "
            "Export it again.",
        )


def _encapsulated(dataset: Dataset, content: bytes, stated: int, syntax: UID) -> int:
    """Number of compressed frames; as stated if a frame may have several fragments."""
    if table := dataset.get("ExtendedOffsetTable"):
        return len(table) // 8
    if offsets := parse_basic_offsets(content):
        return len(offsets)
    pieces, _ = parse_fragments(content[8:])
    # In RLE each frame is one fragment (PS3.5, annex A.4.2).
    return pieces if pieces < stated or syntax == RLELossless else stated


def _nothing(seg: Dataset) -> LabelMap:
    """The empty label map of an object that describes no segment."""
    layers = np.zeros((1, int(seg.Columns), int(seg.Rows), 1), dtype=bool)
    return LabelMap(layers, np.eye(4), ())


def _with_distance(dataset: Dataset) -> list[str]:
    """Adds the slice distance if a file lacks it; returns notes.

    Slices without a marked voxel usually have no frame. Without the slice distance highdicom
    uses the distance of the frames, and a marked slice would extend over the empty ones next to
    it.
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
        "the DICOM SEG does not state the distance of its slices; the distance of its frames, "
        f"{gaps.min():.4g} mm, is used"
    ]


def _heights(shared: Dataset, frames: Sequence[Dataset]) -> NDArray[np.float64]:
    """The distinct positions of the frames along their normal; empty if they are not stated."""
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
    """RGB from DICOM's scaled CIELab (PS3.3 C.10.7.1.1)."""
    scaled = segment.get("RecommendedDisplayCIELabValue")
    if scaled is None or len(scaled) != 3:
        return None
    share = np.array([float(part) for part in scaled]) / 65535.0
    rgb = lab2rgb(share * [100.0, 255.0, 255.0] - [0.0, 128.0, 128.0])
    return float(rgb[0]), float(rgb[1]), float(rgb[2])
