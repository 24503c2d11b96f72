"""Paired comparison of methods on the same cases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from SaliencyExplain.comparison.sign_flip import PairedDifference
from SaliencyExplain.evaluation.study.corrections import (
    SIGNIFICANCE,
    holm,
    simultaneous_interval,
)
from SaliencyExplain.evaluation.study.study_metrics import MetricValues
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.records import control_names

#: Smallest difference of interest of a metric from 0 to 1, and of a distance in mm.
SMALLEST_DIFFERENCE, SMALLEST_DIFFERENCE_MM = 0.05, 5.0

#: Answers of a comparison of the first method with the second: higher or lower by at least the
#: smallest difference of interest; a significant but smaller difference; equal up to the smallest
#: difference of interest; no significant difference; too few cases for a test.
Answer = Literal["higher", "lower", "small", "equal", "open", "untested"]


@dataclass(frozen=True)
class Pair:
    """Two methods, or a method and a control map, in one metric.

    Attributes:
        metric: Name of the metric.
        segment: The segment it is about; empty for a metric of an evaluation.
        first: Label of one method or control map.
        second: Label of the other.
        difference: Mean over the cases of first minus second.
        low: Lower end of its interval. The intervals of all pairs of this metric and segment
            hold together with 95 % confidence; zero is outside exactly where ``p_holm`` is at
            most 0.05. NaN where the cases are too few.
        high: Upper end.
        p_value: Of the paired test of the mean, two-sided; NaN with fewer than two cases.
        p_holm: The same, corrected for all pairs of this metric and segment (Holm 1979).
        cases: Cases in which both are defined.
        smallest: Smallest difference that is of interest, 0 or more.
        answer: What that says of the first against the second.
        better: Label of the one that is better by as much as is of interest; empty where
            neither is.
    """

    metric: str
    segment: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    cases: int
    smallest: float
    answer: Answer
    better: str


def compare_methods(
    values: Sequence[MetricValues],
    *,
    smallest: Mapping[str, float] = {},
    progress: Progress = silent,
) -> list[Pair]:
    """Compares each pair of methods, and each method with the control maps, in each metric.

    Test and interval are of one statistic, the mean of the differences case by case
    (:class:`~SaliencyExplain.comparison.sign_flip.PairedDifference`). The correction is for all
    pairs of one metric and segment: the metrics are many views of one thing, and a reader looks
    at one at a time. Their intervals hold together
    (:func:`~SaliencyExplain.evaluation.study.corrections.simultaneous_interval`). The control
    maps are not compared with each other.

    Args:
        values: The metrics by method and case.
        smallest: ``{metric: smallest difference of interest}``, where it is not
            :data:`SMALLEST_DIFFERENCE`, or :data:`SMALLEST_DIFFERENCE_MM` of a distance.
        progress: Told after each metric; may raise Cancelled.
    """
    pairs: list[Pair] = []
    for number, metric in enumerate(values, start=1):
        named = [
            pair
            for pair in itertools.combinations(metric.values, 2)
            if set(pair) - set(control_names.NAMES)
        ]
        measured = [_differences(metric, first, second) for first, second in named]
        p_values = [one.p_value for one in measured]
        tests = sum(not math.isnan(p_value) for p_value in p_values)
        corrected = holm(p_values)
        of_interest = smallest.get(metric.metric, default_smallest(metric.metric))
        for (first, second), one, p_value, p_holm in zip(
            named, measured, p_values, corrected, strict=True
        ):
            low, high = simultaneous_interval(one.mean, one.interval, p_holm, tests)
            answer = _answer(one.mean, low, high, p_holm, of_interest)
            better = ""
            if answer in ("higher", "lower"):
                better = first if (answer == "higher") != metric.less_is_better else second
            pairs.append(
                Pair(
                    metric=metric.metric,
                    segment=metric.segment,
                    first=first,
                    second=second,
                    difference=one.mean,
                    low=low,
                    high=high,
                    p_value=p_value,
                    p_holm=p_holm,
                    cases=one.cases,
                    smallest=of_interest,
                    answer=answer,
                    better=better,
                )
            )
        progress(number, len(values))
    return pairs


def default_smallest(metric: str) -> float:
    """The smallest difference of interest of a metric for which none was chosen."""
    return SMALLEST_DIFFERENCE_MM if metric.endswith("_mm") else SMALLEST_DIFFERENCE


def _differences(metric: MetricValues, first: str, second: str) -> PairedDifference:
    one, other = metric.values[first], metric.values[second]
    return PairedDifference.of(one[case] - other[case] for case in one if case in other)


def _answer(mean: float, low: float, high: float, p_holm: float, smallest: float) -> Answer:
    if math.isnan(low):
        return "untested"
    if p_holm <= SIGNIFICANCE and abs(mean) >= smallest:
        return "higher" if mean > 0 else "lower"
    if -smallest < low and high < smallest:
        return "equal"
    return "small" if p_holm <= SIGNIFICANCE else "open"
