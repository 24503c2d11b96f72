"""Parameters: each described once for all user interfaces, checked, parsed and shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.quantities import BY_UNIT, bytes_of, number_of

#: Largest length of a parameter in mm, more than any image.
LARGEST_MM = 1e6
#: Largest constant that may stand in an image, in the units of the prepared input.
LARGEST_VALUE = 1e30

#: Keys of the description of a parameter that may be None.
EXAMPLE, NOTHING = "example", "nothing"

#: Items that a parameter which is a list may have, such as names of layers.
_MOST_ITEMS = 1000


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    automatic: str = "",
    example: Any = None,
    nothing: str = "",
) -> Any:
    """A dataclass field that is a parameter of a method or a specification, described once.

    Args:
        default: The default value; its type is the parameter's type.
        description: One line for the user.
        unit: Such as ``"mm"``; empty for a plain number.
        minimum: Least allowed value; every number has one.
        maximum: Greatest allowed value; every number has one, so that no request can ask for a
            computation without an end.
        choices: The allowed words, for a parameter that is a choice.
        automatic: What the default 0 stands for, where it is chosen for each image.
        example: A usual value, whose type is the parameter's where the default is None.
        nothing: The meaning of None; empty: the parameter cannot be None.
    """
    metadata = {
        "description": description,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "automatic": automatic,
    }
    if nothing:
        metadata |= {EXAMPLE: default if example is None else example, NOTHING: nothing}
    return dataclasses.field(default=default, metadata=metadata)


def automatic_length(description: str, *, automatic: str) -> Any:
    """A parameter in mm whose default 0 is chosen for each image; see :func:`parameter`."""
    return parameter(
        0.0, description, unit="mm", minimum=0.0, maximum=LARGEST_MM, automatic=automatic
    )


def constant_of(choice: str) -> Any:
    """The parameter of the constant where another one, such as ``fill``, is ``value``."""
    return parameter(
        0.0,
        f"The constant for {choice}=value, in the units of the classifier's prepared input.",
        minimum=-LARGEST_VALUE,
        maximum=LARGEST_VALUE,
    )


def example_of(field: dataclasses.Field[Any]) -> Any:
    """A value of a parameter's type: its default, or an example where that is None."""
    return field.metadata.get(EXAMPLE, field.default)


def check_parameters(of: str, described: Any) -> None:
    """Checks all parameters of a dataclass.

    Args:
        of: Stands before the parameter's name in messages.
        described: The dataclass.

    Raises:
        InputError: As :func:`check_parameter`.
    """
    for field in dataclasses.fields(described):
        check_parameter(f"{of}.{field.name}", field, getattr(described, field.name))


def check_parameter(name: str, field: dataclasses.Field[Any], value: Any) -> None:
    """Checks the value of a parameter.

    Args:
        name: Of the parameter, for errors.
        field: Of the parameter.
        value: The value to be checked.

    Raises:
        InputError: The value is of another type, or outside its range or choices.
    """
    limits, sample = field.metadata, example_of(field)
    if value is None and NOTHING in limits:
        return
    values = value if isinstance(value, tuple) else (value,)
    if isinstance(sample, tuple) != isinstance(value, tuple):
        raise _wrong_type(name, sample, value)
    if len(values) > _MOST_ITEMS:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"{name} has {len(values)} items; at most {_MOST_ITEMS} are allowed.",
        )
    for item in values:
        if not isinstance(value, tuple) and not _is_of_type(item, sample):
            raise _wrong_type(name, sample, item)
        if limits["choices"] and item not in limits["choices"]:
            raise unknown_name(f"choice for {name}", shown_value(item), limits["choices"])
        if isinstance(item, (str, bool)):
            continue
        low, high = limits["minimum"], limits["maximum"]
        unit = f" {limits['unit']}" if limits["unit"] else ""
        if isinstance(item, float) and not math.isfinite(item):
            raise InputError(
                ErrorCode.VALUE_RANGE,
                f"{name} is {item}{unit}; it must be a finite number.",
            )
        if (low is not None and item < low) or (high is not None and item > high):
            bounds = " and ".join(
                f"at {word} {_bound(limit)}{unit}"
                for word, limit in (("least", low), ("most", high))
                if limit is not None
            )
            raise InputError(
                ErrorCode.VALUE_RANGE, f"{name} is {shown_value(item)}{unit}; it must be {bounds}."
            )


def _is_of_type(value: Any, default: Any) -> bool:
    """Whether a value is of a parameter's type; a whole number may stand for any number."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    return isinstance(value, type(default))


def _wrong_type(name: str, default: Any, value: Any) -> InputError:
    return InputError(
        ErrorCode.VALUE_FORM,
        f"{name} must be {_kind(default, '')} (such as {default}), not {value!r:.80}.",
    )


def shown_value(value: Any) -> str:
    """A value in a message; for a number of very many digits its order of magnitude."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"{'-' if value < 0 else ''}10^{int(math.log10(abs(value)))} or so"
    return str(value)[:80]


def _bound(limit: float) -> str:
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:,.12g}"


def value_text(field: Mapping[str, Any], value: Any, length_unit: str = "mm") -> str:
    """A parameter's value in words, with its unit.

    Args:
        field: What :func:`parameter` was told.
        value: Of the parameter.
        length_unit: How millimetres are told, as in :class:`Task`.
    """
    if field["automatic"] and not value:
        return f"automatic ({field['automatic']})"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "none"
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{shown} {unit_of(field, length_unit)}".rstrip()


def unit_of(field: Mapping[str, Any], length_unit: str) -> str:
    """The unit of a parameter's value for one image, empty for a plain number.

    Args:
        field: What :func:`parameter` was told.
        length_unit: How millimetres are told, as in :class:`Task`.
    """
    return length_unit if field["unit"] == "mm" else str(field["unit"])


def parse_value(name: str, text: str, field: dataclasses.Field[Any]) -> Any:
    """Turns the text of a command line into a parameter's value.

    Args:
        name: Of the parameter, for errors.
        text: Of the value.
        field: Of the parameter.

    Raises:
        InputError: It is not a value of the parameter's type.
    """
    default, unit = example_of(field), field.metadata["unit"]
    if unit == "bytes":
        return bytes_of(text, name)
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return number_of(text, BY_UNIT[unit])
        if isinstance(default, tuple):
            parts = [part.strip() for part in text.split(",") if part.strip()]
            return (
                tuple(float(p) for p in parts)
                if default and isinstance(default[0], float)
                else tuple(parts)
            )
    except (ValueError, KeyError):
        raise InputError(
            ErrorCode.VALUE_FORM,
            f"{name} must be {_kind(default, unit)} (such as {default}), not '{text[:80]}'.",
        ) from None
    return text


def _kind(default: Any, unit: str) -> str:
    number = f"a number in {unit}" if unit else "a number"
    words = {bool: "true or false", int: "a whole number", float: number, str: "a word"}
    return words.get(type(default), "a list with commas")
