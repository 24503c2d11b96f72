"""Energy of maps by position: segments, the rest of the body, the air, borders, corners."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from SaliencyExplain.comparison.bootstrap import Interval, confidence_interval
from SaliencyExplain.evaluation.study.case_truth import Truth
from SaliencyExplain.evaluation.study.finished_study import FinishedCase
from SaliencyExplain.geometry import bounding_box, spacing_of, widened_box
from SaliencyExplain.length_unit import length_unit

#: Thickness of the outermost shell of the image, mm: about what a classifier's padding and a
#: scanner's edges reach.
SHELL_MM = 10.0

#: A corner is within this share of each side from the ends of all sides.
CORNER_SHARE = 0.2

BODY, AIR, ELSEWHERE = "elsewhere in the body", "outside the body", "outside all segments"
CORNERS = "corners"


@dataclass(frozen=True)
class PlaceShare:
    """What one place holds of one map.

    Attributes:
        case: Name of the case.
        method: Label of the map.
        place: ``segment NAME``, or one of the names of this module.
        energy: Share of the positive attribution that lies there, [0, 1]; NaN if no voxel is
            positive.
        volume: The place's share of the image: the value by chance.
    """

    case: str
    method: str
    place: str
    energy: float
    volume: float


@dataclass(frozen=True)
class PlaceSummary:
    """What one place holds of a method's maps, over the cases.

    Attributes:
        method: Label of the maps.
        place: Name of the place.
        energy: Mean share and its 95 % bootstrap interval over the cases.
        volume: Mean share of the image that the place is.
    """

    method: str
    place: str
    energy: Interval
    volume: float


def places_of(case: FinishedCase, truth: Truth | None) -> dict[str, NDArray[np.bool_]]:
    """The known places of a case's image.

    Segments (which may overlap) and the voxels outside them make up the image; so do segments,
    the rest of the body and the air if the body is known. Shell and corners are separate
    divisions of the same image.
    """
    places: dict[str, NDArray[np.bool_]] = {}
    if truth is not None:
        segments = list(truth.segments.values())
        inside = np.logical_or.reduce(segments) if segments else np.zeros(case.shape, dtype=bool)
        places |= {f"segment {name}": mask for name, mask in truth.segments.items()}
        if segments:
            places[ELSEWHERE] = ~inside
        if truth.body is not None:
            places[BODY] = truth.body & ~inside
            places[AIR] = ~truth.body & ~inside
    shell = _shell(case.shape, spacing_of(case.affine, len(case.shape)))
    places[shell_name(length_unit(case.affine, case.shape))] = shell
    places[CORNERS] = _corners(case.shape)
    return places


def shell_name(unit: str = "mm") -> str:
    """Name of the image's outermost shell; ``unit`` is ``px`` where the image has no size."""
    return f"outermost {SHELL_MM:g} {unit}"


def place_shares(
    case: FinishedCase,
    method: str,
    values: NDArray[np.float32],
    places: Mapping[str, NDArray[np.bool_]],
) -> list[PlaceShare]:
    """The shares of a map's positive attribution in several places.

    Args:
        case: Whose map it is.
        method: Label of the map.
        values: ``(*S)``.
        places: Masks ``(*S)`` from :func:`places_of`.
    """
    positive = np.maximum(values, 0)
    total = float(positive.sum(dtype=np.float64))
    return [
        PlaceShare(
            case.case,
            method,
            name,
            float(positive[mask].sum(dtype=np.float64)) / total if total > 0 else math.nan,
            float(mask.mean()),
        )
        for name, mask in places.items()
    ]


def summarise_places(shares: Iterable[PlaceShare], *, seed: int = 0) -> list[PlaceSummary]:
    """The mean over the cases for each method and place, methods as they first occur.

    A place counts only in the cases that have it; a case without a tumour is left out for it.
    """
    found: dict[str, dict[str, list[PlaceShare]]] = {}
    for share in shares:
        found.setdefault(share.method, {}).setdefault(share.place, []).append(share)
    return [
        PlaceSummary(
            method,
            place,
            confidence_interval([one.energy for one in own], seed=seed),
            float(np.mean([one.volume for one in own])),
        )
        for method, places in found.items()
        for place, own in places.items()
    ]


def near(
    mask: NDArray[np.bool_], spacing: Sequence[float], distance_mm: float
) -> NDArray[np.bool_]:
    """The mask and all voxels within a distance of it, between voxel centres in mm."""
    grown = np.zeros(mask.shape, dtype=bool)
    if not mask.any():
        return grown
    box = widened_box(bounding_box(mask), [math.ceil(distance_mm / size) for size in spacing])
    away = ndimage.distance_transform_edt(~mask[box], sampling=spacing)
    grown[box] = away <= distance_mm + 1e-6
    return grown


def _shell(shape: tuple[int, ...], spacing: Sequence[float]) -> NDArray[np.bool_]:
    shell = np.zeros(shape, dtype=bool)
    for axis, (size, step) in enumerate(zip(shape, spacing, strict=True)):
        if size > 1:
            middle = (np.arange(size) + 0.5) * step
            outer = np.minimum(middle, size * step - middle) <= SHELL_MM
            shell |= _along(outer, axis, len(shape))
    return shell


def _corners(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    corners = np.ones(shape, dtype=bool)
    for axis, size in enumerate(shape):
        if size > 1:
            middle = (np.arange(size) + 0.5) / size
            corners &= _along(np.minimum(middle, 1 - middle) <= CORNER_SHARE, axis, len(shape))
    return corners


def _along(line: NDArray[np.bool_], axis: int, axes: int) -> NDArray[np.bool_]:
    return line.reshape([-1 if one == axis else 1 for one in range(axes)])
