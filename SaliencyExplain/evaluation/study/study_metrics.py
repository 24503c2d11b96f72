"""The metrics of a study by case: of the comparison, and of the evaluation where there is one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from SaliencyExplain.comparison.summary import LESS_IS_BETTER
from SaliencyExplain.evaluation.study.finished_study import FinishedCase
from SaliencyExplain.records.agreement_row import METRICS
from SaliencyExplain.results.map_faithfulness import Faithfulness

#: Metrics of the comparison in which methods are compared with each other: not the chance
#: level, which is the segment's own, and not the upper bound over all thresholds.
COMPARED = tuple(
    name for name in METRICS if name not in ("energy_chance", "dice_best", "iou_equal_volume")
)


@dataclass(frozen=True)
class MetricValues:
    """One metric of all methods over the cases.

    Attributes:
        metric: Its name, as in ``comparison.csv`` or in ``evaluation.json``.
        segment: The segment that it is about; empty for a metric of an evaluation.
        less_is_better: Whether the smaller value is the better one.
        values: ``{method: {case: value}}``, the control maps among the methods; NaN where a
            metric is undefined.
    """

    metric: str
    segment: str
    less_is_better: bool
    values: Mapping[str, Mapping[str, float]]


def metric_values(cases: Iterable[FinishedCase]) -> list[MetricValues]:
    """All metrics of a study, those of the comparison first."""
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    less_is_better = set(LESS_IS_BETTER)
    for case in cases:
        for metric, segment, method, value in [*_compared(case), *_evaluated(case)]:
            by_method = found.setdefault((segment, metric), {})
            by_method.setdefault(method, {})[case.case] = value
        for _, faithfulness in evaluated_maps(case):
            less_is_better |= {one.name for one in faithfulness.metrics if not one.higher_is_better}
    return [
        MetricValues(metric, segment, metric in less_is_better, values)
        for (segment, metric), values in found.items()
        if any(not math.isnan(v) for by_case in values.values() for v in by_case.values())
    ]


def evaluated_maps(case: FinishedCase) -> Iterator[tuple[str, Faithfulness]]:
    """Label and faithfulness of each map of a case whose faithfulness was evaluated."""
    for one in () if case.evaluation is None else case.evaluation.maps:
        if one.faithfulness is not None:
            yield one.label, one.faithfulness


def _compared(case: FinishedCase) -> Iterator[tuple[str, str, str, float]]:
    for row in case.rows:
        for metric in COMPARED:
            yield metric, row.segment, row.method, getattr(row.agreement, metric)


def _evaluated(case: FinishedCase) -> Iterator[tuple[str, str, str, float]]:
    own = dict(evaluated_maps(case))
    for label, faithfulness in own.items():
        for one in faithfulness.metrics:
            yield one.name, "", label, one.value
    if "random" not in own:
        # Each map has separate null maps.
        null_values: dict[str, list[float]] = {}
        for faithfulness in own.values():
            for one in faithfulness.metrics:
                its = [value for value in one.null_values if not math.isnan(value)]
                null_values.setdefault(one.name, []).extend(its)
        for name, values in null_values.items():
            yield name, "", "random", float(np.mean(values)) if values else math.nan
    # The control maps of a case are the same for all maps.
    for faithfulness in list(own.values())[:1]:
        for one in faithfulness.metrics:
            if "centre" not in own:
                yield one.name, "", "centre", one.centre
