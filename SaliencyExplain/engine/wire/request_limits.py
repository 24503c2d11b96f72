"""Numbers, names and lists of a request that no job can be meant by."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

from SaliencyExplain.engine.wire.requests import (
    CompareRequest,
    EstimateRequest,
    ExplainRequest,
    ProbeRequest,
    Request,
    StudyRequest,
    TrialRequest,
)
from SaliencyExplain.errors import ErrorCode, InputError

#: Items in a list of a request: maps, segments, backgrounds, radii. Each is computed with.
_MOST_ITEMS = 1000
#: Radii of a click: each takes a forward pass, and an image of its own until then.
_MOST_RADII = 64
#: Letters of a name.
_LONGEST_NAME = 4096
#: Processes of a study.
_MOST_JOBS = 256
#: Forward passes and seconds that a budget may name; a century of seconds is less.
_LARGEST_BUDGET = 1e15


def check_request(request: Request) -> None:
    """Refuses a request whose numbers, names or lists have no end.

    Args:
        request: Of any kind, also one that was made in this process.

    Raises:
        InputError: Names the field.
    """
    for field in dataclasses.fields(request):
        _check_sizes(field.name, getattr(request, field.name))
    if isinstance(request, TrialRequest):
        _check_range("budget", request.budget, 1, _LARGEST_BUDGET, "forward passes")
    if isinstance(request, (EstimateRequest, TrialRequest)):
        check_request(request.explain)
    if isinstance(request, (ExplainRequest, CompareRequest, StudyRequest)):
        _check_whole("seed", request.seed, 0, 2**63 - 1)
    if isinstance(request, ExplainRequest) and request.budget_seconds is not None:
        _check_range("budget_seconds", request.budget_seconds, 0, _LARGEST_BUDGET, "s")
    if isinstance(request, StudyRequest):
        _check_whole("jobs", request.jobs, 1, _MOST_JOBS)
        if request.trial_budget is not None:
            _check_range("trial_budget", request.trial_budget, 1, _LARGEST_BUDGET, "forward passes")
    if isinstance(request, ProbeRequest):
        if len(request.radii_mm) > _MOST_RADII:
            raise _too_many("radii_mm", len(request.radii_mm), _MOST_RADII)
        for radius in request.radii_mm:
            _check_range("radii_mm", radius, 0, 1e6, "mm")
    if isinstance(request, CompareRequest):
        for resolution in request.resolutions_mm.values():
            _check_range("resolutions_mm", resolution, 0, 1e6, "mm")


def _check_sizes(name: str, value: Any) -> None:
    """Lists and names within what a request may hold, in lists too."""
    if isinstance(value, str):
        if len(value) > _LONGEST_NAME:
            raise _too_many(name, len(value), _LONGEST_NAME, "letters")
    elif isinstance(value, Collection) and not isinstance(value, bytes):
        if len(value) > _MOST_ITEMS:
            raise _too_many(name, len(value), _MOST_ITEMS)
        for item in (*value, *value.values()) if isinstance(value, Mapping) else value:
            _check_sizes(name, item)


def _check_range(name: str, value: Any, low: float, high: float, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(
            ErrorCode.VALUE_FORM, f"The request's {name} is no number but {type(value).__name__}."
        )
    # A whole number may be too large for a float; NaN is not within any range.
    if not low <= value <= high:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"The request's {name} is {_shown(value)}; it must be {low:g} to {high:g} {unit}.",
        )


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"The request's {name} is no whole number but {type(value).__name__}.",
        )
    if not low <= value <= high:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"The request's {name} is {_shown(value)}; it must be {low} to {high}.",
        )


def _too_many(name: str, count: int, most: int, what: str = "items") -> InputError:
    return InputError(
        ErrorCode.ENGINE_LIMIT,
        f"The request's {name} has {count} {what}, and at most {most} may be.",
    )


def _shown(value: float) -> str:
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"{'-' if value < 0 else ''}10^{int(math.log10(abs(value)))} or so"
    return str(value)
