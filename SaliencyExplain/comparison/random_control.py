"""The control map ``random`` as a null distribution: the agreement of random maps with a segment.

A single random map is not informative: on a lesion of 8 mm radius its AUROC lies anywhere between
0.2 and 0.8. The control is therefore the mean and the central 95 % of many draws of smooth noise
(:func:`SaliencyExplain.attribution.methods.control_maps.random_map`), its values replaced by
their ranks.

The noise is stationary and periodic and looks the same from all sides, so that a field that is
shifted cyclically and flipped along its axes is another draw of the same distribution. Large
volumes need a few fields only, each sorted once, and a draw costs no more than a look at the
segment's voxels. Where the expectation is known exactly it stands for the draws' mean: the
segment's share of the volume for energy inside, pointing, rank accuracy and Dice at equal
volume, the share of the voxels within the tolerance for pointing with tolerance, and 0.5 for
AUROC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from SaliencyExplain.attribution.methods.control_maps import random_map
from SaliencyExplain.comparison.agreement import undefined_agreement
from SaliencyExplain.comparison.distances import surface_voxels, within_distance
from SaliencyExplain.geometry import bounding_box, spacing_of, widened_box, world_vectors
from SaliencyExplain.progress import may_stop
from SaliencyExplain.records.agreement_row import Agreement

#: Draws for each segment, and how much of them the range holds.
DRAWS, LEVEL = 100, 0.95

#: Fields: as many as fit into this many voxels, within these limits. Two fields of a head at
#: 1 mm hold some 20,000 blobs.
_FIELD_VOXELS, _FEWEST_FIELDS, _MOST_FIELDS = 4e6, 2, 50

#: Of larger segments and surfaces so many voxels, chosen at random, stand for all: their metrics
#: are right to some 0.01, far less than the draws differ.
_MOST_VOXELS, _MOST_SURFACE = 20_000, 1_000


@dataclass(frozen=True)
class Control:
    """What random maps score on one segment.

    Attributes:
        mean: The expectation of each metric.
        low: Lower end of the central 95 % of the draws, metric by metric.
        high: Upper end.
    """

    mean: Agreement
    low: Agreement
    high: Agreement


@dataclass(frozen=True)
class _Field:
    """Noise on the grid.

    Attributes:
        ranks: ``(*S)``, the place of each value in the rising order, from 0.
        strongest: Indices ``(N,)`` into the flat grid, by rising value.
        profiles: Per axis the sums of the ranks over the other axes.
    """

    ranks: NDArray[np.int32]
    strongest: NDArray[np.int64]
    profiles: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> _Field:
        order = np.argsort(values, axis=None, kind="stable")
        flat = np.empty(values.size, dtype=np.int32)
        flat[order] = np.arange(values.size, dtype=np.int32)
        ranks: NDArray[np.int32] = flat.reshape(values.shape)
        axes = range(values.ndim)
        profiles = tuple(
            ranks.sum(axis=tuple(a for a in axes if a != axis), dtype=np.float64) for axis in axes
        )
        return cls(ranks, order, profiles)


@dataclass(frozen=True)
class _Draw:
    """A field seen shifted and flipped.

    Attributes:
        field: The field.
        shifts: Cells per axis.
        signs: 1 or -1 per axis; -1 flips.
    """

    field: _Field
    shifts: tuple[int, ...]
    signs: tuple[int, ...]

    def tables(self) -> list[NDArray[np.int64]]:
        """Per axis the field's index for each index of the image."""
        return [
            (sign * np.arange(size) + shift) % size
            for size, shift, sign in zip(
                self.field.ranks.shape, self.shifts, self.signs, strict=True
            )
        ]

    def ranks_at(self, indices: NDArray[np.intp]) -> NDArray[np.int32]:
        """Ranks at voxels ``(N, D)`` of the image."""
        columns = [table[column] for table, column in zip(self.tables(), indices.T, strict=True)]
        return self.field.ranks[tuple(columns)]

    def in_image(self, flat: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where voxels of the field, flat indices, lie in the image, ``(N, D)``."""
        shape = self.field.ranks.shape
        columns = np.unravel_index(flat, shape)
        return np.stack(
            [
                (sign * (column - shift)) % size
                for column, shift, sign, size in zip(
                    columns, self.shifts, self.signs, shape, strict=True
                )
            ],
            axis=1,
        )

    def centre(self) -> NDArray[np.float64]:
        """Centre of mass of the draw's values, in voxel indices of the image."""
        found = []
        for table, profile in zip(self.tables(), self.field.profiles, strict=True):
            along = profile[table]
            found.append(np.dot(along, np.arange(along.size)) / along.sum())
        return np.array(found)


class RandomControl:
    """The distribution of random maps on a grid.

    Args:
        seen: ``(*S)``, the voxels that the network sees, 2 or 3 axes. The draws are of the
            smallest box that holds them.
        affine: 4x4 of the grid, RAS mm.
        seed: Seed of the run.
        image_sha256: Of the image that is explained, so that each image has draws of its own,
            whatever it is called.
        tolerance_mm: Of the pointing game, mm.
    """

    def __init__(
        self,
        seen: NDArray[np.bool_],
        affine: NDArray[np.float64],
        *,
        seed: int = 0,
        image_sha256: str = "",
        tolerance_mm: float = 5.0,
    ) -> None:
        seen = seen if seen.any() else np.ones_like(seen)
        self._box = bounding_box(seen)
        self._seen = seen[self._box]
        self._shape = self._seen.shape
        self._affine = np.asarray(affine, dtype=np.float64)
        self._tolerance_mm = tolerance_mm
        words = np.frombuffer(image_sha256.encode(), dtype=np.uint8).tolist()
        self._seeds = np.random.SeedSequence([seed, *words])

    @cached_property
    def _draws(self) -> list[_Draw]:
        """The same draws for all segments of the image."""
        chances = np.random.default_rng(self._seeds)
        size = math.prod(self._shape)
        count = min(_MOST_FIELDS, max(_FEWEST_FIELDS, int(_FIELD_VOXELS / size)))
        spacing = spacing_of(self._affine, len(self._shape))
        seeds = chances.integers(2**32, size=count).tolist()
        fields = []
        for seed in seeds:
            may_stop()
            fields.append(_Field.of(random_map(self._shape, spacing, seed=seed)))
        return [
            _Draw(
                fields[number % count],
                tuple(int(chances.integers(side)) for side in self._shape),
                tuple(int(chances.choice((-1, 1))) for _ in self._shape),
            )
            for number in range(DRAWS)
        ]

    def of(self, segment: NDArray[np.bool_], *, body: NDArray[np.bool_] | None = None) -> Control:
        """What random maps score on a segment.

        Args:
            segment: ``(*S)``.
            body: The voxels of the body, for the second chance level.

        Returns:
            The distribution; metrics of a segment without a voxel are NaN.
        """
        segment = segment[self._box] & self._seen
        voxels, total = int(np.count_nonzero(segment)), int(np.count_nonzero(self._seen))
        body_share = math.nan
        body = None if body is None else body[self._box] & self._seen
        if body is not None and body.any():
            body_share = float(np.count_nonzero(segment & body) / np.count_nonzero(body))
        chance = voxels / total
        nothing = undefined_agreement(energy_chance=chance, energy_chance_body=body_share)
        if voxels == 0:
            return Control(nothing, nothing, nothing)
        drawn = list(_Segment(segment, self._affine, self._tolerance_mm).metrics(self._draws))
        table = {name: np.array([one[name] for one in drawn]) for name in drawn[0]}
        ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
        low, high = (
            replace(nothing, **{name: float(np.quantile(v, end)) for name, v in table.items()})
            for end in ends
        )
        exact = {
            **dict.fromkeys(
                ("energy_inside", "pointing", "rank_accuracy", "dice_equal_volume"), chance
            ),
            "pointing_tolerance": _near(segment, self._affine, self._tolerance_mm) / total,
            "auroc": 0.5 if voxels < total else math.nan,
        }
        means = {name: float(values.mean()) for name, values in table.items()}
        mean = replace(nothing, **(means | exact))
        return Control(mean, low, high)


class _Segment:
    """A segment and the values that the draws are compared with."""

    def __init__(
        self, segment: NDArray[np.bool_], affine: NDArray[np.float64], tolerance_mm: float
    ) -> None:
        chances = np.random.default_rng(0)
        inside = np.argwhere(segment)
        self._mask, self._affine, self._tolerance_mm = segment, affine, tolerance_mm
        self._voxels = len(inside)
        self._inside = _some(inside, _MOST_VOXELS, chances)
        self._centre = inside.mean(axis=0)
        surface = world_vectors(surface_voxels(segment), affine)
        self._surface_voxels = len(surface)
        self._surface = _some(surface, _MOST_SURFACE, chances)
        self._tree = KDTree(surface)
        self._chances = chances

    def metrics(self, draws: list[_Draw]) -> Iterator[dict[str, float]]:
        """The metrics of each draw."""
        surfaces: dict[int, NDArray[np.int64]] = {}
        for draw in draws:
            may_stop()
            known = id(draw.field)
            if known not in surfaces:
                surfaces[known] = _surface(draw.field, self._voxels)
            yield {**self._ranked(draw), **self._placed(draw, surfaces[known])}

    def _ranked(self, draw: _Draw) -> dict[str, float]:
        """The metrics that need the order alone."""
        size, voxels = self._mask.size, self._voxels
        ranks = np.sort(draw.ranks_at(self._inside))[::-1].astype(np.float64)
        # Each voxel looked at stands for so many of the segment.
        each = voxels / len(ranks)
        inside = each * np.arange(1, len(ranks) + 1)
        selected = np.maximum(size - ranks, inside)
        common = each * float(np.count_nonzero(ranks >= size - voxels))
        others = size - voxels
        # The ranks within a segment of n voxels add up to n (n - 1) / 2 more than those outside
        # of it that are weaker (Mann-Whitney).
        auroc = (ranks.mean() - (voxels - 1) / 2) / others if others else math.nan
        return {
            "energy_inside": float(2 * each * (ranks + 0.5).sum() / size**2),
            "auroc": float(auroc),
            "average_precision": float((inside / selected).mean()),
            "rank_accuracy": common / voxels,
            "dice_equal_volume": common / voxels,
            "iou_equal_volume": common / (2 * voxels - common),
            "dice_best": float((2 * inside / (selected + voxels)).max()),
        }

    def _placed(self, draw: _Draw, surface: NDArray[np.int64]) -> dict[str, float]:
        """The metrics that need places."""
        peak = draw.in_image(draw.field.strongest[-1:])
        inside = bool(self._mask[tuple(peak[0])])
        reached = float(self._tree.query(world_vectors(peak, self._affine))[0][0])
        offset = draw.centre() - self._centre
        # A fair part of the surface is enough; the nearest of many is as near as of all.
        part = _some(surface, 4 * _MOST_SURFACE, self._chances)
        places = world_vectors(draw.in_image(part), self._affine)
        there, _ = self._tree.query(places[:_MOST_SURFACE])
        back, _ = KDTree(places).query(self._surface)
        weights = len(surface), self._surface_voxels
        return {
            "pointing": float(inside),
            "pointing_tolerance": float(inside or reached <= self._tolerance_mm + 1e-6),
            "hausdorff95_mm": float(max(np.percentile(there, 95), np.percentile(back, 95))),
            "mean_surface_distance_mm": float(
                np.average((there.mean(), back.mean()), weights=weights)
            ),
            "centre_distance_mm": float(np.linalg.norm(world_vectors(offset, self._affine))),
        }


def _surface(field: _Field, count: int) -> NDArray[np.int64]:
    """The strongest voxels that have a face on weaker ones, flat indices, periodically."""
    shape, least = field.ranks.shape, field.ranks.size - count
    strongest = field.strongest[-count:]
    columns = np.unravel_index(strongest, shape)
    found = np.zeros(count, dtype=bool)
    for axis, size in enumerate(shape):
        for step in (-1, 1):
            moved = list(columns)
            moved[axis] = (columns[axis] + step) % size
            found |= field.ranks[tuple(moved)] < least
    # A segment that fills the grid has no weaker neighbours.
    return strongest[found] if found.any() else strongest


def _near(segment: NDArray[np.bool_], affine: NDArray[np.float64], distance_mm: float) -> int:
    """How many voxels of the grid lie in a segment or within a distance of it."""
    spacing = spacing_of(affine, segment.ndim)
    # On a sheared grid a distance may take more voxels than along the axes.
    inverse = np.linalg.pinv(affine[:3, : segment.ndim])
    reach = [
        math.ceil(distance_mm * max(1 / spacing[a], float(np.linalg.norm(inverse[a]))))
        for a in range(segment.ndim)
    ]
    part = segment[widened_box(bounding_box(segment), reach)]
    return within_distance(np.ones_like(part), part, affine, distance_mm)


def _some(points: NDArray[Any], most: int, chances: np.random.Generator) -> NDArray[Any]:
    """At most so many of the points."""
    # In random order, so that a first part of it is as fair as the whole.
    return points[chances.permutation(len(points))[:most]]
