"""The metrics of a study by case: of the comparison, and of the evaluation where there is one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from SaliencyExplain.comparison.summary import LESS_IS_BETTER
from SaliencyExplain.evaluation.study.finished_study import FinishedCase
from SaliencyExplain.records.agreement_row import FIGURES

#: Figures of the comparison in which methods are held against each other: not the chance
#: level, which is the segment's own, and not the upper bound over all thresholds.
COMPARED = tuple(
    name for name in FIGURES if name not in ("energy_chance", "dice_best", "iou_equal_volume")
)


@dataclass(frozen=True)
class FigureValues:
    """One figure of all methods over the cases.

    Attributes:
        figure: Its name, as in ``comparison.csv`` or in ``evaluation.json``.
        segment: The segment that it is about; empty for a figure of an evaluation.
        less_is_better: Whether the smaller value is the better one.
        values: ``{method: {case: value}}``, the control maps among the methods; NaN where a
            figure is undefined.
    """

    figure: str
    segment: str
    less_is_better: bool
    values: Mapping[str, Mapping[str, float]]


def figure_values(cases: Iterable[FinishedCase]) -> list[FigureValues]:
    """All figures of a study, those of the comparison first."""
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    less_is_better = set(LESS_IS_BETTER)
    for case in cases:
        for figure, segment, method, value in [*_compared(case), *_evaluated(case)]:
            by_method = found.setdefault((segment, figure), {})
            by_method.setdefault(method, {})[case.case] = value
        for _, faithfulness in evaluated_maps(case):
            figures = faithfulness["figures"]
            less_is_better |= {one["name"] for one in figures if not one["higher_is_better"]}
    return [
        FigureValues(figure, segment, figure in less_is_better, values)
        for (segment, figure), values in found.items()
        if any(not math.isnan(v) for by_case in values.values() for v in by_case.values())
    ]


def evaluated_maps(case: FinishedCase) -> Iterator[tuple[str, dict[str, Any]]]:
    """Label and faithfulness of each map of a case whose faithfulness was evaluated."""
    for one in (case.evaluation or {}).get("maps", []):
        if one.get("faithfulness") is not None:
            yield one["label"], one["faithfulness"]


def number_of(value: float | None) -> float:
    """A figure out of a JSON document, where null stands for undefined."""
    return math.nan if value is None else float(value)


def _compared(case: FinishedCase) -> Iterator[tuple[str, str, str, float]]:
    for row in case.rows:
        for figure in COMPARED:
            yield figure, row.segment, row.method, getattr(row.agreement, figure)


def _evaluated(case: FinishedCase) -> Iterator[tuple[str, str, str, float]]:
    own = dict(evaluated_maps(case))
    for label, faithfulness in own.items():
        for one in faithfulness["figures"]:
            yield one["name"], "", label, number_of(one["value"])
    if "random" not in own:
        # Each map has null maps of its own.
        chance: dict[str, list[float]] = {}
        for faithfulness in own.values():
            for one in faithfulness["figures"]:
                its = [value for value in one["chance"] if value is not None]
                chance.setdefault(one["name"], []).extend(its)
        for name, values in chance.items():
            yield name, "", "random", float(np.mean(values)) if values else math.nan
    # The control maps of a case are the same for all maps.
    for faithfulness in list(own.values())[:1]:
        for one in faithfulness["figures"]:
            if "centre" not in own:
                yield one["name"], "", "centre", number_of(one["centre"])
