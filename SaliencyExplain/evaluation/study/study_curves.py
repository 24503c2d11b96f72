"""The evaluations of single images taken together: mean curves and the table of their areas."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import integrate

from SaliencyExplain.comparison.bootstrap import Interval, confidence_interval
from SaliencyExplain.evaluation.image.answers import CHANCE_P
from SaliencyExplain.evaluation.image.information_curves import ENTROPIES, on_even_steps
from SaliencyExplain.evaluation.study.finished_study import FinishedCase
from SaliencyExplain.evaluation.study.study_metrics import evaluated_maps
from SaliencyExplain.results.evaluation_results import Metric
from SaliencyExplain.results.map_faithfulness import Faithfulness, InformationCurve

_Values = NDArray[np.float64]

#: Every how many of the 1001 steps of an information curve is kept.
_EVERY = 20


@dataclass(frozen=True)
class MeanCurve:
    """A curve averaged over the cases.

    Attributes:
        method: Label of the map.
        curve: ``deletion``, ``insertion``, or ``SIC`` or ``AIC`` with its entropy.
        x: Share of the voxels, or of the information; [0, 1], rising.
        mean: Mean over the cases, [0, 1].
        median: Median over the cases, as the published curves are drawn (Kapishnikov et al.
            2019).
        null_median: Mean over the cases of the null maps' median; empty for information curves,
            which are not computed for null maps.
        cases: Cases whose curve is defined.
    """

    method: str
    curve: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    median: tuple[float, ...]
    null_median: tuple[float, ...]
    cases: int

    @property
    def area_of_median(self) -> float:
        """Area under the median curve: the number that publications give."""
        return float(integrate.trapezoid(self.median, self.x))


@dataclass(frozen=True)
class StudyMetric:
    """One metric of the evaluations of one method, over the cases.

    Attributes:
        method: Label of the map.
        metric: Its name in ``evaluation.json``.
        title: Its name as people read it.
        higher_is_better: Whether a large value is good.
        value: Mean over the cases with its 95 % bootstrap interval.
        null_mean: Mean over the cases of the null maps' mean.
        centre: Mean over the cases of what a map that is bright in the middle has.
        beaten: Mean share of the null maps that are beaten.
        beats_chance: Share of the cases in which the map beats chance by itself (p at most
            0.05).
        area_of_median: Area under the median curve; NaN for metrics that are no such area.
    """

    method: str
    metric: str
    title: str
    higher_is_better: bool
    value: Interval
    null_mean: float
    centre: float
    beaten: float
    beats_chance: float
    area_of_median: float


def mean_curves(cases: Sequence[FinishedCase]) -> list[MeanCurve]:
    """The curves of all evaluations, averaged by method; empty where no map was evaluated."""
    found: dict[tuple[str, str], list[tuple[_Values, _Values, _Values]]] = defaultdict(list)
    for case in cases:
        for label, faithfulness in evaluated_maps(case):
            for name, x, y, chance in _curves(faithfulness):
                found[label, name].append((x, y, chance))
    curves = []
    for (label, name), own in found.items():
        # Evaluations of another version may have other shares; the first one's are kept.
        x = own[0][0]
        values = np.array([np.interp(x, its, y) for its, y, _ in own])
        chances = [np.interp(x, its, chance) for its, _, chance in own if len(chance)]
        curves.append(
            MeanCurve(
                method=label,
                curve=name,
                x=tuple(x.tolist()),
                mean=tuple(values.mean(axis=0).tolist()),
                median=tuple(np.median(values, axis=0).tolist()),
                null_median=tuple(np.mean(chances, axis=0).tolist()) if chances else (),
                cases=len(own),
            )
        )
    return curves


def study_metrics_table(cases: Sequence[FinishedCase], *, seed: int = 0) -> list[StudyMetric]:
    """The metrics of all evaluations by method and metric, beside the null maps."""
    found: dict[tuple[str, str], list[Metric]] = {}
    for case in cases:
        for label, faithfulness in evaluated_maps(case):
            for one in faithfulness.metrics:
                found.setdefault((label, one.name), []).append(one)
    areas = {(one.method, _metric_of(one.curve)): one.area_of_median for one in mean_curves(cases)}
    return [
        StudyMetric(
            method=label,
            metric=name,
            title=own[0].title,
            higher_is_better=own[0].higher_is_better,
            value=confidence_interval([one.value for one in own], seed=seed),
            null_mean=_mean([_mean(one.null_values) for one in own]),
            centre=_mean([one.centre for one in own]),
            beaten=_mean([one.beaten for one in own]),
            beats_chance=_mean(
                [float(one.p_value <= CHANCE_P) for one in own if not math.isnan(one.p_value)]
            ),
            area_of_median=areas.get((label, name), math.nan),
        )
        for (label, name), own in found.items()
    ]


def _curves(faithfulness: Faithfulness) -> Iterator[tuple[str, _Values, _Values, _Values]]:
    curves = faithfulness.curves
    shares = np.array(curves.shares)
    for name, values, band in (
        ("deletion", curves.deletion, faithfulness.null_deletion),
        ("insertion", curves.insertion, faithfulness.null_insertion),
    ):
        yield name, shares, np.array(values), np.array(band[1])
    kinds: tuple[tuple[str, dict[str, InformationCurve]], ...] = (
        ("SIC", curves.softmax_information),
        ("AIC", curves.accuracy_information),
    )
    for letters, of_entropy in kinds:
        for entropy in ENTROPIES:
            if not math.isnan(of_entropy[entropy].area):
                x, y = on_even_steps(of_entropy[entropy])
                yield f"{letters} {entropy}", x[::_EVERY], y[::_EVERY], np.empty(0)


def _metric_of(curve: str) -> str:
    """The name of the metric that is the area under a curve."""
    if " " in curve:
        return curve.lower().replace(" ", "_")
    return f"{curve}_area"


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
