"""Assembling DICOM slices to a volume: single-frame series and enhanced multi-frame files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_film import is_projection, is_radiograph, read_film
from SaliencyExplain.images.dicom_frames import VOLUME_TAGS, Frame, frames_of
from SaliencyExplain.images.dicom_header import (
    check_image,
    code,
    has_place,
    number,
    read_header,
    text,
)
from SaliencyExplain.images.dicom_pixels import (
    below_air,
    padding_of,
    read_stored,
    rescaled,
    without_padding,
)
from SaliencyExplain.images.dicom_stack import (
    affine_of,
    at_one_place,
    check_one_volume,
    in_order,
    several_volumes,
)
from SaliencyExplain.images.sizes import check_memory
from SaliencyExplain.images.volume import Volume
from SaliencyExplain.plain_text import some_of

#: Elements that must be equal in all files of a volume, so that its values are comparable.
_SAME = ("PhotometricInterpretation", "Modality", "Units", "SamplesPerPixel")
#: Typical bytes of a stored pixel.
_STORED_BYTES = 2
#: Elements that convert stored values to quantities.
_RESCALE = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")


def read_slices(source: Path, files: Sequence[Path]) -> Volume:
    """Reads the slices of one series, in any order, as a volume.

    Slices are sorted along their normal. With a tilted gantry the returned affine is sheared,
    as the slices lie. Slices with the same position and pixels count once; different slices at
    one position are refused.

    Args:
        source: The path that the user gave, for messages.
        files: Single-frame files, or enhanced multi-frame ones.

    Returns:
        One layer of three axes; of two axes for radiographs and other images without a position
        in the patient. Values are after rescale slope and intercept, or the modality's lookup
        table; in a volume they are never inverted.

    Raises:
        InputError: A file is damaged, a mosaic, or needs a decoder that is not installed; it
            holds colours, several volumes, stacks or orientations, or slices at uneven
            distances; or the values of its slices are not comparable.
    """
    headers = [read_header(path) for path in files]
    for path, header in zip(files, headers, strict=True):
        check_image(path, header)
    first = headers[0]
    film = (len(files) == 1 and is_projection(first)) or all(map(is_radiograph, headers))
    if film or not any(has_place(header) for header in headers):
        return read_film(source, files, first)
    _check_one_patient(source, headers)
    _check_alike(source, files, headers)
    frames = in_order(
        source,
        [
            frame
            for path, header in zip(files, headers, strict=True)
            for frame in frames_of(path, header)
        ],
    )
    _check_rescale(source, frames)
    frames, notes = _one_for_each_place(source, frames)
    check_one_volume(source, frames)
    affine, more = affine_of(source, frames)
    columns, rows = frames[0].size
    stored = sum(path.stat().st_size for path in files)
    check_memory(source, columns * rows * len(frames), _STORED_BYTES, stored=stored)
    values, padding = _values(frames)
    values, padded = without_padding(values, padding, text(first, "Modality"))
    notes += [*more, *([padded] if padded else []), *_notes(headers, frames)]
    notes += below_air(values) if text(first, "Modality") == "CT" else []
    frame_uids = {text(header, "FrameOfReferenceUID") for header in headers}
    return Volume(
        values[np.newaxis],
        affine,
        tuple(notes),
        frame_of_reference=frame_uids.pop() if len(frame_uids) == 1 else "",
        modality=text(first, "Modality"),
    )


def _check_alike(source: Path, files: Sequence[Path], headers: Sequence[Dataset]) -> None:
    for keyword in _SAME:
        found: dict[str, list[str]] = {}
        for path, header in zip(files, headers, strict=True):
            found.setdefault(code(header, keyword), []).append(path.name)
        if len(found) > 1:
            kinds = "; ".join(
                f"{value or 'none'} in {some_of(n, 3, counted=True)}" for value, n in found.items()
            )
            raise InputError(
                ErrorCode.IMAGE_AMBIGUOUS,
                f"{source}: its slices differ in {keyword} ({kinds}), so their values are not "
                "comparable. Put the files of one kind into a separate folder.",
            )


def _check_one_patient(source: Path, headers: Sequence[Dataset]) -> None:
    patients = len({text(header, "PatientID") for header in headers})
    if patients > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{source}: its slices are of {patients} patients (PatientID). Put the files of one "
            "patient into a separate folder.",
        )


def _check_rescale(source: Path, frames: Sequence[Frame]) -> None:
    """Refuses slices of which some have a slope, intercept or unit and others do not."""
    for keyword in _RESCALE:
        without = [frame.called() for frame in frames if not _states(frame.header, keyword)]
        if without and len(without) < len(frames):
            raise InputError(
                ErrorCode.IMAGE_VALUES,
                f"{source}: {len(without)} of its {len(frames)} slices have no {keyword} "
                f"({some_of(without, 3, counted=True)}), so their values are not comparable with "
                "the others. Correct the headers first.",
            )
    units = sorted({code(frame.header, "RescaleType") for frame in frames} - {""})
    if len(units) > 1:
        raise InputError(
            ErrorCode.IMAGE_VALUES,
            f"{source}: the values of its slices have different units (RescaleType "
            f"{', '.join(units)}). Put the files of one unit into a separate folder.",
        )


def _states(header: Dataset, keyword: str) -> bool:
    return header.get(keyword) not in (None, "")


def _one_for_each_place(source: Path, frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """Leaves out copies: frames with the same position, pixels, echo, time and so on."""
    places = at_one_place(frames)
    if len(places) == len(frames):
        return frames, []
    crowded = [frame for place in places if len(place) > 1 for frame in place]
    contents = {
        (frame.path, frame.index): (
            hashlib.sha256(_rescaled(frame, stored, dataset).tobytes()).digest(),
            *(text(frame.header, tag) for tag in VOLUME_TAGS),
        )
        for frame, stored, dataset in _decoded(crowded)
    }
    for place in places:
        if len(place) > 1 and len({contents[frame.path, frame.index] for frame in place}) > 1:
            raise several_volumes(source, places)
    copies = len(frames) - len(places)
    return [place[0] for place in places], [
        f"slices left out as copies of others (same position and pixels): {copies}"
    ]


def _decoded(
    frames: Sequence[Frame],
) -> Iterator[tuple[Frame, NDArray[Any], Dataset]]:
    """Each frame with its stored pixels and its file's dataset, file by file."""
    held: dict[Path, list[Frame]] = {}
    for frame in frames:
        held.setdefault(frame.path, []).append(frame)
    for path, members in held.items():
        stored, dataset = read_stored(path)
        for frame in members:
            yield frame, stored[frame.index] if stored.ndim == 3 else stored, dataset


