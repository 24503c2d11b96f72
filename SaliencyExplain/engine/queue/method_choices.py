"""The methods that a request chooses, with their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.method_selection import parse_parameters
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.engine.wire.requests import MethodChoice
from SaliencyExplain.errors import ErrorCode, InputError


def chosen_methods(choices: Sequence[MethodChoice]) -> list[Method]:
    """The methods of a request.

    Raises:
        InputError: None, one twice, an unknown one, or a parameter that is unknown or of
            another type.
    """
    if not choices:
        raise InputError(ErrorCode.OPTION_MISSING, "No method was chosen.")
    names = [choice.name for choice in choices]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(
            ErrorCode.NAME_DUPLICATE,
            f"The method '{twice}' was chosen twice; its maps share a name.",
        )
    return [_method(choice) for choice in choices]


def _method(choice: MethodChoice) -> Method:
    kind = find_method(choice.name)
    return kind(**parse_parameters(kind, {n: _text(v) for n, v in choice.parameters.items()}))


def _text(value: Any) -> str:
    """A value that travelled as JSON or came from a widget, as the command line has it."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
