"""The limits of a request: its largest size, and the ranges of its numbers.

The range of a number stands in the type of its field: ``seed: Seed`` or
``radii_mm: tuple[Millimetres, ...]``. The sizes of lists and names are limited everywhere.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import shown_value

#: Items in a list of a request: maps, segments, backgrounds, radii. Each is computed with.
_MOST_ITEMS = 1000
#: Letters of a name.
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class Within:
    """The range of a number.

    Attributes:
        low: The least value.
        high: The largest value.
        unit: Of both, for the message.
    """

    low: float
    high: float
    unit: str

    def check(self, name: str, value: Any) -> None:
        """Raises InputError where a value is no number or out of range; NaN is out of range."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(
                ErrorCode.VALUE_FORM,
                f"The request's {name} must be a number, not {type(value).__name__}.",
            )
        # A whole number may be too large for a float.
        if not self.low <= value <= self.high:
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"The request's {name} is {shown_value(value)}; it must be {self.low:g} to "
                f"{self.high:g} {self.unit}.",
            )


@dataclass(frozen=True)
class WholeWithin:
    """The range of a whole number.

    Attributes:
        low: The least value.
        high: The largest value.
    """

    low: int
    high: int

    def check(self, name: str, value: Any) -> None:
        """Raises InputError where a value is no whole number or out of range."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(
                ErrorCode.VALUE_FORM,
                f"The request's {name} must be a whole number, not {type(value).__name__}.",
            )
        if not self.low <= value <= self.high:
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"The request's {name} is {shown_value(value)}; it must be {self.low} to "
                f"{self.high}.",
            )


@dataclass(frozen=True)
class AtMost:
    """How many items a list may have, where that is fewer than everywhere.

    Attributes:
        items: The largest number.
    """

    items: int

    def check(self, name: str, value: Any) -> None:
        """Raises InputError where a list is longer."""
        if len(value) > self.items:
            raise _too_many(name, len(value), self.items)


Seed = Annotated[int, WholeWithin(0, 2**63 - 1)]
#: Processes of a study.
Processes = Annotated[int, WholeWithin(1, 256)]
Millimetres = Annotated[float, Within(0, 1e6, "mm")]
#: Radii of a click: each takes a forward pass, and an image of its own until then.
Radii = Annotated[tuple[Millimetres, ...], AtMost(64)]


def check_request(request: Any) -> None:
    """Refuses a request whose numbers are out of range or whose names or lists are too long.

    The numbers of a specification were checked when it was made.

    Args:
        request: A dataclass of any kind, also one that was made in this process.

    Raises:
        InputError: Names the field.
    """
    kind: Any = type(request)
    hints = _hints(kind)
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        _check_sizes(field.name, value)
        _check_ranges(field.name, value, hints[field.name])
        if dataclasses.is_dataclass(value):
            check_request(value)


def _check_sizes(name: str, value: Any) -> None:
    """Lists and names within what a request may hold, in lists and dataclasses too."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _check_sizes(field.name, getattr(value, field.name))
    elif isinstance(value, str):
        if len(value) > _LONGEST_NAME:
            raise _too_many(name, len(value), _LONGEST_NAME, "letters")
    elif isinstance(value, Collection) and not isinstance(value, bytes):
        if len(value) > _MOST_ITEMS:
            raise _too_many(name, len(value), _MOST_ITEMS)
        for item in (*value, *value.values()) if isinstance(value, Mapping) else value:
            _check_sizes(name, item)


def _check_ranges(name: str, value: Any, hint: Any) -> None:
    """Numbers within the ranges that the type of a field states."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        for limit in hint.__metadata__:
            limit.check(name, value)
        _check_ranges(name, value, inner[0])
    elif origin in (typing.Union, types.UnionType):
        for kind in inner:
            if kind is not type(None) and value is not None:
                _check_ranges(name, value, kind)
    elif origin is tuple and inner[-1] is Ellipsis:
        for item in value:
            _check_ranges(name, item, inner[0])
    elif origin is dict:
        for item in value.values():
            _check_ranges(name, item, inner[1])


def _too_many(name: str, count: int, most: int, what: str = "items") -> InputError:
    return InputError(
        ErrorCode.ENGINE_LIMIT,
        f"The request's {name} has {count} {what}; at most {most} are allowed.",
    )


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)
