"""How a map ranks a segment's voxels: every metric that needs only the order of the values.

All of them follow from one question asked for each value inside the segment: how many
voxels, inside and in all, are at least that strong? One sort of the volume answers it, which
is why they are counted here and not by scikit-learn: equal to ``roc_auc_score`` and
``average_precision_score`` (held by a test), in 0.4 s instead of 6.7 s on 240×240×155 voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranking:
    """Counts at every distinct value that the segment's voxels have, from the strongest down.

    Attributes:
        thresholds: The distinct values inside the segment, falling, shape (T,).
        inside: Voxels of the segment at least that strong, shape (T,), int64.
        selected: Voxels of the whole map at least that strong, shape (T,), int64.
        ordered: All values of the map, rising, shape (N,).
        segment_voxels: Voxels of the segment.
    """

    thresholds: NDArray[np.floating]
    inside: NDArray[np.int64]
    selected: NDArray[np.int64]
    ordered: NDArray[np.floating]
    segment_voxels: int

    @classmethod
    def of(
        cls,
        values: NDArray[np.floating],
        ordered: NDArray[np.floating],
        mask: NDArray[np.bool_],
    ) -> Ranking:
        """Ranks a map against a segment.

        Args:
            values: The map, any shape, finite.
            ordered: Its values, rising, shape (N,): sorted once for all segments.
            mask: The segment, same shape as the map, bool, with at least one voxel.
        """
        rising, counts = np.unique(values[mask], return_counts=True)
        at_least = ordered.size - np.searchsorted(ordered, rising, side="left")
        return cls(
            thresholds=rising[::-1],
            inside=np.cumsum(counts[::-1], dtype=np.int64),
            selected=at_least[::-1].astype(np.int64),
            ordered=ordered,
            segment_voxels=int(counts.sum()),
        )

    def auroc(self) -> float:
        """Chance that a voxel of the segment outranks one outside, ties half.

        Equals ``sklearn.metrics.roc_auc_score``: the Mann–Whitney U statistic over the number
        of pairs (Hanley and McNeil 1982). NaN where nothing lies outside the segment.
        """
        outside_voxels = self.ordered.size - self.segment_voxels
        if outside_voxels == 0:
            return float("nan")
        here = np.diff(self.inside, prepend=0)
        at_least = self.selected - self.inside
        above = outside_above(self.ordered, self.thresholds) - (self.inside - here)
        won = outside_voxels - (at_least + above) / 2
        return float(np.dot(here, won) / (self.segment_voxels * outside_voxels))

    def average_precision(self) -> float:
        """Mean precision over the segment's voxels, ``sum((R_n - R_{n-1}) * P_n)``.

        Equals ``sklearn.metrics.average_precision_score``; chance is the segment's share.
        """
        here = np.diff(self.inside, prepend=0)
        return float(np.dot(here, self.inside / self.selected) / self.segment_voxels)

    def inside_of_strongest(self, count: int) -> float:
        """Expected number of segment voxels among the ``count`` strongest voxels of the map.

        Where voxels of equal value straddle the border, the places left over are drawn among
        them at random; this is the expectation of that draw.
        """
        if count <= 0:
            return 0.0
        border = self.ordered[self.ordered.size - count]
        above = self.ordered.size - int(np.searchsorted(self.ordered, border, side="right"))
        tied = self.ordered.size - int(np.searchsorted(self.ordered, border, side="left")) - above
        inside_above = self._inside_at_least(border, strictly=True)
        inside_tied = self._inside_at_least(border, strictly=False) - inside_above
        return inside_above + inside_tied * (count - above) / tied

    def best_dice(self) -> float:
        """The highest Dice of the segment with ``values >= t`` over all positive ``t``.

        Between two values inside the segment a lower threshold only adds voxels outside it, so
        the best one is always a value that occurs inside. 0 where none is positive.
        """
        positive = self.thresholds > 0
        if not positive.any():
            return 0.0
        dice = 2 * self.inside[positive] / (self.selected[positive] + self.segment_voxels)
        return float(dice.max())

    def positive_voxels(self) -> int:
        """Voxels of the map that speak for the class."""
        # A zero of the map's own type: searchsorted would convert all values to that of another.
        zero = self.ordered.dtype.type(0)
        return self.ordered.size - int(np.searchsorted(self.ordered, zero, side="right"))

    def nearest_level(self, count: int) -> float | None:
        """The positive threshold ``t`` for which ``values >= t`` has nearest to ``count`` voxels.

        Voxels of equal value stay together, so the set does not depend on the order of the
        axes; of two thresholds equally near the one with fewer voxels is taken.

        Returns:
            The threshold, or None where no voxel is positive.
        """
        positive = self.positive_voxels()
        if positive == 0 or count <= 0:
            return None
        size = self.ordered.size
        border = self.ordered[size - min(count, positive)]
        above = size - int(np.searchsorted(self.ordered, border, side="right"))
        at_least = size - int(np.searchsorted(self.ordered, border, side="left"))
        if above > 0 and count - above <= at_least - count:
            return float(self.ordered[size - above])
        return float(border)

    def _inside_at_least(self, value: float, *, strictly: bool) -> int:
        """Voxels of the segment at least as strong as ``value``, or stronger."""
        rising = self.thresholds[::-1]
        weaker = np.searchsorted(rising, value, side="right" if strictly else "left")
        strong = rising.size - int(weaker)
        return int(self.inside[strong - 1]) if strong else 0


def outside_above(
    ordered: NDArray[np.floating], thresholds: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Voxels of the whole map stronger than each threshold."""
    return ordered.size - np.searchsorted(ordered, thresholds, side="right").astype(np.int64)
