"""Label maps as files hold them, and the palette for segments without a colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.decoded import Raster
from SaliencyExplain.images.raster import decode
from SaliencyExplain.images.volume import Volume

Color = tuple[float, float, float]

#: Colours that the colour-blind tell apart (Okabe and Ito 2008, "Color Universal Design").
PALETTE: tuple[Color, ...] = tuple(
    (red / 255, green / 255, blue / 255)
    for red, green, blue in (
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
    )
)

#: More distinct values than this are an image, not a label map; the largest atlases in
#: use (FreeSurfer's aparc.a2009s+aseg) have under 200.
_MOST_LABELS = 512
#: A grey picture with more distinct values is one mask with soft rims.
_MOST_PICTURE_LABELS = 32


@dataclass(frozen=True)
class Label:
    """One segment: the voxels of a layer that hold its value.

    Attributes:
        name: As the file has it, else made from the value.
        color: RGB in [0, 1], None where the file names none.
        layer: Which layer of the label map it lies in.
        value: Its value there.
    """

    name: str
    color: Color | None
    layer: int
    value: int


@dataclass(frozen=True)
class LabelMap:
    """Segments on the grid of their file; layers hold what overlaps.

    Attributes:
        layers: (L, *S), whole numbers, 0 outside.
        affine: 4x4 to RAS millimetres; None for pictures, which lie where the image does.
        labels: The segments.
        notes: What should be said aloud.
        frame_of_reference: DICOM Frame of Reference UID, empty where unknown.
    """

    layers: NDArray[np.integer[Any]] | NDArray[np.bool_]
    affine: NDArray[np.float64] | None
    labels: tuple[Label, ...]
    notes: tuple[str, ...] = ()
    frame_of_reference: str = ""


def from_volume(path: Path, volume: Volume) -> LabelMap:
    """Makes a label map of a volume, with Slicer's segment names where the header has them.

    Args:
        path: Its file, for messages.
        volume: Whole numbers, in one or several layers.

    Raises:
        InputError: It holds fractions, numbers that are not finite, or too many values.
    """
    layers = _whole_numbers(path, volume.values)
    labels = _slicer_segments(volume.header, len(layers))
    if not labels:
        labels = tuple(
            Label(
                f"label {value}" if len(layers) == 1 else f"layer {layer + 1} label {value}",
                None,
                layer,
                value,
            )
            for layer, values in enumerate(layers)
            for value in _values(path, values)
        )
    return LabelMap(layers, volume.affine, labels, volume.notes, volume.frame_of_reference)


def _whole_numbers(path: Path, values: NDArray[Any]) -> NDArray[np.integer[Any]]:
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise InputError(
            ErrorCode.SEGMENTATION_LABELS,
            f"{path}: {bad} voxels of the segmentation are not finite.",
        )
    whole = np.rint(values)
    # Scaled integers come back as 0.99999 or 2.00001.
    off = np.abs(values - whole) > 1e-3
    if off.any():
        raise InputError(
            ErrorCode.SEGMENTATION_LABELS,
            f"{path}: is no label map; {int(off.sum())} voxels hold fractions such as "
            f"{float(values[off][0]):.3g}. Threshold it first.",
        )
    return whole.astype(np.int32)


def _values(path: Path, layer: NDArray[np.integer[Any]]) -> list[int]:
    values = [int(value) for value in np.unique(layer) if value != 0]
    if len(values) > _MOST_LABELS:
        raise InputError(
            ErrorCode.SEGMENTATION_LABELS,
            f"{path}: is no label map; it holds {len(values)} different values, as an image does.",
        )
    return values


def _slicer_segments(header: dict[str, str], layers: int) -> tuple[Label, ...]:
    """The segments that 3D Slicer's text fields name (vtkMRMLSegmentationStorageNode)."""
    labels = []
    index = 0
    while f"Segment{index}_ID" in header or f"Segment{index}_Name" in header:
        prefix = f"Segment{index}_"
        color = tuple(float(part) for part in header.get(prefix + "Color", "").split())
        labels.append(
            Label(
                header.get(prefix + "Name") or header[prefix + "ID"],
                (color[0], color[1], color[2]) if len(color) == 3 else None,
                # Slicer before 4.11 wrote neither: a layer for each segment, value 1.
                min(int(header.get(prefix + "Layer", index)), layers - 1),
                int(header.get(prefix + "LabelValue", 1)),
            )
        )
        index += 1
    return tuple(labels)


def from_picture(path: Path) -> LabelMap:
    """Makes a label map of a picture.

    A transparency that differs over the picture is the mask; else each palette index or
    each of a few grey values is a segment; else all that is not black is one mask (from
    half of the brightest value on where JPEG has blurred the rims).

    Args:
        path: PNG, JPEG, BMP or TIFF.

    Raises:
        InputError: It cannot be decoded.
    """
    picture = decode(path, keep_palette=True)
    if picture.alpha is not None and picture.alpha.min() != picture.alpha.max():
        return _one_mask(picture, np.asarray(picture.alpha) > 0)
    strongest = picture.values.max(axis=2)
    if picture.lossy:
        note = "JPEG blurs masks: from half of the brightest value on counts as inside"
        return _one_mask(picture, strongest > float(strongest.max()) / 2, note)
    if picture.values.shape[2] > 1 or strongest.dtype.kind not in "iu":
        return _one_mask(picture, strongest != 0)
    values = [int(value) for value in np.unique(strongest) if value != 0]
    if picture.palette is None and (len(values) < 2 or len(values) > _MOST_PICTURE_LABELS):
        note = "every pixel that is not black counts as inside" if len(values) > 1 else ""
        return _one_mask(picture, strongest != 0, note)
    labels = tuple(
        Label(f"label {value}", _palette_color(picture, value), 0, value) for value in values
    )
    return LabelMap(strongest[np.newaxis], None, labels, picture.notes)


def _one_mask(picture: Raster, mask: NDArray[np.bool_], note: str = "") -> LabelMap:
    notes = (*picture.notes, note) if note else picture.notes
    return LabelMap(mask[np.newaxis], None, (Label("mask", None, 0, 1),), notes)


def _palette_color(picture: Raster, value: int) -> Color | None:
    if picture.palette is None or value >= len(picture.palette):
        return None
    red, green, blue = (float(part) for part in picture.palette[value])
    return red, green, blue
