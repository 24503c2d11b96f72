"""Closed contours of one plane: their arrangement, and the area that they enclose.

DICOM does not define what several closed contours in one plane mean (PS3.3 C.8.8.6). Here a
contour inside another is a hole, and one inside a hole is an island; contours that cross are
joined; a contour that is drawn twice counts once, also if it starts at another point, runs in
the other direction or has rounded coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import points_in_poly

#: Two outlines are the same line within this share of a voxel.
_SAME_LINE = 0.25
#: A contour counts as inside another if it crosses its line by at most this share of a voxel.
_ROUNDING = 0.1
#: Points of an outline closer than this are one.
_SAME_POINT_MM = 1e-3
#: Number of points of an outline that are compared with another, besides its corners.
_SAMPLES = 512
#: Number of points that represent the other line, besides its corners.
_LINE_SAMPLES = 1 << 15

Polygon = NDArray[np.float64]


@dataclass(frozen=True)
class Arrangement:
    """The arrangement of the contours of one plane.

    Attributes:
        levels: Indices of contours for each depth. In this order, contours of even depth are
            filled and those of odd depth cut out.
        repeated: Number of contours that are copies of others, and left out.
        crossing: Whether contours cross each other, and are joined.
        holes: Number of contours that are cut out of others.
    """

    levels: tuple[tuple[int, ...], ...]
    repeated: int
    crossing: bool
    holes: int


def arrange(polygons: Sequence[Polygon], voxel: float) -> Arrangement:
    """Finds copies, holes, islands and crossings among the contours of one plane.

    Args:
        polygons: (P, 2) corners each, in millimetres within the plane.
        voxel: Smallest distance of neighbouring voxels in the plane, in millimetres; lines
            much closer than this count as one.

    Returns:
        The contours by depth. The depth of a contour is the number of groups of joined
        contours that contain it.
    """
    kept: list[int] = []
    within: set[tuple[int, int]] = set()
    joined: dict[int, int] = {}
    crossing = False
    for index in sorted(range(len(polygons)), key=lambda each: -_area(polygons[each])):
        relations = {
            other: _relation(polygons[index], polygons[other], voxel)
            for other in kept
            if _boxes_meet(polygons[index], polygons[other], voxel)
        }
        if "same" in relations.values():
            continue
        kept.append(index)
        joined[index] = index
        for other, relation in relations.items():
            if relation == "within":
                within.add((index, other))
            elif relation == "around":
                within.add((other, index))
            elif relation == "crossing":
                crossing = True
                old, new = joined[other], joined[index]
                joined = {each: new if group == old else group for each, group in joined.items()}
    depths = {
        index: len(
            {
                joined[outer]
                for inner, outer in within
                if joined[inner] == joined[index] != joined[outer]
            }
        )
        for index in kept
    }
    levels = tuple(
        tuple(index for index in kept if depths[index] == depth)
        for depth in range(max(depths.values(), default=-1) + 1)
    )
    holes = sum(len(level) for level in levels[1::2])
    return Arrangement(levels, len(polygons) - len(kept), crossing, holes)


def once(polygon: Polygon) -> Polygon:
    """The outline without repeated points, and reduced to one turn if it has two or three.

    By the even-odd rule an outline that runs twice around its area encloses nothing.

    Args:
        polygon: (P, D) points.
    """
    repeats = np.linalg.norm(polygon - np.roll(polygon, 1, axis=0), axis=1) <= _SAME_POINT_MM
    if len(polygon) - repeats.sum() >= 3:
        polygon = polygon[~repeats]
    for turns in (2, 3):
        corners = len(polygon) // turns
        if corners >= 3 and corners * turns == len(polygon):
            turned = polygon.reshape(turns, corners, -1)
            if np.abs(turned - turned[0]).max() <= _SAME_POINT_MM:
                return once(turned[0])
    return polygon


def fill(
    outlines: Sequence[Polygon], levels: Sequence[Sequence[int]], shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_], bool]:
    """Fills an arrangement of contours.

    Args:
        outlines: (P, 2) corners each, in voxels of the array.
        levels: As in :class:`Arrangement`.
        shape: Shape of the array, (rows, columns).

    Returns:
        The voxels inside, and whether a contour overlaps itself; voxels of an overlap are
        outside.
    """
    area = np.zeros(shape, dtype=bool)
    overlaps = False
    for depth, level in enumerate(levels):
        for index in level:
            outline = outlines[index]
            low = np.clip(np.floor(outline.min(axis=0)), 0, shape).astype(int)
            high = np.clip(np.ceil(outline.max(axis=0)) + 1, 0, shape).astype(int)
            if (low >= high).any():
                continue
            part = area[low[0] : high[0], low[1] : high[1]]
            turns = winding([outline - low], part.shape)
            overlaps |= bool(((turns != 0) & (turns % 2 == 0)).any())
            part[turns % 2 == 1] = depth % 2 == 0
    return area, overlaps


def winding(outlines: Sequence[Polygon], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """The winding number of polygons around each voxel, computed line by line.

    An odd number is inside by the even-odd rule. Each edge is counted where it crosses a line
    of voxel centres. The cost grows with the length of the outlines, while testing each point
    grows with area times vertices.

    Args:
        outlines: (P, 2) corners each, in voxels of the array.
        shape: Shape of the array, (rows, columns).
    """
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
    for outline in outlines:
        start, end = outline, np.roll(outline, -1, axis=0)
        low = np.minimum(start[:, 0], end[:, 0])
        high = np.maximum(start[:, 0], end[:, 0])
        # Half-open intervals, so that a corner on a line counts once and a flat edge never.
        begin = np.clip(np.ceil(low), 0, shape[0]).astype(int)
        count = np.clip(np.ceil(high), 0, shape[0]).astype(int) - begin
        edge = np.repeat(np.arange(len(outline)), count)
        line = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + begin[edge]
        share = (line - start[edge, 0]) / (end[edge, 0] - start[edge, 0])
        column = start[edge, 1] + share * (end[edge, 1] - start[edge, 1])
        place = (line, np.clip(np.ceil(column), 0, shape[1]).astype(int))
        np.add.at(crossings, place, np.where(end[edge, 0] > start[edge, 0], 1, -1))
    return np.cumsum(crossings, axis=1)[:, :-1]


def _area(polygon: Polygon) -> float:
    x, y = (polygon - polygon[0]).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _boxes_meet(one: Polygon, other: Polygon, voxel: float) -> bool:
    reach = _SAME_LINE * voxel
    return bool(
        (one.min(axis=0) <= other.max(axis=0) + reach).all()
        and (other.min(axis=0) <= one.max(axis=0) + reach).all()
    )


def _relation(one: Polygon, other: Polygon, voxel: float) -> str:
    """The relation of one outline to another: same, within, around, crossing or apart."""
    first = _depths(one, other, voxel)
    second = _depths(other, one, voxel)
    if max(np.abs(first).max(), np.abs(second).max()) <= _SAME_LINE * voxel:
        return "same"
    least = _ROUNDING * voxel
    first_in, first_out = first.max() > least, first.min() < -least
    second_in, second_out = second.max() > least, second.min() < -least
    if not first_in and not second_in:
        return "apart"
    if first_in and not first_out and not second_in:
        return "within"
    if second_in and not second_out and not first_in:
        return "around"
    return "crossing"


def _samples(polygon: Polygon, step: float, most: int) -> Polygon:
    """Corners of an outline and points between them, at a step that `most` may enlarge."""
    following = np.roll(polygon, -1, axis=0)
    lengths = np.linalg.norm(following - polygon, axis=1)
    step = max(step, float(lengths.sum()) / most)
    parts = np.maximum(np.ceil(lengths / step), 1).astype(int)
    edge = np.repeat(np.arange(len(polygon)), parts)
    place = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    share = (place / parts[edge])[:, np.newaxis]
    return polygon[edge] + share * (following[edge] - polygon[edge])


def _depths(one: Polygon, other: Polygon, voxel: float) -> NDArray[np.float64]:
    """Distance of one outline's points from another outline, positive inside (even-odd)."""
    points = _samples(one, _SAME_LINE * voxel, _SAMPLES)
    points = points[:: max(1, len(points) // (4 * _SAMPLES))]
    line = _samples(other, _ROUNDING * voxel, _LINE_SAMPLES)
    distances = cKDTree(line).query(points)[0]
    return np.where(points_in_poly(points, other), distances, -distances)
