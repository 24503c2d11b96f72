"""Methods held against each other on the same cases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from SaliencyExplain.comparison.bootstrap import confidence_interval
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.study.evaluation.figures import FigureValues

#: Level below which a corrected p-value counts as a difference.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Pair:
    """Two methods in one figure.

    Attributes:
        figure: Name of the figure.
        segment: The segment it is about; empty for a figure of a trial.
        first: Label of one method or yardstick.
        second: Label of the other.
        difference: Mean over the cases of first minus second.
        low: Lower end of its 95 % bootstrap interval over the cases; NaN with fewer than two.
        high: Upper end.
        p_value: Of Wilcoxon's signed-rank test, two-sided; NaN with fewer than two cases.
        p_holm: The same, corrected for all pairs of this figure and segment (Holm 1979).
        cases: Cases in which both are defined.
        better: Label of the one that is better by the corrected test; empty where neither is.
    """

    figure: str
    segment: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    cases: int
    better: str


def compare_methods(
    values: Sequence[FigureValues], *, seed: int = 0, progress: Progress = silent
) -> list[Pair]:
    """Compares each pair of methods, the yardsticks included, in each figure.

    The interval is :func:`SaliencyExplain.comparison.bootstrap.confidence_interval`, the test
    ``scipy.stats.wilcoxon``. The correction is for all pairs of one figure and segment: the
    figures are many views of one thing, and a reader looks at one at a time.

    Args:
        values: The figures by method and case.
        seed: Of the bootstrap.
        progress: Told after each figure; may raise Cancelled.
    """
    pairs: list[Pair] = []
    for number, figure in enumerate(values, start=1):
        measured = [
            _measure(figure, first, second, seed)
            for first, second in itertools.combinations(figure.values, 2)
        ]
        corrected = holm([one["p_value"] for one in measured])
        for (first, second), one, p_holm in zip(
            itertools.combinations(figure.values, 2), measured, corrected, strict=True
        ):
            better = ""
            if p_holm < SIGNIFICANCE and one["difference"] != 0:
                better = first if (one["difference"] > 0) != figure.less_is_better else second
            pairs.append(
                Pair(
                    figure=figure.figure,
                    segment=figure.segment,
                    first=first,
                    second=second,
                    difference=one["difference"],
                    low=one["low"],
                    high=one["high"],
                    p_value=one["p_value"],
                    p_holm=p_holm,
                    cases=int(one["cases"]),
                    better=better,
                )
            )
        progress(number, len(values))
    return pairs


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


def _measure(figure: FigureValues, first: str, second: str, seed: int) -> Mapping[str, float]:
    one, other = figure.values[first], figure.values[second]
    both = np.array([one[case] - other[case] for case in one if case in other])
    known = both[np.isfinite(both)]
    interval = confidence_interval(known, seed=seed)
    p_value = math.nan
    if known.size > 1:
        # Differences of equal figures in another order of summation are rounding, not ranks.
        ranked = np.where(np.abs(known) < 1e-12, 0.0, known)
        p_value = float(stats.wilcoxon(ranked).pvalue) if ranked.any() else 1.0
    return {
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "p_value": p_value,
        "cases": float(known.size),
    }
