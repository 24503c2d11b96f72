"""From the words of a user to methods with their parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from SaliencyExplain.attribution.method import Method
from SaliencyExplain.attribution.registry import find_method, methods, package_of
from SaliencyExplain.errors import ErrorCode, InputError, unknown_name
from SaliencyExplain.specification.parameters import parse_value
from SaliencyExplain.specification.spec import MethodChoice


def select_methods(
    names: Sequence[str], settings: Sequence[str] = (), layers: Sequence[str] = ()
) -> list[Method]:
    """The methods of these names with these settings, as a command line has them.

    Args:
        names: Names of methods; twice the same name is one method.
        settings: ``method.parameter=value`` texts, each for a method in ``names``.
        layers: Layers for all methods in ``names`` that look at layers.

    Raises:
        InputError: An unknown method, parameter or value; a setting for a method that
            is not asked for; layers where no method looks at any.
    """
    texts: dict[str, dict[str, str]] = {find_method(name).name: {} for name in names}
    for setting in settings:
        key, equals, value = setting.partition("=")
        method_name, dot, parameter_name = key.strip().partition(".")
        if not equals or not dot:
            raise InputError(
                ErrorCode.VALUE_FORM, f"'{setting}': give a parameter as method.parameter=value."
            )
        if find_method(method_name).name not in texts:
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"'{setting}': its method is not among those of --method. Add the method.",
            )
        texts[method_name][parameter_name.strip()] = value.strip()
    if layers:
        with_layers = [name for name in texts if "layers" in _fields(find_method(name))]
        if not with_layers:
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                f"Layers: the methods {', '.join(texts)} use none. Add a method that uses layers.",
            )
        for name in with_layers:
            texts[name]["layers"] = ",".join(layers)
    return [
        find_method(name)(**parse_parameters(find_method(name), given))
        for name, given in texts.items()
    ]


def chosen_methods(choices: Sequence[MethodChoice]) -> list[Method]:
    """The methods of a specification.

    Raises:
        InputError: None, one twice, an unknown one, or a parameter that is unknown or of
            another type.
    """
    if not choices:
        raise InputError(ErrorCode.OPTION_MISSING, "Methods: none was given. Give at least one.")
    names = [choice.name for choice in choices]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(
            ErrorCode.NAME_DUPLICATE,
            f"Method '{twice}': it was given twice, and its maps would share a name. Give it once.",
        )
    return [_method(choice) for choice in choices]


def choice_of(method: Method) -> MethodChoice:
    """A method as a specification names it."""
    values = {name: getattr(method, name) for name in _fields(type(method))}
    defaults = {name: field.default for name, field in _fields(type(method)).items()}
    return MethodChoice(
        method.name, {name: value for name, value in values.items() if value != defaults[name]}
    )


def describe_methods() -> list[dict[str, Any]]:
    """All methods with their parameters, for tables, panels and documents.

    ``package`` names the package that brings a method, and is empty for those of this project.
    """
    return [
        {
            "name": method.name,
            "title": method.title,
            "source": method.source,
            "package": package_of(method.name),
            "signed": method.signed,
            "family": method.family,
            "requires": list(method.requires),
            "parameters": [
                {"name": name, "default": field.default, **field.metadata}
                for name, field in _fields(method).items()
            ],
        }
        for method in methods().values()
    ]


def _method(choice: MethodChoice) -> Method:
    # What travelled as JSON or came from a widget is read as the command line's text.
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for name, value in choice.parameters.items()
    }
    kind = find_method(choice.name)
    return kind(**parse_parameters(kind, texts))


def _fields(method: type[Method]) -> Mapping[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(method)}


def parse_parameters(method: type[Method], texts: Mapping[str, str]) -> dict[str, Any]:
    """Turns ``{parameter: text}`` of a command line into values of the right type.

    Raises:
        InputError: No such parameter (with the nearest name), or not a value of its type.
    """
    fields = {field.name: field for field in dataclasses.fields(method)}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in fields:
            raise unknown_name(f"parameter of {method.name}", name, fields)
        values[name] = parse_value(f"{method.name}.{name}", text, fields[name])
    return values
