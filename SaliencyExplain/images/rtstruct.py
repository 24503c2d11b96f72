"""RTSTRUCT contours, filled by their geometry alone.

The images that an RTSTRUCT refers to may not exist any more; where its contours lie in
the patient is all that is needed, and all that is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.dicom_series import DAMAGED, damaged
from SaliencyExplain.images.grids import LPS_TO_RAS
from SaliencyExplain.images.labels import Color, Label, LabelMap

#: Contours closer than this are of one plane; written coordinates have 1 to 3 decimals.
_ONE_PLANE_MM = 0.05
_AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class _Plane:
    """The contours in one plane, (P, 3) points each in RAS millimetres."""

    height: float
    contours: list[NDArray[np.float64]]


def read_rtstruct(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> LabelMap:
    """Fills the contours of an RTSTRUCT on a grid, a layer for each region.

    A voxel is inside where its centre is, in the nearest plane of contours and no
    further from it than half of the planes' distance; so planes may lie oblique to the
    grid, between its slices, or coarser or finer than these. A contour within another
    cuts a hole (even-odd).

    Args:
        path: The file.
        shape: Voxels along the three axes of the wanted grid.
        affine: Its 4x4 affine to RAS millimetres.

    Returns:
        Layers on that grid.

    Raises:
        InputError: It is damaged, has no closed contour, or none within the grid.
    """
    try:
        dataset = pydicom.dcmread(path, force=True)
        names = {
            int(region.ROINumber): str(region.get("ROIName", "") or f"region {region.ROINumber}")
            for region in dataset.StructureSetROISequence
        }
        regions = [
            (names.get(int(item.ReferencedROINumber), "region"), item, _contours(item))
            for item in dataset.get("ROIContourSequence") or []
        ]
    except DAMAGED as error:
        raise damaged(path, error) from error
    empty = [name for name, _, contours in regions if not contours]
    drawn = [region for region in regions if region[2]]
    if not drawn:
        raise InputError(ErrorCode.FILE_FORMAT, f"{path}: this RTSTRUCT has no closed contour.")
    layers = np.stack([_filled(contours, shape, affine) for _, _, contours in drawn])
    if not layers.any():
        raise InputError(
            ErrorCode.NO_OVERLAP, f"{path}: the contours of this RTSTRUCT lie outside the image."
        )
    labels = tuple(
        Label(name, _color(item), layer, 1) for layer, (name, item, _) in enumerate(drawn)
    )
    notes = (f"without closed contours and left out: {', '.join(empty)}",) if empty else ()
    return LabelMap(layers, affine, labels, notes, _frame_of_reference(dataset))


def _contours(item: Dataset) -> list[NDArray[np.float64]]:
    contours = []
    for contour in item.get("ContourSequence") or []:
        points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
        if contour.ContourGeometricType in _AREAS and len(points) >= 3:
            contours.append(points @ LPS_TO_RAS[:3, :3].T)
    return contours


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
    contours: list[NDArray[np.float64]], shape: tuple[int, ...], affine: NDArray[np.float64]
) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    for normal, members in _by_orientation(contours):
        _fill_planes(mask, normal, _planes(normal, members), affine)
    return mask


def _normal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit normal by Newell's method, which takes collinear and concave points."""
    following = np.roll(points, -1, axis=0)
    normal = np.cross(points - points[0], following - points[0]).sum(axis=0)
    length = float(np.linalg.norm(normal))
    return normal / length if length else normal


def _by_orientation(
    contours: list[NDArray[np.float64]],
) -> list[tuple[NDArray[np.float64], list[NDArray[np.float64]]]]:
    groups: list[tuple[NDArray[np.float64], list[NDArray[np.float64]]]] = []
    # The largest first: the normals of tiny contours are mostly rounding.
    for points in sorted(contours, key=lambda contour: -float(np.ptp(contour, axis=0).max())):
        own = _normal(points)
        flat = [
            members
            for normal, members in groups
            if np.ptp(points @ normal) <= 2 * _ONE_PLANE_MM or abs(float(own @ normal)) > 0.999
        ]
        if flat:
            flat[0].append(points)
        elif own.any():
            groups.append((own, [points]))
    return groups


def _planes(normal: NDArray[np.float64], contours: list[NDArray[np.float64]]) -> list[_Plane]:
    planes: list[_Plane] = []
    for points in sorted(contours, key=lambda contour: float((contour @ normal).mean())):
        height = float((points @ normal).mean())
        if not planes or height - planes[-1].height > _ONE_PLANE_MM:
            planes.append(_Plane(height, []))
        # A contour that is stored twice would cut itself out again.
        if not any(np.array_equal(points, other) for other in planes[-1].contours):
            planes[-1].contours.append(points)
    return planes


def _fill_planes(
    mask: NDArray[np.bool_],
    normal: NDArray[np.float64],
    planes: list[_Plane],
    affine: NDArray[np.float64],
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
    points = np.concatenate([contour for plane in planes for contour in plane.contours])
    window = _window(points, normal * reach, mask.shape, affine[:, [*order, 3]])
    if window is None:
        return
    (first, past), (top, bottom), slices = window
    rows = np.stack(
        np.meshgrid(np.arange(first, past), np.arange(top, bottom), indexing="ij"), axis=-1
    )
    across = np.linalg.svd(normal[np.newaxis])[2][1:]
    to_slice = np.linalg.inv(across @ matrix[:, :2])
    for index in range(*slices):
        start = matrix[:, 2] * index + affine[:3, 3]
        along = rows @ (matrix[:, :2].T @ normal) + start @ normal
        nearest = np.searchsorted(between, along)
        near = np.abs(along - heights[nearest]) <= reach * (1 + 1e-6)
        for plane in np.unique(nearest[near]):
            outlines = [
                (contour - start) @ across.T @ to_slice.T - (first, top)
                for contour in planes[plane].contours
            ]
            inside = _even_odd(outlines, along.shape)
            mask[first:past, top:bottom, index] |= inside & near & (nearest == plane)


def _even_odd(outlines: list[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Fills polygons by the even-odd rule, line by line.

    Each edge is counted where it crosses a line of voxel centres; a voxel is inside
    where an odd number of crossings lies before it. The work grows with the outlines'
    length, not with area times vertices as testing point by point does.

    Args:
        outlines: (P, 2) corners each, in voxels of the array.
        shape: Of the array.
    """
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
    for outline in outlines:
        start, end = outline, np.roll(outline, -1, axis=0)
        low = np.minimum(start[:, 0], end[:, 0])
        high = np.maximum(start[:, 0], end[:, 0])
        # Half-open, so that a corner on a line counts once and a flat edge never.
        begin = np.clip(np.ceil(low), 0, shape[0]).astype(int)
        count = np.clip(np.ceil(high), 0, shape[0]).astype(int) - begin
        edge = np.repeat(np.arange(len(outline)), count)
        line = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + begin[edge]
        share = (line - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
        column = start[edge, 1] + share * (end[edge, 1] - start[edge, 1])
        np.add.at(crossings, (line, np.clip(np.ceil(column), 0, shape[1]).astype(int)), 1)
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


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
    low = np.maximum(np.floor(indices.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(indices.max(axis=0)).astype(int) + 1, shape)
    return None if (low >= high).any() else list(zip(low.tolist(), high.tolist(), strict=True))
