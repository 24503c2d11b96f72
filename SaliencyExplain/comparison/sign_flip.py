"""A paired test of a mean difference, and the confidence interval that belongs to it."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from SaliencyExplain.comparison.bootstrap import check_level

#: Up to so many cases all signs are tried; 2 ** 14 subsets take less than a millisecond.
EXACT_CASES = 14

#: Differences of this size are rounding: equal numbers summed in another order.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedDifference:
    """The differences of two measurements of the same cases.

    Up to :data:`EXACT_CASES` cases the test is the exact sign-flip test of the mean (Fisher 1935,
    The design of experiments, section 21): under the null hypothesis each difference is as
    likely as its negative. Its interval is that of Hartigan (1969, Using subsample values as
    typical values): the means of all subsets of the cases, in order, are the shifts at which the
    test's p-value changes, so the interval holds just the shifts that the test does not reject.
    With more cases both are Student's, which the sign-flip test approaches. Both are exact where
    the differences are distributed symmetrically, and hold in the limit of many cases otherwise.

    Attributes:
        values: ``(N,)``, finite; those within rounding of zero are zero.
        dropped: Differences that were not finite, hence left out.
    """

    values: NDArray[np.float64]
    dropped: int = 0

    @classmethod
    def of(cls, differences: Iterable[float]) -> PairedDifference:
        """The differences of the cases, without those that are NaN."""
        given = np.array(list(differences), dtype=np.float64)
        kept = given[np.isfinite(given)]
        return cls(np.where(np.abs(kept) <= _ROUNDING, 0.0, kept), given.size - kept.size)

    @property
    def cases(self) -> int:
        """How many differences there are."""
        return int(self.values.size)

    @property
    def mean(self) -> float:
        """Their mean; NaN without any."""
        if not self.cases:
            return math.nan
        # The mean of n equal numbers may differ from them in the last digit.
        first = float(self.values[0])
        return first if (self.values == first).all() else float(self.values.mean())

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the hypothesis that the mean is zero; NaN with fewer than two cases.

        It is never below ``2 ** (1 - N)``, the least that N signs allow.
        """
        if self.cases < 2:
            return math.nan
        least = 2.0 ** (1 - self.cases)
        if self.cases <= EXACT_CASES:
            means = self._subset_means
            tail = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
            return min(1.0, least * (1 + tail))
        error = self._standard_error
        if error == 0:
            return 1.0 if self.mean == 0 else least
        return max(least, 2 * float(stats.t.sf(abs(self.mean) / error, self.cases - 1)))

    def interval(self, level: float) -> tuple[float, float]:
        """The means that the test does not reject at ``1 - level``.

        Zero lies outside of it exactly where :attr:`p_value` is at most ``1 - level``.

        Args:
            level: Confidence level, in (0, 1).

        Returns:
            Both ends; NaN where the cases are too few to reject any mean at this level.

        Raises:
            InputError: The level is outside (0, 1).
        """
        check_level(level)
        # Rounded: 1 - 0.95 is a little more than 0.05, and half of it then rejects too much.
        tail = round(1 - level, 12) / 2
        if self.cases < 2 or tail < 2.0**-self.cases:
            return math.nan, math.nan
        if self.cases <= EXACT_CASES:
            rank = math.floor(tail * 2**self.cases)
            means = self._subset_means
            return float(means[rank - 1]), float(means[-rank])
        reach = float(stats.t.isf(tail, self.cases - 1)) * self._standard_error
        return self.mean - reach, self.mean + reach

    @functools.cached_property
    def _subset_means(self) -> NDArray[np.float64]:
        """Means of all subsets but the empty one, rising."""
        means = np.sort(_subsets(self.cases) @ self.values)
        return np.where(np.abs(means) <= _ROUNDING, 0.0, means)

    @property
    def _standard_error(self) -> float:
        spread = float(self.values.std(ddof=1))
        # The spread of equal numbers is rounding.
        known = spread > _ROUNDING * max(1.0, float(np.abs(self.values).max()))
        return spread / math.sqrt(self.cases) if known else 0.0


@functools.lru_cache(maxsize=2)
def _subsets(cases: int) -> NDArray[np.float64]:
    """The weights of each subset's mean, ``(2 ** cases - 1, cases)``."""
    members = (np.arange(1, 2**cases)[:, None] >> np.arange(cases)) & 1
    weights: NDArray[np.float64] = members / members.sum(axis=1, keepdims=True)
    return weights
