"""Corrections for many tests at once, and the intervals that go with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

#: Level at and below which a corrected p-value counts as a difference.
SIGNIFICANCE = 0.05

#: An end of an interval that lies at zero without holding it.
_BESIDE_ZERO = 1e-9


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979, A simple sequentially rejective procedure).

    Args:
        p_values: In any order; NaN ones were not tested, count to no number of tests, and
            stay NaN.

    Returns:
        The corrected values in the same order, at most 1.
    """
    known = [place for place, value in enumerate(p_values) if not math.isnan(value)]
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(known, key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(known) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def simultaneous_interval(
    estimate: float,
    interval: Callable[[float], tuple[float, float]],
    p_holm: float,
    tests: int,
) -> tuple[float, float]:
    """One of several intervals that hold together with 95 % confidence.

    Each is taken at the level of Bonferroni's correction. Holm's procedure rejects more; where it
    excludes zero from an interval that would hold it, the interval ends beside zero (Strassburger
    and Bretz 2008, Compatible simultaneous lower confidence bounds for the Holm procedure).

    Args:
        estimate: What was found.
        interval: The interval of one test at a level, zero outside exactly where the test's
            p-value is at most 1 minus the level.
        p_holm: The test's p-value, corrected by :func:`holm`; NaN where it was not tested.
        tests: How many tests there are.

    Returns:
        Both ends, infinite where the cases are too few for an end; zero is outside exactly where
        ``p_holm`` is at most :data:`SIGNIFICANCE`. NaN where there are too few for any.
    """
    if math.isnan(p_holm):
        return math.nan, math.nan
    low, high = interval(1 - SIGNIFICANCE / tests)
    if p_holm <= SIGNIFICANCE and not (low > 0 or high < 0):
        beside = min(_BESIDE_ZERO, abs(estimate))
        if estimate > 0:
            return beside, high if high > 0 else math.inf
        return low if low < 0 else -math.inf, -beside
    return low, high
