"""The order of slices along their normal, and the affine that holds for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS
from SaliencyExplain.images.dicom_frames import VOLUME_TAGS, Frame
from SaliencyExplain.images.dicom_header import text

#: Positions in headers are rounded, some to a tenth of a millimetre. Largest deviation of a slice
#: from the even grid, as a share of the slice distance.
_UNEVEN = 0.1
#: A note is given for deviations of at least this share.
_NOTED = 0.01
#: Largest shift of slices against each other within their plane, as a share of a pixel.
_SHIFTED = 0.25
#: Attributes that are equal in all slices of one volume.
_ONE_OF_VOLUME = (
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "ComplexImageComponent",
)
#: Slices closer than this along their normal have the same position, in millimetres.
_ONE_PLACE_MM = 1e-3


def in_order(source: Path, frames: Sequence[Frame]) -> list[Frame]:
    """Sorts frames along their common normal.

    Args:
        source: The path that the user gave, for messages.
        frames: Frames in any order.

    Raises:
        InputError: They differ in size, orientation or pixel spacing by more than rounding.
    """
    groups: list[list[Frame]] = []
    for frame in frames:
        same = next((group for group in groups if _same_plane_grid(group[0], frame)), None)
        if same is None:
            groups.append([frame])
        else:
            same.append(frame)
    if len(groups) > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{source}: holds {len(groups)} stacks of slices that differ in size, orientation or "
            f"pixel spacing ({', '.join(str(len(group)) for group in groups)} slices). Put "
            "the files of one stack into a separate folder.",
        )
    stacks = {str(frame.header.get("StackID") or "") for frame in frames}
    if len(stacks) > 1:
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS,
            f"{source}: holds {len(stacks)} stacks of slices (StackID "
            f"{', '.join(sorted(stacks))}) instead of one. Put the frames of one stack into a "
            "separate file.",
        )
    normal = np.cross(*frames[0].orientation)
    return sorted(frames, key=lambda frame: float(frame.position @ normal))


def _same_plane_grid(one: Frame, other: Frame) -> bool:
    """Whether the pixel grids of two frames are equal except for position and rounding."""
    if one.size != other.size:
        return False
    far = np.array(one.size, dtype=np.float64)[:, np.newaxis]
    mine = one.orientation * np.array(one.spacing)[:, np.newaxis] * far
    theirs = other.orientation * np.array(other.spacing)[:, np.newaxis] * far
    apart = float(np.linalg.norm(mine - theirs, axis=1).max())
    return apart <= _SHIFTED * min(*one.spacing, *other.spacing)


def at_one_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Groups ordered frames by their position along the normal.

    Args:
        frames: Frames in order.
    """
    normal = np.cross(*frames[0].orientation)
    # The slice distance of microscopes and micro-CT is below the rounding of clinical positions.
    near = min(_ONE_PLACE_MM, 0.1 * min(frames[0].spacing))
    places: list[list[Frame]] = []
    for frame in frames:
        height = float(frame.position @ normal)
        if not places or height - float(places[-1][-1].position @ normal) > near:
            places.append([])
        places[-1].append(frame)
    return places


def several_volumes(source: Path, places: Sequence[Sequence[Frame]]) -> InputError:
    """The error for different slices at one position: echoes, times, b-values.

    Args:
        source: The path that the user gave.
        places: The frames at each position.
    """
    frames = [frame for place in places for frame in place]
    crowded = [place for place in places if len(place) > 1]
    differing = [
        tag
        for tag in VOLUME_TAGS
        if all(len({str(frame.header.get(tag)) for frame in place}) > 1 for place in crowded)
    ]
    by = f" (they differ in {', '.join(differing)})" if differing else ""
    if len(places) == 1:
        message = (
            f"holds {len(frames)} different slices at the same position{by}. Put one of them into "
            "a separate file."
        )
    elif len({len(place) for place in places}) == 1:
        message = (
            f"holds {len(places[0])} volumes (4D) of {len(places)} slices{by} instead of one (3D). "
            "Put the files of one volume into a separate folder."
        )
    else:
        message = (
            f"holds {len(frames)} slices at only {len(places)} positions{by}. Keep one slice for "
            "each position."
        )
    return InputError(ErrorCode.IMAGE_AMBIGUOUS, f"{source}: {message}")


def check_one_volume(source: Path, frames: Sequence[Frame]) -> None:
    """Refuses slices at different positions that have different echoes, times or b-values.

    This happens if half of the files of two volumes were copied.

    Args:
        source: The path that the user gave.
        frames: One frame at each position.

    Raises:
        InputError: They are of several volumes.
    """
    for tag in _ONE_OF_VOLUME:
        stated = Counter(text(frame.header, tag) or "none" for frame in frames)
        if len(stated) > 1 and not _alike(list(stated)):
            kinds = ", ".join(f"{value} in {count}" for value, count in sorted(stated.items())[:4])
            raise InputError(
                ErrorCode.IMAGE_AMBIGUOUS,
                f"{source}: its slices belong to several volumes: they differ in {tag} ({kinds}). "
                "Put the files of one volume into a separate folder.",
            )


def _alike(values: Sequence[str]) -> bool:
    """Whether the values are the same number except for rounding."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    return max(numbers) - min(numbers) <= 0.01 * max(abs(each) for each in numbers)


def affine_of(source: Path, frames: Sequence[Frame]) -> tuple[NDArray[np.float64], list[str]]:
    """The affine of ordered slices, one at each position.

    Args:
        source: The path that the user gave, for messages.
        frames: Frames in order.

    Returns:
        4x4 to RAS millimetres, and notes on deviations that were ignored.

    Raises:
        InputError: No affine holds for all of them: slices are missing, unevenly spaced or
            shifted.
    """
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
                f"slices are up to {along * 100:.0f} % of their distance off an even grid, which "
                "is ignored"
            )
        sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1).max()
        if sideways > _SHIFTED * min(first.spacing):
            raise InputError(
                ErrorCode.IMAGE_GEOMETRY,
                f"{source}: slices are shifted unevenly against each other by up to "
                f"{sideways:.2f} mm. Resample the series onto a regular grid first.",
            )
        notes += _stated_distance(frames, float(np.linalg.norm(step)))
    else:
        step = normal * (first.thickness or 1.0)
        if not first.thickness:
            notes.append("the thickness of its one slice is unknown; 1 mm is used")
    lps = np.eye(4)
    lps[:3, 0] = first.orientation[0] * first.spacing[0]
    lps[:3, 1] = first.orientation[1] * first.spacing[1]
    lps[:3, 2] = step
    lps[:3, 3] = first.position
    return LPS_TO_RAS @ lps, notes


def _stated_distance(frames: Sequence[Frame], distance: float) -> list[str]:
    """A note if the slice distance is a multiple of the one in the header."""
    stated = {abs(float(frame.header.get("SpacingBetweenSlices") or 0.0)) for frame in frames}
    if len(stated) != 1 or 0.0 in stated:
        return []
    times = distance / stated.pop()
    if times < 1.5 or abs(times - round(times)) > _UNEVEN:
        return []
    return [
        f"slices are {distance:.2f} mm apart, {round(times)} times the distance in their header "
        "(SpacingBetweenSlices); slices may be missing"
    ]


def _gaps(frames: Sequence[Frame], heights: NDArray[np.float64]) -> str:
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
            f"{count} of its slices seem to be missing: they are {usual:.2f} mm apart, but "
            f"{places}{more}. Add the missing slices."
        )
    return (
        f"the distance of its slices varies: it is mostly {usual:.2f} mm, but {places}{more}. "
        "Resample the series onto an even grid first."
    )
