"""How similar two maps are, for sanity, stability and agreement."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from skimage.metrics import structural_similarity

from SaliencyExplain.results.map_changes import Similarity

#: Share of the strongest voxels whose overlap is computed; these are visible in a heat map.
TOP_SHARE = 0.1

#: Side of the window of the structural similarity, voxels; as scikit-image's default.
_WINDOW = 7


def similarity(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    body: NDArray[np.bool_] | None = None,
) -> Similarity:
    """Compares two maps of one grid.

    Args:
        first: ``(*S)``, two or three axes, finite.
        second: The same shape.
        body: ``(*S)``; the rank correlations and the overlap are those of its voxels: the air
            around a head is alike in any two maps.

    Returns:
        The figures. A constant map is like nothing: all figures are NaN.
    """
    inside = (first, second) if body is None else (first[body], second[body])
    one, other = (values.ravel().astype(np.float64) for values in inside)
    if one.size < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return Similarity(*[math.nan] * 4)
    signed = bool(one.min() < 0 or other.min() < 0)
    correlation = _rank_correlation(one, other)
    return Similarity(
        rank_correlation=correlation,
        rank_correlation_absolute=(
            _rank_correlation(np.abs(one), np.abs(other)) if signed else correlation
        ),
        ssim=_ssim(first, second),
        overlap=_overlap(one, other),
    )


def _rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    # Pearson's correlation of the ranks, since scipy's Spearman also computes a p-value.
    ranks = np.stack([stats.rankdata(one), stats.rankdata(other)])
    return float(np.corrcoef(ranks)[0, 1])


def _ssim(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    window = min(_WINDOW, *first.shape)
    window -= 1 - window % 2
    if window < 3:
        return math.nan
    one, other = (values.astype(np.float64) / np.abs(values).max() for values in (first, second))
    ends = max(one.max(), other.max()) - min(one.min(), other.min())
    return float(structural_similarity(one, other, win_size=window, data_range=ends))


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    first, second = _strongest(one), _strongest(other)
    return float((first & second).sum() / max(first.sum(), second.sum()))


def _strongest(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The strongest tenth, without voxels equal to the threshold if others remain.

    For a map with few non-zero voxels these are returned, and none of its zeros.
    """
    count = max(1, round(TOP_SHARE * values.size))
    border = np.partition(values, values.size - count)[values.size - count]
    if np.count_nonzero(values >= border) == count:
        return values >= border
    above = values > border
    return above if above.any() else values >= border
