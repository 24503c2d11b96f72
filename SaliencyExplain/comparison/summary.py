"""What a table says over a study: means, intervals and the difference from the control maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from SaliencyExplain.comparison.bootstrap import Interval, confidence_interval
from SaliencyExplain.comparison.sign_flip import PairedDifference
from SaliencyExplain.records import control_names
from SaliencyExplain.records.agreement_row import FIGURES, Row

ALL_TARGETS = "all"
"""Stands in `Summary.target` where the rows of all classes went in."""

LESS_IS_BETTER: frozenset[str] = frozenset(figure for figure in FIGURES if figure.endswith("_mm"))
"""Figures that are distances: a method beats a control map where the difference is negative."""


@dataclass(frozen=True)
class Summary:
    """One figure of one method for one segment, over the cases of a study.

    Attributes:
        method: Label of the attribution, or a control map.
        target: Name of the class, or `ALL_TARGETS`.
        segment: Name of the segment.
        figure: Name of the figure, a column of the table.
        interval: Mean and confidence interval over the cases.
        against: ``{control map: interval}`` of the difference method minus control map, case by
            case, over the cases where both are defined, by inversion of the paired test
            (:class:`~SaliencyExplain.comparison.sign_flip.PairedDifference`). Empty for the
            control maps themselves and for the chance levels, which are the segment's own.
    """

    method: str
    target: str
    segment: str
    figure: str
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
        if self.figure in LESS_IS_BETTER:
            return difference.high < 0
        return difference.low > 0


def summarise(
    rows: Iterable[Row],
    *,
    by_target: bool = False,
    figures: Sequence[str] = FIGURES,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Summary, ...]:
    """Summarises a table by method, segment and figure.

    A case that explains several classes counts once: its rows are averaged first, since they
    are of one patient and not independent.

    Args:
        rows: The rows of the table.
        by_target: Whether each class has summaries of its own, else all classes go in together.
        figures: The figures wanted.
        level: Confidence level.
        resamples: Resamples of the bootstrap of the means.
        seed: Seed of the bootstrap.

    Returns:
        The summaries, in the order in which method, class and segment first occur.
    """
    cases: dict[tuple[str, str, str], dict[str, list[Row]]] = {}
    for row in rows:
        group = (row.method, row.target if by_target else ALL_TARGETS, row.segment)
        cases.setdefault(group, {}).setdefault(row.case, []).append(row)

    summaries = []
    for (method, target, segment), own in cases.items():
        others = {
            name: cases[name, target, segment]
            for name in control_names.NAMES
            if method not in control_names.NAMES and (name, target, segment) in cases
        }
        for figure in figures:
            values = _by_case(own, figure)
            against = {}
            for name, other in others.items():
                theirs = _by_case(other, figure)
                if not figure.startswith("energy_chance"):
                    differences = [values[case] - theirs[case] for case in values if case in theirs]
                    against[name] = _paired(PairedDifference.of(differences), level)
            interval = confidence_interval(
                values.values(), level=level, resamples=resamples, seed=seed
            )
            summaries.append(Summary(method, target, segment, figure, interval, against))
    return tuple(summaries)


def _paired(found: PairedDifference, level: float) -> Interval:
    low, high = found.interval(level)
    return Interval(found.mean, low, high, found.cases, found.dropped, level)


def _by_case(cases: Mapping[str, Sequence[Row]], figure: str) -> dict[str, float]:
    """One value per case: the mean of its defined ones, NaN where it has none."""
    found = {}
    for case, rows in cases.items():
        values = [getattr(row.agreement, figure) for row in rows]
        defined = [value for value in values if not np.isnan(value)]
        found[case] = float(np.mean(defined)) if defined else float("nan")
    return found
