"""The planes through a place, turned as a radiologist reads them.

Volumes are brought to the nearest axes of the patient (right, anterior, superior) by swapping
and flipping axes alone, never by resampling. Axial and coronal planes have the patient's right
on the viewer's left, sagittal planes have anterior on the viewer's left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nibabel.orientations as orientations
import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import directions_of, is_invertible, spacing_of

_NAMES = ("sagittal", "coronal", "axial")
_LETTERS = ("RL", "AP", "SI")

_THIN = 0.06
"""Planes with sides further apart than this are lines of a few pixels: a slab of some slices."""


@dataclass(frozen=True)
class Plane:
    """One plane to be drawn.

    Attributes:
        name: ``axial``, ``coronal`` or ``sagittal``; empty where the body is unknown.
        letters: What lies at the left, right, top and bottom edge; empty where unknown.
        size_mm: Width and height, mm.
        cross_mm: Place of the peak from the left and from the top edge, mm.
        position: Where the plane lies, such as ``S 12.5 mm``; empty where unknown.
        axis: The axis of the grid that stands on the plane; 2 in a picture of two axes.
        cut: Takes an array on the image's grid to this plane's pixels, rows from the top.
    """

    name: str
    letters: tuple[str, str, str, str] | None
    size_mm: tuple[float, float]
    cross_mm: tuple[float, float]
    position: str
    axis: int
    cut: Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class View:
    """The planes through one voxel.

    Attributes:
        planes: Axial, coronal and sagittal, but for those that are one voxel or a few pixels thin.
        left_out: Names of the latter.
        place: The voxel's place in words.
        known: Whether the affine holds the patient's orientation.
        oblique_degrees: Largest angle between an axis of the grid and the patient's nearest one.
    """

    planes: tuple[Plane, ...]
    left_out: tuple[str, ...]
    place: str
    known: bool
    oblique_degrees: float


def has_body_axes(affine: NDArray[np.float64], axes: int) -> bool:
    """Whether an affine holds the patient's orientation.

    Photographs, X-rays and other plain pictures carry none: readers give them the axes of LPS
    with the origin at 0 and perhaps a spacing. Letters on such a picture would be invented.
    """
    if axes == 3:
        return True
    plain = np.allclose(directions_of(affine), np.diag([-1.0, -1.0, 1.0]), atol=1e-6)
    return not (plain and np.allclose(affine[:3, 3], 0))


def as_seen(plane: NDArray[Any], *, in_patient: bool) -> NDArray[Any]:
    """The pixels of a plane, rows from the top: what decides how every picture is turned.

    Args:
        plane: Its axes rise to the patient's right, front or head, the first of them across; or
            it is a plain picture, columns first, as it is stored.
        in_patient: Which of the two. The viewer's left and top are then the patient's right,
            front or head (radiological convention); a plain picture is drawn as it is stored.
    """
    return np.ascontiguousarray((plane[::-1, ::-1] if in_patient else plane).T)


def edge_letters(across: int, down: int) -> tuple[str, str, str, str]:
    """Letters at the left, right, top and bottom edge of what :func:`as_seen` gives.

    Args:
        across: World axis from edge to edge: 0 right, 1 front, 2 head.
        down: The other one.
    """
    return (*_LETTERS[across], *_LETTERS[down])


def view_through(
    index: tuple[int, ...], box: tuple[slice, ...], affine: NDArray[np.float64]
) -> View:
    """The planes through a voxel.

    Args:
        index: The voxel, (i, j) or (i, j, k).
        box: The part of the grid that is drawn, 2 or 3 axes; the voxel lies in it.
        affine: 4x4 of the grid, RAS mm.

    Raises:
        InputError: The affine cannot be inverted, or the volume is a mere line.
    """
    affine = np.asarray(affine, dtype=np.float64)
    if not is_invertible(affine):
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            "Image: its affine cannot be inverted. Correct its geometry.",
        )
    known = has_body_axes(affine, len(box))
    corner = [side.start for side in box]
    padding = (0,) * (3 - len(box))
    shape = tuple(side.stop - side.start for side in box) + (1,) * len(padding)
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, : len(box)] @ corner
    turn = orientations.io_orientation(affine)
    turned = shifted @ orientations.inv_ornt_aff(turn, shape)
    order = turn[:, 0].astype(int)
    place = [0, 0, 0]
    sizes = [0, 0, 0]
    for axis, at in enumerate((*np.subtract(index, corner), *padding)):
        size = shape[axis]
        place[order[axis]] = int(at if turn[axis, 1] > 0 else size - 1 - at)
        sizes[order[axis]] = size
    spacing = spacing_of(turned, 3)
    world = (turned @ np.array([*place, 1.0]))[:3]

    planes = []
    for normal in (2, 1, 0):
        across, down = (axis for axis in range(3) if axis != normal)
        if min(sizes[across], sizes[down]) < 2:
            continue
        size_mm = (sizes[across] * spacing[across], sizes[down] * spacing[down])
        planes.append(
            Plane(
                name=_NAMES[normal] if known else "",
                letters=edge_letters(across, down) if known else None,
                size_mm=size_mm,
                cross_mm=(
                    (sizes[across] - place[across] - 0.5) * spacing[across],
                    (sizes[down] - place[down] - 0.5) * spacing[down],
                ),
                position=_coordinate(normal, world[normal]) if known else "",
                axis=int(np.flatnonzero(order == normal)[0]),
                cut=_cutter(turn, box, normal, place[normal]),
            )
        )
    drawn = tuple(plane for plane in planes if min(plane.size_mm) >= _THIN * max(plane.size_mm))
    if not drawn:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"Volume of {'×'.join(map(str, shape))} voxels: it has no plane to draw. Give an image "
            "with at least two axes.",
        )
    left_out = tuple(plane.name for plane in planes if plane not in drawn)
    words = (
        ", ".join(_coordinate(axis, world[axis]) for axis in range(3))
        if known
        else f"column {index[0] + 1}, row {index[1] + 1}"
    )
    return View(drawn, left_out, words, known, _oblique_degrees(turned, spacing) if known else 0.0)


def _cutter(
    turn: NDArray[np.float64], box: tuple[slice, ...], normal: int, position: int
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    where = tuple(position if axis == normal else slice(None) for axis in range(3))

    def cut(values: NDArray[Any]) -> NDArray[Any]:
        part = values[box]
        volume = part[..., None] if part.ndim == 2 else part
        # Indexed, not np.take: that one copies through the whole volume's memory.
        plane = orientations.apply_orientation(volume, turn)[where]
        return as_seen(plane, in_patient=True)

    return cut


def _coordinate(axis: int, millimetres: float) -> str:
    value = round(float(millimetres), 1)
    return f"{_LETTERS[axis][0 if value >= 0 else 1]} {abs(value):.1f} mm"


def _oblique_degrees(affine: NDArray[np.float64], spacing: tuple[float, ...]) -> float:
    cosines = np.clip(np.diag(affine[:3, :3]) / spacing, -1, 1)
    return math.degrees(math.acos(float(cosines.min())))
