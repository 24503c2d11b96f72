"""Filling planes of contours on a grid of voxels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import directions_of, indices_of
from SaliencyExplain.images.contours import Arrangement, arrange, fill, winding

#: Contours closer than this lie in one plane, mm; written coordinates have 1 to 3 decimals.
_ONE_PLANE_MM = 0.05
#: A note is given if planes are off the slices by at least this share of the slice distance.
_OFF_SLICES = 0.1
#: Cosine of the angle between planes and slices below which they are oblique.
_PARALLEL = 0.999


@dataclass(frozen=True)
class Contour:
    """A closed contour.

    Attributes:
        points: (P, 3) in RAS millimetres.
        exclusive: Whether it is combined by exclusive or (CLOSEDPLANAR_XOR).
    """

    points: NDArray[np.float64]
    exclusive: bool


@dataclass(frozen=True)
class _Plane:
    """The contours in one plane, and its position along the planes' normal."""

    height: float
    contours: list[Contour]


@dataclass(frozen=True)
class _Part:
    """Contours of one plane that are combined with each other, copies left out."""

    contours: list[Contour]
    arrangement: Arrangement
    exclusive: bool


@dataclass
class Findings:
    """Properties of a region's contours for the notes, counted over its planes.

    Attributes:
        repeated: Contours that are copies of others.
        crossing: Planes in which contours cross each other and are joined.
        holes: Contours that are cut out of others.
        overlapping: Whether a contour overlaps itself.
        off_mm: Largest distance of a plane from the image's slices; 0 if the planes lie on them.
        oblique: Whether planes are oblique to the slices.
    """

    repeated: int = 0
    crossing: int = 0
    holes: int = 0
    overlapping: bool = False
    off_mm: float = 0.0
    oblique: bool = False


def filled(
    path: Path,
    name: str,
    contours: list[Contour],
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], Findings]:
    """Fills the contours of one region.

    Args:
        path: Their file, for messages.
        name: The region's name, for messages.
        contours: Contours in any order and orientation.
        shape: Voxels along the three axes of the target grid.
        affine: Its 4x4 affine to RAS millimetres.

    Returns:
        The voxels whose centre is inside, and properties of the contours.

    Raises:
        InputError: A contour is not flat.
    """
    mask = np.zeros(shape, dtype=bool)
    findings = Findings()
    for normal, members in _by_orientation(contours):
        _check_flat(path, name, normal, members, affine)
        planes = _planes(normal, members)
        _compare_with_slices(findings, normal, planes, affine)
        _fill_planes(mask, normal, planes, affine, findings)
    return mask, findings


def _normal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit normal by Newell's method, which works for collinear and concave points."""
    following = np.roll(points, -1, axis=0)
    normal = np.cross(points - points[0], following - points[0]).sum(axis=0)
    length = float(np.linalg.norm(normal))
    return normal / length if length else normal


def _by_orientation(
    contours: list[Contour],
) -> list[tuple[NDArray[np.float64], list[Contour]]]:
    groups: list[tuple[NDArray[np.float64], list[Contour]]] = []
    # The largest first, because the normals of tiny contours are mostly rounding error.
    for contour in sorted(contours, key=lambda each: -float(np.ptp(each.points, axis=0).max())):
        own = _normal(contour.points)
        flat = [
            members
            for normal, members in groups
            if np.ptp(contour.points @ normal) <= 2 * _ONE_PLANE_MM
            or abs(float(own @ normal)) > _PARALLEL
        ]
        if flat:
            flat[0].append(contour)
        else:
            groups.append((own if own.any() else _plane_normal(contour.points), [contour]))
    return groups


def _plane_normal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal of the plane through points whose outline has no net area."""
    return np.linalg.svd(points - points.mean(axis=0))[2][2]


def _check_flat(
    path: Path,
    name: str,
    normal: NDArray[np.float64],
    contours: list[Contour],
    affine: NDArray[np.float64],
) -> None:
    slice_mm = float(np.abs(affine[:3, :3].T @ normal).max())
    for contour in contours:
        off = float(np.ptp(contour.points @ normal))
        if off > max(2 * _ONE_PLANE_MM, slice_mm / 2):
            raise InputError(
                ErrorCode.IMAGE_GEOMETRY,
                f"{path}: a contour of the region {name} is declared as planar, but its points "
                f"are up to {off:.2f} mm off a plane, so it cannot be filled. Export the "
                "structure again, or as a label map.",
            )


def _planes(normal: NDArray[np.float64], contours: list[Contour]) -> list[_Plane]:
    planes: list[_Plane] = []
    for contour in sorted(contours, key=lambda each: float((each.points @ normal).mean())):
        height = float((contour.points @ normal).mean())
        if not planes or height - planes[-1].height > _ONE_PLANE_MM:
            planes.append(_Plane(height, []))
        planes[-1].contours.append(contour)
    return planes


def _compare_with_slices(
    findings: Findings,
    normal: NDArray[np.float64],
    planes: list[_Plane],
    affine: NDArray[np.float64],
) -> None:
    """Records how far planes are off the image's slices along the axis of stacking."""
    last = _stacked_axis(normal, affine)
    first, second = (affine[:3, axis] for axis in range(3) if axis != last)
    across = np.cross(first, second)
    across /= np.linalg.norm(across)
    if abs(float(across @ normal)) < _PARALLEL:
        findings.oblique = True
        return
    slice_mm = abs(float(affine[:3, last] @ normal))
    # The position of the image's first voxel along the normal, and each plane relative to it in
    # slices.
    places = (np.array([plane.height for plane in planes]) - affine[:3, 3] @ normal) / slice_mm
    off = float(np.abs(places - np.rint(places)).max())
    if off > _OFF_SLICES:
        findings.off_mm = max(findings.off_mm, off * slice_mm)


