"""Selection of the cases on which a study's methods are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.evaluation.study.finished_study import FinishedCase
from SaliencyExplain.evaluation.study.study_metrics import COMPARED, MetricValues
from SaliencyExplain.quantities import LENGTHS, SHARE, number_of


@dataclass(frozen=True)
class Selection:
    """The cases of the comparison, and the reason for leaving out others.

    Attributes:
        cases: The chosen cases.
        note: The cases left out, with the reason; empty if there are none.
    """

    cases: tuple[FinishedCase, ...]
    note: str = ""


def select_cases(cases: Sequence[FinishedCase], *, all_cases: bool = False) -> Selection:
    """Chooses the cases on which methods are compared.

    A map of another class than the case's own explains an error of the classifier, or why it did
    not predict that class; its evidence need not lie on the segmented finding. Such cases are
    left out. If no case has a label, all are used.

    Args:
        cases: The explained cases of a study.
        all_cases: Take all of them.
    """
    other = [case for case in cases if case.label is not None and case.target != case.label]
    if not other:
        return Selection(tuple(cases))
    count = f"{len(other)} of {len(cases)} cases explain"
    if len(other) == 1:
        count = f"1 of {len(cases)} cases explains"
    first = other[0]
    said = f"{count} another class than the case's own (such as {first.case}: {first.target})"
    if all_cases:
        return Selection(tuple(cases), f"{said}; with --all-cases they are included.")
    kept = tuple(case for case in cases if case not in other)
    return Selection(
        kept,
        f"{said} and are left out of comparisons of methods and correlations; positions and groups "
        "of maps use all cases. --all-cases includes them everywhere.",
    )


def smallest_differences(
    given: Sequence[str], metrics: Sequence[MetricValues] = ()
) -> dict[str, float]:
    """The smallest differences of interest that a user chose.

    Args:
        given: ``VALUE`` for all metrics that are no distances, or ``METRIC=VALUE``.
        metrics: Those of the study, beside the comparison's.

    Returns:
        ``{metric: value}``, for
        :func:`SaliencyExplain.evaluation.study.paired_comparison.compare_methods`.

    Raises:
        InputError: A value is no number from 0 on, or there is no such metric.
    """
    known = list(dict.fromkeys([*COMPARED, *(one.metric for one in metrics)]))
    found: dict[str, float] = {}
    named: dict[str, float] = {}
    for text in given:
        name, equals, number = text.rpartition("=")
        value = _number(text, number)
        if not equals:
            found |= {metric: value for metric in known if not metric.endswith("_mm")}
        elif name in known:
            named[name] = value
        else:
            raise unknown_name("metric", name, known)
    return {**found, **named}


def _number(text: str, number: str) -> float:
    lengths = text.partition("=")[0].endswith("_mm")
    try:
        value = number_of(number, LENGTHS if lengths else SHARE)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"--smallest-difference: '{text}' is not valid. Give a number of at least 0, or "
            "METRIC=NUMBER (distances in mm).",
        )
    return value
