"""Methods with their parameters, from their own descriptions to fields of the page and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from SaliencyExplain.attribution.method import FAMILIES
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.spec import MethodChoice


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
            "source": "; from ".join(filter(None, (method["source"], method["package"]))),
            "family": method["family"],
            "requires": list(method["requires"]),
            "ticked": method["name"] in ticked,
            "parameters": [_field(one, layers) for one in method["parameters"]],
        }
        for method in methods
    ]


def families(page_rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The page's folds, one for each family; those with a chosen method are unfolded."""
    found: dict[str, bool] = {}
    for row in page_rows:
        found[row["family"]] = found.get(row["family"], False) or row["ticked"]
    return [
        {"name": name, "title": name.capitalize(), "about": FAMILIES[name], "open": unfolded}
        for name, unfolded in found.items()
    ]


def asked(page_rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """What the ticked methods can use beside the image: segmentation, backgrounds."""
    return {what for row in page_rows if row["ticked"] for what in row["requires"]}


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
        else "text"
        if isinstance(default, str)
        else "names"
    )
    automatic = parameter["automatic"]
    return {
        "name": parameter["name"],
        "label": label_of(parameter),
        "tip": _tip(parameter),
        "automatic": bool(automatic),
        "kind": kind,
        "items": list(parameter["choices"] or layers),
        "whole": isinstance(default, int),
        "default": default,
        # What is chosen for each image is an empty field; its default, 0, would read as a size.
        "value": "" if automatic and kind == "number" else default,
    }


def _tip(parameter: Mapping[str, Any]) -> str:
    """What the parameter is, and its range."""
    low, high = parameter["minimum"], parameter["maximum"]
    limits = [
        f"{word} {limit:g} {parameter['unit']}".strip()
        for word, limit in (("at least", low), ("at most", high))
        if limit is not None
    ]
    if parameter["automatic"]:
        limits.append(f"0 or empty: {parameter['automatic']}")
    return str(parameter["description"]) + (f" ({', '.join(limits)})" if limits else "")


def _value(row: Mapping[str, Any], field: Mapping[str, Any]) -> Any:
    value = field["value"]
    if field["kind"] == "text":
        return str(value).strip() or field["default"]
    if field["kind"] != "number":
        return value
    if field["automatic"] and value == "":
        return field["default"]
    try:
        number = float(value)
        return int(number) if field["whole"] and number == int(number) else number
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            ErrorCode.VALUE_RANGE,
            f"{row['title']}: {field['label']} is '{value}'; it must be a number.",
        ) from error
