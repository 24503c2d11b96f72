"""RTSTRUCT contours, filled by their geometry alone.

The images that an RTSTRUCT refers to may not exist any more; where its contours lie in
the patient is all that is needed, and all that is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.contours import Arrangement, arrange, fill, once, winding
from SaliencyExplain.images.dicom_file import read_dicom
from SaliencyExplain.images.dicom_header import DAMAGED, damaged
from SaliencyExplain.images.grids import LPS_TO_RAS
from SaliencyExplain.images.labels import Color, Label, LabelMap

#: Contours closer than this are of one plane; written coordinates have 1 to 3 decimals.
_ONE_PLANE_MM = 0.05
_AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
#: Share of the slice distance from which on it is said that planes lie off the slices.
_OFF_SLICES = 0.1
#: Cosine of the angle between planes and slices below which they are oblique.
_PARALLEL = 0.999


@dataclass(frozen=True)
class _Contour:
    """A closed contour.

    Attributes:
        points: (P, 3) in RAS millimetres.
        exclusive: Whether it is to be combined by exclusive or (CLOSEDPLANAR_XOR).
    """

    points: NDArray[np.float64]
    exclusive: bool


@dataclass(frozen=True)
class _Region:
    """A region of interest and its contours.

    Attributes:
        name: As the file has it.
        color: RGB in [0, 1], or None.
        contours: The closed ones.
        others: How many contours are open, points, or enclose no area.
    """

    name: str
    color: Color | None
    contours: list[_Contour]
    others: int


@dataclass(frozen=True)
class _Plane:
    """The contours in one plane, which lies at a height along the planes' normal."""

    height: float
    contours: list[_Contour]


@dataclass(frozen=True)
class _Part:
    """Contours of one plane that are combined with each other, copies left out."""

    contours: list[_Contour]
    arrangement: Arrangement
    exclusive: bool


@dataclass
class _Findings:
    """What is to be said of the contours of a region, counted over its planes."""

    repeated: int = 0
    crossing: int = 0
    holes: int = 0
    overlapping: bool = False
    off_mm: float = 0.0
    oblique: bool = False


