"""Agreement of one map with one segment: the metrics of a row of ``comparison.csv``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.comparison.distances import surface_distances, within_distance
from SaliencyExplain.comparison.ranking import Ranking
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import world_vectors
from SaliencyExplain.peak import strongest_voxels
from SaliencyExplain.records.agreement_row import Agreement


def agreement(
    values: NDArray[np.floating],
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    *,
    body: NDArray[np.bool_] | None = None,
    tolerance_mm: float = 5.0,
    resolution_mm: float = 0.0,
) -> Agreement:
    """Measures the agreement of a map with a segment.

    Ties: AUROC counts pairs of equal value half; average precision treats them as one step; rank
    accuracy and the overlaps at equal volume are expectations over a random choice among the
    voxels equal to the threshold (the IoU is that of the expected intersection). The distances at
    equal volume need a set of voxels: ``map >= t`` with the volume nearest to the segment's,
    including all voxels of equal value.

    Special cases:

    - Segment without a voxel: the chance levels are 0, all other metrics NaN.
    - Segment everywhere: the AUROC is NaN, the others follow their definitions (1 if chance is 1).
    - Constant map: every metric has its value by chance (AUROC 0.5; for pointing, rank accuracy
      and average precision the segment's share); the distances at equal volume are NaN.
    - Map without a positive voxel: pointing and overlaps are 0, energy and distances NaN; AUROC,
      average precision and rank accuracy still rank its values.
    - Map with fewer positive voxels than the segment: at equal volume only these are used.

    Args:
        values: The map, (*S) with 2 or 3 axes, finite, positive = speaks for the class.
        mask: The segment, same shape.
        affine: 4x4 of the grid, RAS mm (oblique, anisotropic and sheared grids are fine).
        body: The voxels of the body, same shape, for the second chance level.
        tolerance_mm: Largest distance of the peak from the segment that still counts, mm.
        resolution_mm: Resolution of the map's method, mm; 0: single voxels or regions.

    Raises:
        InputError: The map has non-finite values, the shapes differ, or the tolerance is negative.
    """
    (found,) = agreements(
        values,
        [mask],
        affine,
        body=body,
        tolerance_mm=tolerance_mm,
        resolution_mm=resolution_mm,
    )
    return found


def agreements(
    values: NDArray[np.floating],
    masks: Sequence[NDArray[np.bool_]],
    affine: NDArray[np.float64],
    *,
    body: NDArray[np.bool_] | None = None,
    tolerance_mm: float = 5.0,
    resolution_mm: float = 0.0,
    seen: NDArray[np.bool_] | None = None,
) -> list[Agreement]:
    """Measures one map against several segments: `agreement` of each, sorting the map once.

    Args:
        values: See `agreement`, as the others.
        masks: The segments.
        affine: See there.
        body: See there.
        tolerance_mm: See there.
        resolution_mm: See there.
        seen: ``(*S)``, the voxels that the network saw: the map is undefined outside, and every
            metric is that of these voxels alone, chance too. None: all of them.

    Raises:
        InputError: As `agreement`.
    """
    values = checked_map(values, masks, body, seen)
    if seen is not None and not seen.any():
        seen = None
    if not tolerance_mm >= 0:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"Tolerance: {tolerance_mm} is not valid. Give a distance of at least 0 mm.",
        )
    evidence = _Evidence(values, affine, resolution_mm, seen)
    masks = [mask.astype(bool, copy=False) for mask in masks]
    if seen is not None:
        masks = [mask & seen for mask in masks]
        body = None if body is None else body & seen
    return [_measured(evidence, mask, body, tolerance_mm) for mask in masks]


class _Evidence:
    """A map with the results that all segments share."""

    def __init__(
        self,
        values: NDArray[np.floating],
        affine: NDArray[np.float64],
        resolution_mm: float,
        seen: NDArray[np.bool_] | None = None,
    ) -> None:
        self.ordered = np.sort(values if seen is None else values[seen], axis=None)
        self.positive = np.maximum(values, 0)
        if seen is not None:
            # Undefined voxels are not evidence, and weaker than all defined ones.
            self.positive = np.where(seen, self.positive, 0).astype(values.dtype)
            values = np.where(seen, values, min(self.ordered[0], 0)).astype(values.dtype)
        self.values = values
        self.affine = affine
        self._seen = seen
        self.energy = float(self.positive.sum(dtype=np.float64))
        self._resolution_mm = resolution_mm

    @property
    def constant(self) -> bool:
        """Whether all values are one."""
        return bool(self.ordered[0] == self.ordered[-1])

    @cached_property
    def maxima(self) -> NDArray[np.bool_]:
        """The voxels that share the peak."""
        found = strongest_voxels(self.values, self.affine, self._resolution_mm)
        return found if self._seen is None or not (found & self._seen).any() else found & self._seen

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """Centre of mass of the positive values, in voxel indices."""
        return _centre_of_mass(self.positive)


def _measured(
    evidence: _Evidence,
    mask: NDArray[np.bool_],
    body: NDArray[np.bool_] | None,
    tolerance_mm: float,
) -> Agreement:
    voxels = int(np.count_nonzero(mask))
    chance = voxels / evidence.ordered.size
    chance_body = math.nan
    if body is not None and body.any():
        chance_body = float(np.count_nonzero(mask & body) / np.count_nonzero(body))
    if voxels == 0:
        return undefined_agreement(energy_chance=chance, energy_chance_body=chance_body)

    ranking = Ranking.of(evidence.values, evidence.ordered, mask)
    taken = min(voxels, ranking.positive_voxels())
    common = ranking.inside_of_strongest(taken)
    pointing, pointing_tolerance = _pointing(evidence, mask, tolerance_mm)
    hausdorff95, mean_distance = _distances_at_equal_volume(evidence, mask, ranking)
    return Agreement(
        energy_inside=_energy_inside(evidence, mask),
        energy_chance=chance,
        pointing=pointing,
        pointing_tolerance=pointing_tolerance,
        auroc=ranking.auroc(),
        average_precision=ranking.average_precision(),
        rank_accuracy=ranking.inside_of_strongest(voxels) / voxels,
        dice_equal_volume=2 * common / (taken + voxels),
        iou_equal_volume=common / (taken + voxels - common),
        dice_best=ranking.best_dice(),
        hausdorff95_mm=hausdorff95,
        mean_surface_distance_mm=mean_distance,
        centre_distance_mm=_centre_distance(evidence, mask),
        energy_chance_body=chance_body,
    )


def checked_map(
    values: NDArray[np.floating],
    masks: Sequence[NDArray[np.bool_]],
    body: NDArray[np.bool_] | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> NDArray[np.floating]:
    """The map as floats, after a check that it can be compared with the masks.

    Raises:
        InputError: The map has non-finite values or neither 2 nor 3 axes, or the shapes differ.
    """
    values = np.asarray(values)
    others = [("segment", mask) for mask in masks]
    others += [
        (name, one) for name, one in (("body", body), ("field of view", seen)) if one is not None
    ]
    for name, other in others:
        if other.shape != values.shape:
            raise InputError(
                ErrorCode.GRID_MISMATCH,
                f"Map: it has {_size(values.shape)} voxels, and the {name} has "
                f"{_size(other.shape)}. Resample one onto the other's grid first.",
            )
    if values.ndim not in (2, 3):
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"Map: it has {values.ndim} axes. Give a map of 2 or 3 axes.",
        )
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise InputError(
            ErrorCode.MAP_NOT_FINITE,
            f"Map: {count} voxels are not finite (NaN or infinite), so its agreement cannot be "
            "measured. Check the intensity preprocessing.",
        )
    return values


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(str(side) for side in shape)


def undefined_agreement(*, energy_chance: float, energy_chance_body: float) -> Agreement:
    """An agreement whose metrics are NaN except for the chance levels."""
    metrics = dict.fromkeys(Agreement.__dataclass_fields__, math.nan)
    metrics.update(energy_chance=energy_chance, energy_chance_body=energy_chance_body)
    return Agreement(**metrics)


def _energy_inside(evidence: _Evidence, mask: NDArray[np.bool_]) -> float:
    if evidence.energy == 0:
        return math.nan
    inside = float(evidence.positive[mask].sum(dtype=np.float64))
    # Two sums in different order may differ in the last digit.
    return min(1.0, inside / evidence.energy)


def _pointing(
    evidence: _Evidence, mask: NDArray[np.bool_], tolerance_mm: float
) -> tuple[float, float]:
    """The pointing game without and with tolerance."""
    if evidence.energy == 0:
        return 0.0, 0.0
    maxima = evidence.maxima
    count = int(np.count_nonzero(maxima))
    hit = int(np.count_nonzero(maxima & mask))
    near = hit
    if hit < count:
        near = within_distance(maxima, mask, evidence.affine, tolerance_mm)
    return hit / count, near / count


def _distances_at_equal_volume(
    evidence: _Evidence, mask: NDArray[np.bool_], ranking: Ranking
) -> tuple[float, float]:
    level = ranking.nearest_level(ranking.segment_voxels)
    if level is None or evidence.constant:
        return math.nan, math.nan
    distances = surface_distances(evidence.values >= level, mask, evidence.affine)
    return distances.hausdorff95, distances.mean


def _centre_distance(evidence: _Evidence, mask: NDArray[np.bool_]) -> float:
    if evidence.energy == 0:
        return math.nan
    offset = evidence.centre - _centre_of_mass(mask)
    return float(np.linalg.norm(world_vectors(offset, evidence.affine)))


def _centre_of_mass(weights: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
    """Centre of mass in voxel indices, from the sums along each axis.

    ``scipy.ndimage.center_of_mass`` gives the same through index grids as large as the volume.
    """
    centre = []
    for axis in range(weights.ndim):
        others = tuple(other for other in range(weights.ndim) if other != axis)
        profile = weights.sum(axis=others, dtype=np.float64)
        centre.append(np.dot(profile, np.arange(profile.size)) / profile.sum())
    return np.array(centre)
