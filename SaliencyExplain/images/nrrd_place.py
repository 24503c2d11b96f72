"""The geometry of an NRRD file: its space, directions, origin and units."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS
from SaliencyExplain.images.nrrd_header import NrrdHeader
from SaliencyExplain.images.units import millimetres, unit_note
from SaliencyExplain.images.volume import checked_affine

#: Spaces of the patient, and the signs that convert their axes to RAS.
_SPACES = {
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
}
#: The same spaces with an additional axis of time.
_SPACES |= {f"{name}-time": signs for name, signs in _SPACES.items() if "-" in name}
_SPACES |= {f"{name}t": signs for name, signs in _SPACES.items() if len(name) == 3}
_NO_SPACE = "the header names no patient space; left-posterior-superior is assumed"


def place(
    header: NrrdHeader, axes: Sequence[int], sizes: Sequence[int]
) -> tuple[NDArray[np.float64], list[str]]:
    """The affine, and notes on it.

    Args:
        header: The header.
        axes: Indices of the file's axes that are the image's two or three.
        sizes: Sizes of all axes of the file.

    Returns:
        4x4, voxel indices to RAS millimetres, and notes.

    Raises:
        InputError: The space, unit or directions of the header have no relation to the patient,
            or are invalid.
    """
    space = header.fields.get("space", "").lower()
    if space and space not in _SPACES:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{header.path}: its header names the space '{header.fields['space'][:40]}', which "
            "does not define the patient's left and right. If it is left-posterior-superior, "
            "right-anterior-superior or left-anterior-superior, write that into the header.",
        )
    to_ras = np.diag([*_SPACES[space], 1.0]) if space else LPS_TO_RAS
    notes = [] if space or len(axes) < 3 else [_NO_SPACE]
    in_space = bool(space) or "spacedimension" in header.fields
    if in_space and "spacings" in header.fields:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{header.path}: its header has both a space and spacings, which NRRD does not allow. "
            "Write space directions instead of spacings.",
        )
    if in_space and "spacedirections" in header.fields:
        local, more = _directed(header, axes)
    else:
        local, more = _spaced(header, axes, sizes)
        if in_space:
            notes.append("the header has no directions of its axes; 1 mm along each is used")
    affine = to_ras @ local
    checked_affine(header.path, affine)
    return affine, [*notes, *more]


def _directed(header: NrrdHeader, axes: Sequence[int]) -> tuple[NDArray[np.float64], list[str]]:
    vectors = re.findall(r"none|\([^()]*\)", header.fields["spacedirections"].lower())
    if len(vectors) <= max(axes):
        raise header.wrong("spacedirections", "a vector for each axis is")
    columns = [_vector(header, "spacedirections", vectors[axis]) for axis in axes]
    origin = np.zeros(3)
    if "spaceorigin" in header.fields:
        origin = _vector(header, "spaceorigin", header.fields["spaceorigin"])
    scale, notes = _units(header, "spaceunits", range(3))
    affine = np.eye(4)
    for index, column in enumerate(columns):
        affine[:3, index] = column * scale
    affine[:3, 3] = origin * scale
    if len(axes) == 2:
        # A 2D image is placed in the plane of its first two axes.
        if np.abs(affine[2, :2]).max() > 1e-6 * np.abs(affine[:2, :2]).max():
            raise InputError(
                ErrorCode.IMAGE_GEOMETRY,
                f"{header.path}: is a 2D slice that is not in the plane of the patient's first two "
                "axes. Save it with three axes.",
            )
        affine[2, :] = (0.0, 0.0, 1.0, 0.0)
    return affine, notes


def _vector(header: NrrdHeader, field: str, text: str) -> NDArray[np.float64]:
    try:
        found = [float(part) for part in text.strip().strip("()").split(",")]
    except ValueError:
        found = []
    # A fourth component is time; a 2D image may have no third.
    if not 2 <= len(found) <= 4 or not all(map(math.isfinite, found[:3])):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{header.path}: {field} is '{header.fields[field][:120]}' in its header, and a vector "
            "of two or three numbers for each axis in space is expected. Correct the header.",
        )
    return np.array([*found[:3], 0.0][:3])


def _spaced(
    header: NrrdHeader, axes: Sequence[int], sizes: Sequence[int]
) -> tuple[NDArray[np.float64], list[str]]:
    affine = np.eye(4)
    count = len(sizes)
    spacings = _numbers(header, "spacings", count, 1.0)
    first = _numbers(header, "axismins", count, math.nan)
    last = _numbers(header, "axismaxs", count, math.nan)
    centres = (header.fields.get("centerings") or header.fields.get("centers") or "").lower()
    nodes = [word == "node" for word in centres.split()] or [False] * count
    scale, notes = _units(header, "units", axes)
    for index, axis in enumerate(axes):
        spacing = 1.0 if math.isnan(spacings[axis]) else spacings[axis]
        if not 0 < spacing < math.inf:
            raise header.wrong("spacings", "numbers above 0 are")
        affine[index, index] = spacing * scale[index]
        measured = "spacings" in header.fields or not math.isnan(last[axis])
        if not math.isnan(first[axis]) and measured:
            node = nodes[axis] if axis < len(nodes) else False
            affine[index, 3] = (first[axis] + (0.0 if node else spacing / 2)) * scale[index]
    return affine, notes


def _numbers(header: NrrdHeader, name: str, count: int, default: float) -> list[float]:
    text = header.fields.get(name)
    if text is None:
        return [default] * count
    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        found = []
    if len(found) != count:
        raise header.wrong(name, f"{count} numbers")
    return found


def _units(
    header: NrrdHeader, field: str, which: Sequence[int]
) -> tuple[NDArray[np.float64], list[str]]:
    """Millimetres per unit for each of three axes, and a note if a unit is not mm."""
    text = header.fields.get(field, "")
    units = re.findall(r'"([^"]*)"', text) or text.split()
    chosen = [units[index] if index < len(units) else "" for index in which]
    scale = np.array([millimetres(header.path, unit) for unit in chosen] + [1.0] * 3)[:3]
    others = [unit for unit, one in zip(chosen, scale, strict=False) if one != 1]
    return scale, [unit_note(others[0])] if others else []