def read_rtstruct(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> LabelMap:
    """Fills the contours of an RTSTRUCT on a grid, a layer for each region.

    A voxel is inside where its centre is, in the nearest plane of contours and no
    further from it than half of the planes' distance; so planes may lie oblique to the
    grid, between its slices, or coarser or finer than these. How several contours in one
    plane are combined is told in :mod:`SaliencyExplain.images.contours`; contours of the
    type CLOSEDPLANAR_XOR are combined by exclusive or, as that type says.

    Args:
        path: The file.
        shape: Voxels along the three axes of the wanted grid.
        affine: Its 4x4 affine to RAS millimetres.

    Returns:
        Layers on that grid; notes on holes, copies, crossings and what lies off the slices
        or outside of the grid.

    Raises:
        InputError: It is damaged, has no closed contour, one that is not flat, none within
            the grid, or none that encloses a voxel's centre.
    """
    try:
        dataset = read_dicom(path, force=True)
        names = {
            int(region.ROINumber): str(region.get("ROIName", "") or f"region {region.ROINumber}")
            for region in dataset.StructureSetROISequence
        }
        regions = [
            _region(names.get(int(item.ReferencedROINumber), "region"), item)
            for item in dataset.get("ROIContourSequence") or []
        ]
    except DAMAGED as error:
        raise damaged(path, error) from error
    empty = [region.name for region in regions if not region.contours]
    drawn = [region for region in regions if region.contours]
    if not drawn:
        raise InputError(ErrorCode.FILE_FORMAT, f"{path}: this RTSTRUCT has no closed contour.")
    notes = [f"without closed contours and left out: {', '.join(empty)}"] if empty else []
    layers = []
    for region in drawn:
        layer, findings = _filled(path, region, shape, affine)
        layers.append(layer)
        notes += _notes(region, findings, _share_outside(region, shape, affine))
    if not any(layer.any() for layer in layers):
        _raise_empty(path, drawn, shape, affine)
    labels = tuple(Label(region.name, region.color, layer, 1) for layer, region in enumerate(drawn))
    return LabelMap(np.stack(layers), affine, labels, tuple(notes), _frame_of_reference(dataset))


def _region(name: str, item: Dataset) -> _Region:
    contours, others = [], 0
    for contour in item.get("ContourSequence") or []:
        points = np.array(contour.get("ContourData") or [], dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise ValueError("a contour has points that are not finite")
        kind = str(contour.get("ContourGeometricType", ""))
        points = once(points @ LPS_TO_RAS[:3, :3].T)
        if kind in _AREAS and len(points) >= 3 and np.linalg.matrix_rank(points - points[0]) > 1:
            contours.append(_Contour(points, kind != _AREAS[0]))
        else:
            others += 1
    return _Region(name, _color(item), contours, others)


def _notes(region: _Region, findings: _Findings, outside: float) -> list[str]:
    """What a user must know of how a region's contours were taken."""
    told = []
    if region.others:
        told.append(f"{region.others} contours that are open or enclose no area are left out")
    if findings.repeated:
        told.append(f"{findings.repeated} contours are drawn twice and count once")
    if findings.crossing:
        told.append(f"contours cross each other in {findings.crossing} planes and are joined")
    if findings.holes:
        told.append(f"{findings.holes} contours lie within others and are cut out as holes")
    if findings.overlapping:
        told.append("a contour overlaps itself; where it does is left out, as a hole is")
    if findings.oblique:
        told.append("the contours' planes are oblique to the slices of the image")
    elif findings.off_mm:
        told.append(
            f"contours lie up to {findings.off_mm:.2g} mm off the slices of the image; each counts "
            "for the slices nearest to it"
        )
    if outside >= 0.0005:
        told.append(f"{outside * 100:.1f} % of the contours' points lie outside the image")
    return [f"{region.name}: {note}" for note in told]


def _share_outside(region: _Region, shape: tuple[int, ...], affine: NDArray[np.float64]) -> float:
    points = np.concatenate([contour.points for contour in region.contours])
    inverse = np.linalg.inv(affine)
    indices = points @ inverse[:3, :3].T + inverse[:3, 3]
    inside = ((indices > -0.501) & (indices < np.array(shape) - 0.499)).all(axis=1)
    return float(1 - inside.mean())


def _raise_empty(
    path: Path, regions: list[_Region], shape: tuple[int, ...], affine: NDArray[np.float64]
) -> None:
    if all(_share_outside(region, shape, affine) == 1 for region in regions):
        raise InputError(
            ErrorCode.NO_OVERLAP, f"{path}: the contours of this RTSTRUCT lie outside the image."
        )
    raise InputError(
        ErrorCode.SEGMENTATION_EMPTY,
        f"{path}: the contours of this RTSTRUCT lie in the image, but enclose no voxel's centre; "
        "they are smaller than its voxels or lie between its slices.",
    )


def _color(item: Dataset) -> Color | None:
    color = item.get("ROIDisplayColor")
    if color is None or len(color) != 3:
        return None
    red, green, blue = (int(part) / 255.0 for part in color)
    return red, green, blue


def _frame_of_reference(dataset: Dataset) -> str:
    frames = {
        str(region.get("ReferencedFrameOfReferenceUID", ""))
        for region in dataset.StructureSetROISequence
    }
    return frames.pop() if len(frames) == 1 else ""


def _filled(
    path: Path, region: _Region, shape: tuple[int, ...], affine: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], _Findings]:
    mask = np.zeros(shape, dtype=bool)
    findings = _Findings()
    for normal, members in _by_orientation(region.contours):
        _check_flat(path, region, normal, members, affine)
        planes = _planes(normal, members)
        _compare_with_slices(findings, normal, planes, affine)
        _fill_planes(mask, normal, planes, affine, findings)
    return mask, findings


def _normal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit normal by Newell's method, which takes collinear and concave points."""
    following = np.roll(points, -1, axis=0)
    normal = np.cross(points - points[0], following - points[0]).sum(axis=0)
    length = float(np.linalg.norm(normal))
    return normal / length if length else normal


def _by_orientation(
    contours: list[_Contour],
) -> list[tuple[NDArray[np.float64], list[_Contour]]]:
    groups: list[tuple[NDArray[np.float64], list[_Contour]]] = []
    # The largest first: the normals of tiny contours are mostly rounding.
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
    """Normal of the plane through points whose outline encloses as much to either side."""
    return np.linalg.svd(points - points.mean(axis=0))[2][2]


def _check_flat(
    path: Path,
    region: _Region,
    normal: NDArray[np.float64],
    contours: list[_Contour],
    affine: NDArray[np.float64],
) -> None:
    slice_mm = float(np.abs(affine[:3, :3].T @ normal).max())
    for contour in contours:
        off = float(np.ptp(contour.points @ normal))
        if off > max(2 * _ONE_PLANE_MM, slice_mm / 2):
            raise InputError(
                ErrorCode.IMAGE_GEOMETRY,
                f"{path}: a contour of the region {region.name} is said to be planar, but its "
                f"points lie up to {off:.2f} mm off one plane. It cannot be filled.",
            )


def _planes(normal: NDArray[np.float64], contours: list[_Contour]) -> list[_Plane]:
    planes: list[_Plane] = []
    for contour in sorted(contours, key=lambda each: float((each.points @ normal).mean())):
        height = float((contour.points @ normal).mean())
        if not planes or height - planes[-1].height > _ONE_PLANE_MM:
            planes.append(_Plane(height, []))
        planes[-1].contours.append(contour)
    return planes


def _compare_with_slices(
    findings: _Findings,
    normal: NDArray[np.float64],
    planes: list[_Plane],
    affine: NDArray[np.float64],
) -> None:
    """Notes how far planes lie off the image's slices, which are those of the third axis."""
    across = np.cross(affine[:3, 0], affine[:3, 1])
    across /= np.linalg.norm(across)
    if abs(float(across @ normal)) < _PARALLEL:
        findings.oblique = True
        return
    slice_mm = abs(float(affine[:3, 2] @ normal))
    # Where the image's first voxel lies along the normal, and each plane in slices from there.
    places = (np.array([plane.height for plane in planes]) - affine[:3, 3] @ normal) / slice_mm
    off = float(np.abs(places - np.rint(places)).max())
    if off > _OFF_SLICES:
        findings.off_mm = max(findings.off_mm, off * slice_mm)


def _fill_planes(
    mask: NDArray[np.bool_],
    normal: NDArray[np.float64],
    planes: list[_Plane],
    affine: NDArray[np.float64],
    findings: _Findings,
) -> None:
    heights = np.array([plane.height for plane in planes])
    between = (heights[1:] + heights[:-1]) / 2
    # A single plane, and planes finer than the grid, are as thick as the grid's slices.
    slice_mm = float(np.abs(affine[:3, :3].T @ normal).max())
    reach = max(float(np.median(np.diff(heights))) if len(planes) > 1 else 0.0, slice_mm) / 2
    # Slices across the axis that runs most along the normal meet the planes most flatly.
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    last = int(np.abs(normal @ directions).argmax())
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
        # Less a thousandth, more than rounding, so that a voxel halfway between two planes is
        # of the lower one, and a plane halfway between two slices counts for one of them.
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
    plane: _Plane, across: NDArray[np.float64], voxel: float, findings: _Findings
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
    inverse = np.linalg.inv(affine)
    reached = np.concatenate([points - margin, points + margin])
    indices = reached @ inverse[:3, :3].T + inverse[:3, 3]
    low = np.clip(np.floor(indices.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(indices.max(axis=0)) + 1, 0, shape).astype(int)
    return None if (low >= high).any() else list(zip(low.tolist(), high.tolist(), strict=True))