def _rescaled(frame: Frame, stored: NDArray[Any], dataset: Dataset) -> NDArray[np.float64]:
    return rescaled(frame.path, stored, frame.header, dataset)


def _values(frames: Sequence[Frame]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Quantities (columns, rows, slices), and the mask of padding."""
    shape = (*frames[0].size, len(frames))
    values = np.empty(shape, dtype=np.float32)
    padding = np.zeros(shape, dtype=bool)
    places = {(frame.path, frame.index): place for place, frame in enumerate(frames)}
    for frame, stored, dataset in _decoded(frames):
        place = places[frame.path, frame.index]
        values[..., place] = _rescaled(frame, stored, dataset).T
        if "PixelPaddingValue" in dataset:
            padding[..., place] = padding_of(frame.path, stored, dataset).T
    return values, padding


def _notes(headers: Sequence[Dataset], frames: Sequence[Frame]) -> list[str]:
    first = headers[0]
    notes = []
    if text(first, "Modality") == "PT" and text(first, "Units") == "BQML":
        notes.append("values are Bq/ml as stored, not standardised uptake values")
    if text(first, "PhotometricInterpretation") == "MONOCHROME1":
        notes.append(
            "the header specifies an inverted display (MONOCHROME1); the values are used as stored"
        )
    rescale = frames[0].header
    if text(first, "Modality") == "CT" and not (
        _states(rescale, "RescaleIntercept") or _states(rescale, "ModalityLUTSequence")
    ):
        notes.append(
            "the header has no RescaleIntercept; the values may differ from Hounsfield units by "
            "1024 or more"
        )
    intercepts = {number(frame.header, "RescaleIntercept") or 0.0 for frame in frames}
    if text(first, "Modality") == "CT" and len(intercepts) > 1:
        notes.append(
            f"slices have different values of RescaleIntercept ({min(intercepts):g} to "
            f"{max(intercepts):g}), which are applied"
        )
    for keyword in ("NumberOfSlices", "ImagesInAcquisition"):
        counts = {text(header, keyword) for header in headers}
        if len(counts) == 1 and (number(first, keyword) or 0) > len(frames):
            notes.append(
                f"the header states {counts.pop()} slices ({keyword}), and {len(frames)} are here"
            )
    uids = len({text(header, "FrameOfReferenceUID") for header in headers})
    if uids > 1:
        notes.append(f"slices have {uids} frames of reference, which are treated as one")
    return notes
