"""Whether the energy in a segment goes with its size, or with what the classifier says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from SaliencyExplain.study.evaluation.finished import FinishedCase

#: Cases without which a rank correlation says nothing: of four, one order in 24 is perfect.
LEAST_CASES = 5

SIZE, PROBABILITY = "size", "probability"


@dataclass(frozen=True)
class Correlation:
    """How a method's energy in a segment goes with another quantity.

    Attributes:
        method: Label of the map, or a yardstick.
        segment: Name of the segment.
        quantity: ``size`` (the segment's volume in ml, or its area in cm²) or ``probability``
            (what the classifier gives the explained class).
        coefficient: Spearman's rank correlation, [-1, 1]; NaN with fewer than five cases or
            where one of the two does not vary.
        low: Lower end of its 95 % bootstrap interval over the cases (percentiles).
        high: Upper end.
        p_value: Of the hypothesis that they are unrelated, two-sided.
        cases: Cases in which both are defined.
    """

    method: str
    segment: str
    quantity: str
    coefficient: float
    low: float
    high: float
    p_value: float
    cases: int


def biomarker_table(cases: Sequence[FinishedCase], *, seed: int = 0) -> list[Correlation]:
    """Correlates the energy inside each segment with its size and with the probability.

    The yardsticks are in it: a random map's energy grows with the segment, too.
    """
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for case in cases:
        voxels = math.prod(case.shape)
        for row in case.rows:
            size = row.agreement.energy_chance * voxels * case.voxel_size
            found.setdefault((row.method, row.segment), []).append(
                (row.agreement.energy_inside, size, case.probability)
            )
    table = []
    for (method, segment), values in found.items():
        energy, *others = np.array(values).T
        for quantity, other in zip((SIZE, PROBABILITY), others, strict=True):
            known = np.isfinite(energy) & np.isfinite(other)
            table.append(
                Correlation(
                    method,
                    segment,
                    quantity,
                    *rank_correlation(energy[known], other[known], seed=seed),
                    int(known.sum()),
                )
            )
    return table


def rank_correlation(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float, float]:
    """Spearman's coefficient, its 95 % bootstrap interval and its p-value; NaN where undefined.

    Args:
        first: ``(N,)``, finite.
        second: The same shape.
        resamples: How many times the cases are drawn anew.
        seed: Of the draws.
    """
    if first.size < LEAST_CASES or np.ptp(first) == 0 or np.ptp(second) == 0:
        return (math.nan,) * 4
    found = stats.spearmanr(first, second)
    draws = np.random.default_rng(seed).integers(0, first.size, (resamples, first.size))
    drawn = _correlations(first[draws], second[draws])
    # A draw of a single case over and over has no correlation.
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return float(found.statistic), float(low), float(high), float(found.pvalue)


def _correlations(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's coefficient of each row."""
    one, other = (stats.rankdata(values, axis=1) for values in (first, second))
    one -= one.mean(axis=1, keepdims=True)
    other -= other.mean(axis=1, keepdims=True)
    spread = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=1) / np.where(spread > 0, spread, np.nan)
