"""Which cases of a study the comparison of its methods is made on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.evaluation.study.finished_study import FinishedCase
from SaliencyExplain.evaluation.study.study_metrics import COMPARED, FigureValues
from SaliencyExplain.quantities import LENGTHS, SHARE, number_of


@dataclass(frozen=True)
class Selection:
    """The cases of the comparison, and why others are not among them.

    Attributes:
        cases: The chosen cases.
        note: Which were left out and why; empty where none were.
    """

    cases: tuple[FinishedCase, ...]
    note: str = ""


def select_cases(cases: Sequence[FinishedCase], *, all_cases: bool = False) -> Selection:
    """Chooses the cases on which methods are held against each other.

    A map that explains another class than the case's own answers why the classifier errs, or why
    it does not answer something else: that its evidence lies on the segmented finding is not
    expected of it. Such cases are left out. Where no case has a label, all are taken.

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
        return Selection(tuple(cases), f"{said}; with --all-cases they count as the others do.")
    kept = tuple(case for case in cases if case not in other)
    return Selection(
        kept,
        f"{said} and are left out where methods are compared and energies correlated; places and "
        "groups of maps are of all cases. --all-cases takes them everywhere.",
    )


def smallest_differences(
    given: Sequence[str], figures: Sequence[FigureValues] = ()
) -> dict[str, float]:
    """The smallest differences of interest that a user chose.

    Args:
        given: ``VALUE`` for all figures that are no distances, or ``FIGURE=VALUE``.
        figures: Those of the study, beside the comparison's.

    Returns:
        ``{figure: value}``, for
        :func:`SaliencyExplain.evaluation.study.paired_comparison.compare_methods`.

    Raises:
        InputError: A value is no number from 0 on, or there is no such figure.
    """
    known = list(dict.fromkeys([*COMPARED, *(one.figure for one in figures)]))
    found: dict[str, float] = {}
    named: dict[str, float] = {}
    for text in given:
        name, equals, number = text.rpartition("=")
        value = _number(text, number)
        if not equals:
            found |= {figure: value for figure in known if not figure.endswith("_mm")}
        elif name in known:
            named[name] = value
        else:
            raise unknown_name("figure", name, known)
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
            "--smallest-difference wants a number from 0 on, or FIGURE=NUMBER with distances in "
            f"mm, not '{text}'.",
        )
    return value
