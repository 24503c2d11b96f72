"""The fields of a specification as one flat list, as options and keyword arguments have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from SaliencyExplain.specification.parameters import check_parameter, parse_value
from SaliencyExplain.specification.spec import (
    ExplainSpec,
    Limits,
    MethodChoice,
    References,
    RegionOfInterest,
)
from SaliencyExplain.specification.target import Target

#: The fields of a specification, its limits, references and region by their names.
SPEC_FIELDS: Mapping[str, dataclasses.Field[Any]] = {
    field.name: field
    for kind in (ExplainSpec, Limits, References, RegionOfInterest)
    for field in dataclasses.fields(kind)
}


def default_of(name: str) -> Any:
    """The default value of a field of a specification."""
    return SPEC_FIELDS[name].default


def value_of(name: str, value: Any, shown_as: str = "") -> Any:
    """The value of a field, from a text with a unit where one is given.

    Args:
        name: Of the field.
        value: A value, or a text such as ``4 GB`` or ``20 s``.
        shown_as: Its name in errors; empty: the field's name.

    Raises:
        InputError: It is not a value of the field's type, or outside its range or choices.
    """
    field, shown_as = SPEC_FIELDS[name], shown_as or name
    read = parse_value(shown_as, value, field) if isinstance(value, str) else value
    check_parameter(shown_as, field, read)
    return read


def spec_of(methods: Sequence[MethodChoice] = (), **values: Any) -> ExplainSpec:
    """The specification that has these values, and the defaults for the other fields.

    Args:
        methods: The methods with their parameters.
        **values: By the names of :data:`SPEC_FIELDS`. A target may be a text or a class index; a
            limit may be a text with its unit; references may be paths.

    Raises:
        InputError: A value is of another type or outside its range.
    """

    def fields_of(kind: type[Any]) -> dict[str, Any]:
        names = {field.name for field in dataclasses.fields(kind)} & values.keys()
        return {name: value_of(name, _text(values[name])) for name in names}

    own = {"seed": value_of("seed", values["seed"])} if "seed" in values else {}
    if "target" in values:
        own["target"] = Target.of(values["target"])
    return ExplainSpec(
        tuple(methods),
        limits=Limits(**fields_of(Limits)),
        references=References(**fields_of(References)),
        region=RegionOfInterest(**fields_of(RegionOfInterest)),
        **own,
    )


def _text(value: Any) -> Any:
    """A path, or a list of paths, as texts; other values as they are."""
    if isinstance(value, PurePath):
        return str(value)
    return tuple(map(_text, value)) if isinstance(value, (list, tuple)) else value
