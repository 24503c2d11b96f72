"""How much of a segment lies among the strongest voxels of a map, for every share of the image.

The cumulative gains curve of classification for a map: it shows, for example, that the strongest
5 % of the image hold 80 % of the tumour. Chance is the diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.comparison.agreement import checked_map
from SaliencyExplain.comparison.ranking import Ranking, outside_above
from SaliencyExplain.results.agreement_curve import AgreementCurve

#: Steps along either axis where the curve bends too often to keep every bend: a small segment's
#: curve is all in its steep beginning, which even steps of the image's share alone would miss.
STEPS = 100


def curve(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> AgreementCurve:
    """How much of a segment lies in the strongest share q of the image, for all q.

    Voxels are ranked by signed value, as for AUROC. Of voxels of equal value a share q takes
    each alike: the curve is straight across them, and a constant map gives the diagonal. Every
    point is exact; where the curve has more bends than points, the points stand at even steps of
    either axis. With s the segment's share of the image, the area under the curve is
    ``s / 2 + (1 - s) * AUROC``.

    Args:
        values: The map, (*S) with 2 or 3 axes, finite, positive = speaks for the class.
        mask: The segment, same shape.

    Raises:
        InputError: The map has non-finite values, or the shapes differ.
    """
    (found,) = curves(values, [mask])
    return found


def curves(
    values: NDArray[np.floating],
    masks: Sequence[NDArray[np.bool_]],
    seen: NDArray[np.bool_] | None = None,
) -> list[AgreementCurve]:
    """The `curve` of one map against each of several segments, sorting the map once.

    Args:
        values: See `curve`.
        masks: The segments.
        seen: ``(*S)``, the voxels that the network saw, which then are the image; None: all.

    Raises:
        InputError: As `curve`.
    """
    values = checked_map(values, masks, seen=seen)
    if seen is not None and seen.any():
        values, masks = values[seen], [mask[seen] for mask in masks]
    ordered = np.sort(values, axis=None)
    return [_curve(values, ordered, mask.astype(bool, copy=False)) for mask in masks]


def _curve(
    values: NDArray[np.floating], ordered: NDArray[np.floating], mask: NDArray[np.bool_]
) -> AgreementCurve:
    if not mask.any():
        return AgreementCurve((), ())
    ranking = Ranking.of(values, ordered, mask)
    # Between two values that occur in the segment the curve is level, across one it is straight:
    # it bends only where a value of the segment begins or ends.
    before = np.concatenate([[0], ranking.inside[:-1]])
    begins = outside_above(ordered, ranking.thresholds)
    image = np.stack([begins, ranking.selected], axis=1).ravel() / ordered.size
    segment = np.stack([before, ranking.inside], axis=1).ravel() / ranking.segment_voxels
    image = np.concatenate([[0.0], image, [1.0]])
    segment = np.concatenate([[0.0], segment, [1.0]])
    points = np.stack([image, segment], axis=1)
    bends = points[np.concatenate([[True], np.any(np.diff(points, axis=0) > 0, axis=1)])]
    if len(bends) > 2 * STEPS + 1:
        bends = _at_even_steps(bends)
    return AgreementCurve(tuple(bends[:, 0].tolist()), tuple(bends[:, 1].tolist()))


def _at_even_steps(bends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of the curve through ``bends`` (B, 2) at even steps of either axis."""
    steps = np.linspace(0.0, 1.0, STEPS + 1)
    along_image = np.stack([steps, np.interp(steps, bends[:, 0], bends[:, 1])], axis=1)
    # np.interp does not give the ends of the curve's level parts: each step along the
    # segment stands at the smallest share of the image that holds so much of the segment.
    after = np.maximum(np.searchsorted(bends[:, 1], steps, side="left"), 1)
    (low_image, low), (high_image, high) = bends[after - 1].T, bends[after].T
    way = np.divide(steps - low, high - low, out=np.zeros_like(steps), where=high > low)
    along_segment = np.stack([low_image + way * (high_image - low_image), steps], axis=1)
    points = np.concatenate([along_image, along_segment])
    return np.unique(points, axis=0)
