"""Methods as arguments: objects, classes and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.registry import find_method, methods
from SaliencyExplain.errors import ErrorCode, InputError, wrong_type

MethodLike: TypeAlias = Method | type[Method] | str


def methods_of(given: MethodLike | Sequence[MethodLike]) -> tuple[Method, ...]:
    """The methods that a user gave.

    Args:
        given: One or several: a method with its parameters (``Occlusion(window_mm=16)``), a class
            with the default ones, or a name as on the command line (``"occlusion"``).

    Raises:
        InputError: A method does not exist, or none was given.
    """
    listed = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    found = tuple(_method(one) for one in listed)
    if not found:
        raise InputError(ErrorCode.OPTION_MISSING, "No method is given. Name one, such as gradcam.")
    return found


def _method(given: Any) -> Method:
    if isinstance(given, Method):
        return given
    if isinstance(given, type) and issubclass(given, Method):
        return given()
    if isinstance(given, str):
        return find_method(given)()
    raise wrong_type(
        "A method", "an object such as Occlusion(window_mm=16), a class or a name", given
    )


def method_classes() -> dict[str, type[Method]]:
    """The classes of all methods by their names in Python."""
    return {method.__name__: method for method in methods().values()}
