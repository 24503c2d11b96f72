"""Bootstrap confidence intervals of a mean over cases."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from SaliencyExplain.errors import ErrorCode, InputError

_BATCH_NUMBERS = 2_000_000
#: Largest number of resamples; it gives the ends to about a thousandth of the interval.
_MOST_RESAMPLES = 1_000_000


@dataclass(frozen=True)
class Interval:
    """The mean of a metric over cases, with its confidence interval.

    Attributes:
        mean: The mean; NaN without a value.
        low: Lower end of the interval; NaN with fewer than two values.
        high: Upper end; NaN with fewer than two values.
        count: Values that went in.
        dropped: Values that were NaN, hence left out.
        level: The confidence level, such as 0.95.
    """

    mean: float
    low: float
    high: float
    count: int
    dropped: int
    level: float


def check_level(level: float) -> None:
    """Raises InputError where a confidence level is not within (0, 1)."""
    if not 0 < level < 1:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"Confidence level: {level} is not valid. Give a number between 0 and 1.",
        )


def confidence_interval(
    values: Iterable[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean (Efron and Tibshirani 1993, chapter 13).

    By ``scipy.stats.bootstrap``. Percentile rather than BCa: its ends never leave the range of
    the values, it is defined where a case repeats, and BCa's jackknife needs the square of the
    number of cases. It is narrow with few cases (ten or fewer): read it with the count.

    Args:
        values: A value per case; NaN ones are dropped and counted.
        level: Confidence level, in (0, 1).
        resamples: How many times the cases are drawn anew.
        seed: The same seed and values give the same interval.

    Returns:
        The interval; both ends equal the mean where all values are equal.

    Raises:
        InputError: The level is outside (0, 1), or the resamples are not 1 to a million.
    """
    check_level(level)
    if not 1 <= resamples <= _MOST_RESAMPLES:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"A bootstrap needs 1 to {_MOST_RESAMPLES} resamples.",
        )
    given = np.array(list(values), dtype=np.float64)
    kept = given[~np.isnan(given)]
    dropped = given.size - kept.size
    if kept.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0, dropped, level)
    if kept.size == 1:
        return Interval(float(kept[0]), math.nan, math.nan, 1, dropped, level)
    if (kept == kept[0]).all():
        # The mean of n equal numbers may differ from them in the last digit.
        same = float(kept[0])
        return Interval(same, same, same, kept.size, dropped, level)
    result = stats.bootstrap(
        (kept,),
        np.mean,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BATCH_NUMBERS // kept.size),
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(float(kept.mean()), float(low), float(high), kept.size, dropped, level)