def _stacked_axis(normal: NDArray[np.float64], affine: NDArray[np.float64]) -> int:
    """The axis closest to the normal; slices across it are most parallel to the planes."""
    return int(np.abs(normal @ directions_of(affine)).argmax())


def _fill_planes(
    mask: NDArray[np.bool_],
    normal: NDArray[np.float64],
    planes: list[_Plane],
    affine: NDArray[np.float64],
    findings: Findings,
) -> None:
    heights = np.array([plane.height for plane in planes])
    between = (heights[1:] + heights[:-1]) / 2
    # A single plane, or planes closer than the grid's slices, are as thick as the grid's slices.
    slice_mm = float(np.abs(affine[:3, :3].T @ normal).max())
    reach = max(float(np.median(np.diff(heights))) if len(planes) > 1 else 0.0, slice_mm) / 2
    last = _stacked_axis(normal, affine)
    order = [axis for axis in range(3) if axis != last] + [last]
    mask, matrix = mask.transpose(order), affine[:3, order]
    points = np.concatenate([each.points for plane in planes for each in plane.contours])
    across = np.linalg.svd(normal[np.newaxis])[2][1:]
    voxel = float(np.linalg.norm(across @ matrix[:, :2], axis=0).min())
    arranged = [_arranged(plane, across, voxel, findings) for plane in planes]
    window = _window(points, normal * reach, mask.shape, affine[:, [*order, 3]])
    if window is None:
        return
    (first, past), (top, bottom), slices = window
    rows = np.stack(
        np.meshgrid(np.arange(first, past), np.arange(top, bottom), indexing="ij"), axis=-1
    )
    to_slice = np.linalg.inv(across @ matrix[:, :2])
    for index in range(*slices):
        start = matrix[:, 2] * index + affine[:3, 3]
        # Minus a thousandth, which exceeds rounding, so that a voxel halfway between two planes
        # belongs to the lower one, and a plane halfway between two slices to one of them.
        along = rows @ (matrix[:, :2].T @ normal) + start @ normal - 1e-3 * reach
        nearest = np.searchsorted(between, along)
        near = np.abs(along - heights[nearest]) < reach
        for plane in np.unique(nearest[near]):
            inside = np.zeros(along.shape, dtype=bool)
            for part in arranged[plane]:
                outlines = [
                    (contour.points - start) @ across.T @ to_slice.T - (first, top)
                    for contour in part.contours
                ]
                area, overlaps = _area(outlines, part, along.shape)
                inside |= area
                findings.overlapping |= overlaps
            mask[first:past, top:bottom, index] |= inside & near & (nearest == plane)


def _arranged(
    plane: _Plane, across: NDArray[np.float64], voxel: float, findings: Findings
) -> list[_Part]:
    parts = []
    for exclusive in (False, True):
        contours = [each for each in plane.contours if each.exclusive == exclusive]
        if contours:
            found = arrange([each.points @ across.T for each in contours], voxel)
            findings.repeated += found.repeated
            findings.crossing += found.crossing and not exclusive
            findings.holes += found.holes
            parts.append(_Part(contours, found, exclusive))
    return parts


def _area(
    outlines: list[NDArray[np.float64]], part: _Part, shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_], bool]:
    levels = part.arrangement.levels
    if part.exclusive:
        kept = [outlines[index] for level in levels for index in level]
        return winding(kept, shape) % 2 == 1, False
    return fill(outlines, levels, shape)


def _window(
    points: NDArray[np.float64],
    margin: NDArray[np.float64],
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
) -> list[tuple[int, int]] | None:
    """First and one past the last voxel along each axis that contours can reach."""
    indices = indices_of(np.concatenate([points - margin, points + margin]), affine)
    low = np.clip(np.floor(indices.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(indices.max(axis=0)) + 1, 0, shape).astype(int)
    return None if (low >= high).any() else list(zip(low.tolist(), high.tolist(), strict=True))
