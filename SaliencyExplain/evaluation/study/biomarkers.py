"""Correlation of the energy in a segment with its size and with the class probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from SaliencyExplain.evaluation.study.corrections import (
    SIGNIFICANCE,
    holm,
    simultaneous_interval,
)
from SaliencyExplain.evaluation.study.finished_study import FinishedCase
from SaliencyExplain.records import control_names

#: Least number of cases for a rank correlation: with four, one order in 24 is perfect.
LEAST_CASES = 5

SIZE, PROBABILITY = "size", "probability"

#: Fisher's z of a perfect correlation is infinite.
_PERFECT = 1 - 1e-9

#: Factorials beyond it make a p-value that is zero for every purpose.
_MOST_FACTORIAL = 20


@dataclass(frozen=True)
class Correlation:
    """Correlation of a method's energy in a segment with another quantity.

    Attributes:
        method: Label of the map, or a control map.
        segment: Name of the segment.
        quantity: ``size`` (the segment's volume in ml, or its area in cm²) or ``probability``
            (of the explained class).
        coefficient: Spearman's rank correlation, [-1, 1]; NaN with fewer than five cases or
            where one of the two does not vary.
        low: Lower end of its interval. The intervals of all methods, segments and quantities hold
            together with 95 % confidence; zero is outside exactly where ``p_holm`` is at most
            0.05. Of a control map: its own 95 % interval. NaN where the cases are too few.
        high: Upper end.
        p_value: Of the hypothesis that they are unrelated, two-sided.
        p_holm: The same, corrected for all methods, segments and quantities (Holm 1979); NaN of
            a control map, which is not tested.
        cases: Cases in which both are defined.
    """

    method: str
    segment: str
    quantity: str
    coefficient: float
    low: float
    high: float
    p_value: float
    p_holm: float
    cases: int


def biomarker_table(cases: Sequence[FinishedCase]) -> list[Correlation]:
    """Correlates the energy inside each segment with its size and with the probability.

    Control maps are included: the energy of a random map also grows with the segment.
    """
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for case in cases:
        voxels = math.prod(case.shape)
        for row in case.rows:
            size = row.agreement.energy_chance * voxels * case.voxel_size
            found.setdefault((row.method, row.segment), []).append(
                (row.agreement.energy_inside, size, case.probability)
            )
    found_here: list[tuple[str, str, str, RankCorrelation]] = []
    for (method, segment), values in found.items():
        energy, *others = np.array(values).T
        for quantity, other in zip((SIZE, PROBABILITY), others, strict=True):
            known = np.isfinite(energy) & np.isfinite(other)
            one = RankCorrelation.of(energy[known], other[known])
            found_here.append((method, segment, quantity, one))
    tested = [
        math.nan if method in control_names.NAMES else one.p_value
        for method, _, _, one in found_here
    ]
    tests = sum(not math.isnan(p_value) for p_value in tested)
    table = []
    for (method, segment, quantity, one), p_holm in zip(found_here, holm(tested), strict=True):
        if method in control_names.NAMES:
            low, high = one.interval(1 - SIGNIFICANCE)
        else:
            low, high = simultaneous_interval(one.coefficient, one.interval, p_holm, tests)
        table.append(
            Correlation(
                method, segment, quantity, one.coefficient, max(low, -1.0), min(high, 1.0),
                one.p_value, p_holm, one.cases,
            )
        )  # fmt: skip
    return table


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of two quantities, with its test and interval.

    Both are of Fisher's z of the coefficient with the standard error of Bonett and Wright (2000,
    Sample size requirements for estimating Pearson, Kendall and Spearman correlations), so that
    zero is outside of the interval exactly where the test rejects it. Where nothing is related
    the test rejects in fewer cases than its level says, from five cases on.

    Attributes:
        coefficient: [-1, 1]; NaN with fewer than five cases, or where one does not vary.
        cases: How many cases there are.
    """

    coefficient: float
    cases: int

    @classmethod
    def of(cls, first: NDArray[np.float64], second: NDArray[np.float64]) -> RankCorrelation:
        """The correlation of two finite arrays of the same shape ``(N,)``."""
        if first.size < LEAST_CASES or np.ptp(first) == 0 or np.ptp(second) == 0:
            return cls(math.nan, first.size)
        return cls(float(stats.spearmanr(first, second).statistic), first.size)

    @property
    def p_value(self) -> float:
        """Two-sided; never below that of a perfect order, 2 in N factorial. NaN where undefined."""
        if math.isnan(self.coefficient):
            return math.nan
        least = 2 / math.factorial(min(self.cases, _MOST_FACTORIAL))
        return max(least, 2 * float(stats.norm.sf(abs(self._z) / self._error)))

    def interval(self, level: float) -> tuple[float, float]:
        """Both ends at a confidence level in (0, 1); NaN where the cases are too few for it."""
        tail = (1 - level) / 2
        if math.isnan(self.coefficient) or 2 * tail < 2 / math.factorial(
            min(self.cases, _MOST_FACTORIAL)
        ):
            return math.nan, math.nan
        reach = float(stats.norm.isf(tail)) * self._error
        return math.tanh(self._z - reach), math.tanh(self._z + reach)

    @property
    def _z(self) -> float:
        return math.atanh(min(max(self.coefficient, -_PERFECT), _PERFECT))

    @property
    def _error(self) -> float:
        return math.sqrt((1 + self.coefficient**2 / 2) / (self.cases - 3))
