"""One pass over a study's maps: the energy in places, the common grid and the clusters."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.study.case_truth import Truth, TruthReader
from SaliencyExplain.evaluation.study.energy_places import PlaceShare, near, place_shares, places_of
from SaliencyExplain.evaluation.study.finished_study import FinishedCase, FinishedStudy
from SaliencyExplain.evaluation.study.fixed_places import (
    SEGMENT_MARGIN_MM,
    PlacedEnergy,
    fixed_segments,
)
from SaliencyExplain.evaluation.study.normalised_maps import (
    CELLS,
    cell_size_mm,
    on_common_grid,
    side_names,
)
from SaliencyExplain.geometry import spacing_of
from SaliencyExplain.progress import Progress, silent


@dataclass
class Survey:
    """The measurements of all maps; memory holds the small grids and one map at a time.

    Attributes:
        shares: The places' shares of each map.
        placed: Each map on the common grid; maps without a positive voxel are left out.
        fixed: The segments that never move, as :func:`fixed_segments` gives them.
        segmented: The classes of which at least one case has a segment.
        body: Of each class the mean share of each cell that is body, over the cases whose body can
            be segmented.
        anatomy: Mean of the images on the common grid by class, each from 0 to 1; empty where
            the images are not known.
        cell_mm: Mean side of a cell along each axis, mm.
        sides: What lies at the low and at the high end of each axis.
        empty: How many maps were left out.
        notes: Notes for the user.
    """

    shares: list[PlaceShare] = field(default_factory=list)
    placed: list[PlacedEnergy] = field(default_factory=list)
    fixed: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    segmented: set[str] = field(default_factory=set)
    body: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    anatomy: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    cell_mm: tuple[float, ...] = ()
    sides: tuple[tuple[str, str], ...] = ()
    empty: int = 0
    notes: list[str] = field(default_factory=list)


def survey(
    study: FinishedStudy,
    cases: Path | None = None,
    *,
    with_cases: bool = False,
    progress: Progress = silent,
) -> Survey:
    """Reads each map once.

    Args:
        study: The study.
        cases: The folder or CSV that it was made from: segments, body and anatomy are read
            from there.
        with_cases: Read them from the files that the journal names where ``cases`` is None.
            Without either, only places that need none of these are known.
        progress: Called with steps done and in total, one for each map and, with the cases, three
            for each case; may raise Cancelled.

    Raises:
        InputError: A map or a file of a case cannot be read, or cases have two and three axes.
        Cancelled: Out of ``progress``.
    """
    first = study.cases[0]
    found = Survey(sides=side_names(first.shape, first.affine))
    for case in study.cases:
        if side_names(case.shape, case.affine) != found.sides:
            raise InputError(
                ErrorCode.IMAGE_AXES,
                f"{study.folder}: {case.case} has other axes than {first.case} (2D and 3D images, "
                "or slices of several planes). Evaluate a study of one kind of image.",
            )
    total = sum(len(case.maps) for case in study.cases)
    with_cases = with_cases or cases is not None
    total += 3 * len(study.cases) if with_cases else 0
    steps = itertools.count(1)

    def step() -> None:
        progress(next(steps), total)

    reader = TruthReader(study, cases, step) if with_cases else None
    if reader is not None:
        found.notes += reader.notes
        covered = defaultdict(list)
        for case in study.cases:
            for name, mask in reader.segments(case).items():
                covered[name].append(on_common_grid(mask, case.affine) / voxels_of_cell(case.shape))
            step()
        found.fixed = fixed_segments(covered)
    anatomy: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    body: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    sizes = []
    for case in study.cases:
        truth = None if reader is None else reader.of(case)
        if truth is not None:
            anatomy[case.target].append(_brightness(case, truth))
            if truth.body is not None:
                share = on_common_grid(truth.body, case.affine) / voxels_of_cell(case.shape)
                body[case.target].append(share)
            if any(mask.any() for mask in truth.segments.values()):
                found.segmented.add(case.target)
            step()
        sizes.append(cell_size_mm(case.shape, case.affine))
        _read_maps(found, case, truth, step)
    found.cell_mm = tuple(np.mean(sizes, axis=0).tolist())
    found.body = {name: np.mean(shares, axis=0) for name, shares in body.items()}
    found.anatomy = {name: np.mean(images, axis=0) for name, images in anatomy.items()}
    if found.empty:
        found.notes.append(
            f"{found.empty} maps without positive values are left out of the positions."
        )
    return found


def _read_maps(
    found: Survey, case: FinishedCase, truth: Truth | None, step: Callable[[], None]
) -> None:
    places = places_of(case, truth)
    masks = [
        mask for name, mask in (truth.segments if truth else {}).items() if name not in found.fixed
    ]
    inside = np.zeros(case.shape, dtype=bool)
    if masks:
        union = np.logical_or.reduce(masks)
        inside = near(union, spacing_of(case.affine, union.ndim), SEGMENT_MARGIN_MM)
    for label in case.maps:
        step()
        values = case.read_map(label)
        found.shares += place_shares(case, label, values, places)
        placed = placed_energy(case.case, label, case.target, values, case.affine, inside)
        if placed is None:
            found.empty += 1
        else:
            found.placed.append(placed)


def placed_energy(
    case: str,
    method: str,
    target: str,
    values: NDArray[np.float32],
    affine: NDArray[np.float64],
    inside: NDArray[np.bool_],
) -> PlacedEnergy | None:
    """Where one map's positive attribution lies on the common grid.

    Args:
        case: Name of the case.
        method: Label of the map.
        target: Name of the explained class.
        values: The map, ``(*S)``.
        affine: 4x4 of its image, voxel indices to RAS millimetres.
        inside: ``(*S)``, the segments that move, with their margin.

    Returns:
        None if no voxel is positive.
    """
    positive = np.maximum(values, 0)
    energy = on_common_grid(positive, affine)
    total = energy.sum()
    if total <= 0:
        return None
    share = (energy / total).astype(np.float32)
    outside = share
    room = np.ones_like(share)
    if inside.any():
        beyond = on_common_grid(np.where(inside, 0, positive), affine)
        outside = (beyond / total).astype(np.float32)
        room -= (on_common_grid(inside, affine) / voxels_of_cell(values.shape)).astype(np.float32)
    return PlacedEnergy(case, method, target, share, outside, room)


def voxels_of_cell(shape: tuple[int, ...]) -> float:
    """Voxels of an image of that shape in a cell of the common grid."""
    sides = [size for size in shape if size > 1 or len(shape) == 2]
    return float(np.prod(sides)) / CELLS ** len(sides)


def _brightness(case: FinishedCase, truth: Truth) -> NDArray[np.float64]:
    low, high = np.percentile(truth.anatomy, (1, 99))
    grey = np.clip((truth.anatomy - low) / max(high - low, 1e-12), 0, 1)
    return on_common_grid(grey, case.affine) / voxels_of_cell(case.shape)
