"""What a table says over a study: means, intervals and the difference from the control maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from SaliencyExplain.comparison.bootstrap import Interval, confidence_interval
from SaliencyExplain.comparison.sign_flip import PairedDifference
from SaliencyExplain.records import control_names
from SaliencyExplain.records.agreement_row import METRICS, Row

#: Confidence level of all intervals.
_LEVEL = 0.95

LESS_IS_BETTER: frozenset[str] = frozenset(metric for metric in METRICS if metric.endswith("_mm"))
"""Metrics that are distances: a method beats a control map where the difference is negative."""


@dataclass(frozen=True)
class Summary:
    """One metric of one method for one segment, over the cases of a study.

    Attributes:
        method: Label of the attribution, or a control map.
        segment: Name of the segment.
        metric: Name of the metric, a column of the table.
        interval: Mean and confidence interval over the cases.
        against: ``{control map: interval}`` of the difference method minus control map, case by
            case, over the cases where both are defined, by inversion of the paired test
            (:class:`~SaliencyExplain.comparison.sign_flip.PairedDifference`). Empty for the
            control maps themselves and for the chance levels, which are the segment's own.
    """

    method: str
    segment: str
    metric: str
    interval: Interval
    against: Mapping[str, Interval]

    def beats(self, control_map: str) -> bool | None:
        """Whether the whole interval of the difference is on the better side of zero.

        Returns:
            True or False, or None where the control map was measured in too few cases for an
            interval (at 95 %: fewer than six).
        """
        difference = self.against.get(control_map)
        if difference is None or np.isnan(difference.low):
            return None
        if self.metric in LESS_IS_BETTER:
            return difference.high < 0
        return difference.low > 0


def summarise(rows: Iterable[Row], *, metrics: Sequence[str] = METRICS) -> tuple[Summary, ...]:
    """Summarises a table by method, segment and metric.

    The rows of all classes are summarised together. A case that explains several classes counts
    once: its rows are averaged first, since they are of one patient and not independent.

    Args:
        rows: The rows of the table.
        metrics: The metrics wanted.

    Returns:
        The summaries, in the order in which method and segment first occur.
    """
    cases: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        cases.setdefault((row.method, row.segment), {}).setdefault(row.case, []).append(row)

    summaries = []
    for (method, segment), own in cases.items():
        others = {
            name: cases[name, segment]
            for name in control_names.NAMES
            if method not in control_names.NAMES and (name, segment) in cases
        }
        for metric in metrics:
            values = _by_case(own, metric)
            against = {}
            for name, other in others.items():
                theirs = _by_case(other, metric)
                if not metric.startswith("energy_chance"):
                    differences = [values[case] - theirs[case] for case in values if case in theirs]
                    against[name] = _paired(PairedDifference.of(differences))
            interval = confidence_interval(values.values(), level=_LEVEL)
            summaries.append(Summary(method, segment, metric, interval, against))
    return tuple(summaries)


def _paired(found: PairedDifference) -> Interval:
    low, high = found.interval(_LEVEL)
    return Interval(found.mean, low, high, found.cases, found.dropped, _LEVEL)


def _by_case(cases: Mapping[str, Sequence[Row]], metric: str) -> dict[str, float]:
    """One value per case: the mean of its defined ones, NaN where it has none."""
    found = {}
    for case, rows in cases.items():
        values = [getattr(row.agreement, metric) for row in rows]
        defined = [value for value in values if not np.isnan(value)]
        found[case] = float(np.mean(defined)) if defined else float("nan")
    return found
