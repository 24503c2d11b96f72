"""Segmentations of any format, on the grid of the image that they belong to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.geometry import coinciding
from SaliencyExplain.images.boundary import reader
from SaliencyExplain.images.label_reading import read_label_map
from SaliencyExplain.images.resampling import resample
from SaliencyExplain.images.segment_labels import PALETTE, LabelMap
from SaliencyExplain.mask_position import (
    Grid,
    air_note,
    outside_note,
    position_notes,
    share_inside,
)

#: Note for a segmentation without a marked voxel.
EMPTY_NOTE = "the segmentation has no voxel; nothing is marked in it"

#: Number of marked voxels that gives the share inside the image to 0.1 %; a whole body has 10^8.
_SAMPLE = 1_000_000


@dataclass(frozen=True)
class Segment:
    """One structure.

    Attributes:
        name: The name in the file, else "label 1" and so on; unique within a segmentation.
        color: RGB in [0, 1].
        mask: (*S), True inside, on the image's grid; masks of segments may overlap.
    """

    name: str
    color: tuple[float, float, float]
    mask: NDArray[np.bool_]

    @property
    def sha256(self) -> str:
        """SHA-256 of the shape and the voxels, independent of the segment's name."""
        digest = hashlib.sha256(repr(self.mask.shape).encode())
        digest.update(np.packbits(self.mask != 0).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Segmentation:
    """Segments on the grid of one image.

    Attributes:
        segments: At least one, each with at least one voxel.
        affine: 4x4 of the image, voxel indices to RAS millimetres.
        notes: Notes for the user on what was resampled, thresholded or left out.
    """

    segments: tuple[Segment, ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]

    def find(self, name: str) -> Segment:
        """The segment of that name; case is ignored.

        Raises:
            InputError: It does not exist; the message has the most similar name.
        """
        for segment in self.segments:
            if segment.name.lower() == name.lower():
                return segment
        raise unknown_name("segment", name, [segment.name for segment in self.segments])

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over the segments' names and voxels, in order."""
        digest = hashlib.sha256()
        for segment in self.segments:
            digest.update(segment.name.encode() + b"\0")
            digest.update(np.packbits(segment.mask != 0).tobytes())
        return digest.hexdigest()


def read_segmentation(path: Path, reference: MetaTensor) -> Segmentation:
    """Reads a segmentation onto the grid of an image.

    Args:
        path: A label map (any volume format), `.seg.nrrd`, DICOM SEG, RTSTRUCT, a
            picture of the same size, or a DICOM folder with one of these.
        reference: The image, (C, *S) with its affine.

    Returns:
        The segments. Those on another grid are resampled (nearest voxel), with a note unless the
        voxels of the two grids coincide. Notes also report a mask of the image's shape at
        another position, and the share outside the image.

    Raises:
        InputError: It is missing or unreadable, not a label map, has no voxel, does not overlap
            the image, or its header cannot belong to this image.

    Example:
        >>> found = se.read_segmentation(mask_file, se.read_image(image_file))
        >>> [segment.name for segment in found.segments]
        ['tumour']
    """
    segmentation, notes = read_ground_truth(path, reference)
    if segmentation is None:
        raise InputError(ErrorCode.SEGMENTATION_EMPTY, f"{path}: {'; '.join(notes)}.")
    return segmentation


@reader
def read_ground_truth(
    path: Path, reference: MetaTensor
) -> tuple[Segmentation | None, tuple[str, ...]]:
    """As :func:`read_segmentation`, but allows an empty segmentation, as of a healthy case.

    Args:
        path: See :func:`read_segmentation`.
        reference: See :func:`read_segmentation`.

    Returns:
        The segmentation, None if no voxel of the file is marked, and the notes.

    Raises:
        InputError: See :func:`read_segmentation`; a file without a marked voxel is allowed.
    """
    path = Path(path)
    shape, affine = tuple(reference.shape[1:]), reference.affine.numpy().astype(np.float64)
    found = read_label_map(path, shape, affine)
    notes = list(found.notes)
    if not any(_held(found, index).any() for index in range(len(found.labels))):
        return None, (*notes, EMPTY_NOTE)
    frame = str(reference.meta.get("frame_of_reference", ""))
    if frame and found.frame_of_reference and frame != found.frame_of_reference:
        notes.append(
            "the segmentation has another DICOM frame of reference than the image and may be at "
            "another position"
        )
    segments, more = _onto(path, found, reference.numpy()[0], Grid(shape, affine))
    segmentation = Segmentation(segments, affine, (*notes, *more))
    return segmentation, segmentation.notes


def _onto(
    path: Path, found: LabelMap, values: NDArray[np.float32], image: Grid
) -> tuple[tuple[Segment, ...], list[str]]:
    found = _matched_axes(path, found, image.shape, image.affine)
    assert found.affine is not None
    layers, notes = found.layers, []
    grid = Grid(tuple(layers.shape[1:]), found.affine)
    if not grid.same(image):
        notes += position_notes(str(path), grid, image)
        marked = _marked(layers)
        inside = share_inside(marked, grid, image)
        outside = outside_note(str(path), grid, image, marked, inside)
        whole_voxels = coinciding(grid.affine, image.affine, image.shape)
        if not whole_voxels:
            notes.append("the segmentation is resampled (nearest voxel) onto the image's grid")
        if outside:
            notes.append(outside)
        elif on_air := air_note(values, marked, grid, image):
            notes.append(on_air)
        layers = np.stack(
            [
                resample(layer, grid.affine, image.affine, image.shape, nearest=True)
                for layer in layers
            ]
        )
        found = replace(found, layers=layers, affine=image.affine)
    segments: list[Segment] = []
    lost = []
    for index, label in enumerate(found.labels):
        mask = _held(found, index)
        if mask.any():
            names = {segment.name for segment in segments}
            color = label.color or PALETTE[index % len(PALETTE)]
            segments.append(Segment(_unused(label.name, names), color, mask))
        else:
            lost.append(label.name)
    if not segments:
        raise InputError(
            ErrorCode.SEGMENTATION_EMPTY,
            f"{path}: the segmentation contains no voxel centre of the image, because it is "
            "smaller than the voxels. Give a segmentation on the image's grid.",
        )
    if lost:
        notes.append(f"left out, as they have no voxel in the image: {', '.join(lost)}")
    return tuple(segments), notes


def _held(found: LabelMap, index: int) -> NDArray[np.bool_]:
    label = found.labels[index]
    layer = found.layers[label.layer]
    return layer if layer.dtype == bool else layer == label.value


def _unused(name: str, names: set[str]) -> str:
    count = 2
    chosen = name
    while chosen in names:
        chosen = f"{name} ({count})"
        count += 1
    return chosen


def _matched_axes(
    path: Path, found: LabelMap, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> LabelMap:
    """Gives a picture the image's affine, and adds or removes an axis of one voxel if needed."""
    layers = found.layers
    if found.affine is None:
        if tuple(layers.shape[1:]) != shape[:2] or shape[2:] not in ((), (1,)):
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"{path}: the mask has {layers.shape[1]} x {layers.shape[2]} pixels, and the image "
                f"{' x '.join(map(str, shape))}. Give a mask of the image's size, because pictures "
                "have no position.",
            )
        return replace(found, layers=layers.reshape((-1, *shape)), affine=affine)
    axes = layers.ndim - 1
    if axes == len(shape):
        return found
    if axes == 3 and layers.shape[3] == 1:
        return replace(found, layers=layers[..., 0])
    if axes == 2 and shape[2:] == (1,):
        return replace(found, layers=layers[..., np.newaxis])
    raise InputError(
        ErrorCode.IMAGE_AXES,
        f"{path}: the segmentation has {axes} axes, and the image has {len(shape)}. Give a "
        "segmentation with the image's number of axes.",
    )


def _marked(layers: NDArray[np.generic]) -> NDArray[np.int64]:
    """Indices (N, axes) of the marked voxels, or of a sample if there are very many."""
    held = np.flatnonzero((layers != 0).any(axis=0))
    held = held[:: max(1, held.size // _SAMPLE)]
    return np.stack(np.unravel_index(held, layers.shape[1:]), axis=1)
