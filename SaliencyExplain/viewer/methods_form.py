"""Methods with their parameters, from their own descriptions to fields of the page and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from SaliencyExplain.engine.interface import MethodChoice
from SaliencyExplain.errors import InputError


def rows(
    methods: Iterable[Mapping[str, Any]], layers: Sequence[str], ticked: Iterable[str]
) -> list[dict[str, Any]]:
    """The page's rows, one for each method.

    Args:
        methods: As ``Engine.methods`` describes them.
        layers: The classifier's layers, offered where a method looks at some.
        ticked: Names of the methods that are chosen at first.
    """
    return [
        {
            "name": method["name"],
            "title": method["title"],
            "source": method["source"],
            "ticked": method["name"] in ticked,
            "parameters": [_field(one, layers) for one in method["parameters"]],
        }
        for method in methods
    ]


def choices(page_rows: Iterable[Mapping[str, Any]]) -> tuple[MethodChoice, ...]:
    """The ticked methods with those of their parameters that are not the default.

    Raises:
        InputError: A field does not hold a number where one is needed.
    """
    chosen = []
    for row in page_rows:
        if not row["ticked"]:
            continue
        values = {field["name"]: _value(row, field) for field in row["parameters"]}
        given = {
            field["name"]: values[field["name"]]
            for field in row["parameters"]
            if values[field["name"]] != field["default"]
        }
        chosen.append(MethodChoice(row["name"], given))
    return tuple(chosen)


def label_of(parameter: Mapping[str, Any]) -> str:
    """``window_mm`` is "Window, mm"."""
    name, unit = str(parameter["name"]), str(parameter["unit"])
    name = name.removesuffix(f"_{unit}") if unit else name
    title = name.replace("_", " ").capitalize()
    return f"{title}, {unit}" if unit else title


def _field(parameter: Mapping[str, Any], layers: Sequence[str]) -> dict[str, Any]:
    default = parameter["default"]
    default = list(default) if isinstance(default, (list, tuple)) else default
    kind = (
        "choice"
        if parameter["choices"]
        else "yes or no"
        if isinstance(default, bool)
        else "number"
        if isinstance(default, (int, float))
        else "names"
    )
    hint = f"0: {parameter['automatic']}" if parameter["automatic"] else ""
    return {
        "name": parameter["name"],
        "label": label_of(parameter),
        "tip": parameter["description"],
        "hint": hint,
        "kind": kind,
        "items": list(parameter["choices"] or layers),
        "whole": isinstance(default, int),
        "default": default,
        "value": default,
    }


def _value(row: Mapping[str, Any], field: Mapping[str, Any]) -> Any:
    value = field["value"]
    if field["kind"] != "number":
        return value
    try:
        number = float(value)
        return int(number) if field["whole"] and number == int(number) else number
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{row['title']}: {field['label']} is '{value}'; it must be a number."
        ) from error
