"""All methods by name: the modules of the folder ``methods``, and the plugins of other packages."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
import pkgutil
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from SaliencyExplain.attribution import methods as package
from SaliencyExplain.attribution.method import FAMILIES, Method
from SaliencyExplain.errors import InputError, unknown_name
from SaliencyExplain.plugins import METHODS, plugins
from SaliencyExplain.specification.parameters import parameter

#: Names of methods are parts of file names, of ``method@layer`` and of ``method.parameter``.
_NAME = re.compile(r"[a-z0-9][a-z0-9+-]*")
#: Class variables that each method sets.
_DESCRIPTION = {"title": str, "source": str, "signed": bool, "family": str}
#: The maps of this family are the control maps of every comparison, which knows them by name.
_CONTROLS = "control"


@dataclasses.dataclass(frozen=True)
class _Registered:
    methods: dict[str, type[Method]]
    packages: dict[str, str]
    refused: dict[str, InputError]


@cache
def _registered() -> _Registered:
    found = _built_in()
    packages: dict[str, str] = {}
    refused: dict[str, InputError] = {}
    for plugin in plugins(METHODS).values():
        try:
            kind = plugin.load()
            wrong = _wrong(kind, plugin.name, found.values())
            if wrong:
                raise plugin.refused(wrong)
        except InputError as error:
            refused[plugin.name] = error
            logging.getLogger(__name__).warning("%s", error)
        else:
            found[plugin.name] = kind
            packages[plugin.name] = plugin.package
    order = list(FAMILIES)
    ordered = sorted(found.items(), key=lambda item: (order.index(item[1].family), item[0]))
    return _Registered(dict(ordered), packages, refused)


def _built_in() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, Method) and not inspect.isabstract(member):
                found[member.name] = member
    return found


def _wrong(kind: Any, name: str, others: Iterable[type[Method]]) -> str:
    """What is wrong with the class of a plugin; empty: nothing."""
    if not isinstance(kind, type) or not issubclass(kind, Method) or inspect.isabstract(kind):
        return "it is no class derived from Method with its abstract methods"
    if "__dataclass_fields__" not in vars(kind):
        return "its class is not decorated with @dataclass(frozen=True)"
    for attribute, kind_of_value in {"name": str, **_DESCRIPTION}.items():
        if not isinstance(getattr(kind, attribute, None), kind_of_value):
            return f"its class lacks '{attribute}', a {kind_of_value.__name__}"
    if kind.name != name or not _NAME.fullmatch(name):
        return (
            f"its class is named '{kind.name}' and its entry point '{name}'; both must be the "
            "same, of small letters, digits, + and -"
        )
    if kind.family not in FAMILIES or kind.family == _CONTROLS:
        known = ", ".join(family for family in FAMILIES if family != _CONTROLS)
        return f"its family '{kind.family}' is none of {known}"
    described = set(parameter(0, "").metadata)
    for field in dataclasses.fields(kind):
        if described - set(field.metadata) or field.default is dataclasses.MISSING:
            return f"its parameter '{field.name}' is not made by parameter(...)"
    for other in others:
        if other.name == name:
            return "there is a method of this name"
        if other.__name__ == kind.__name__:
            return f"the method '{other.name}' has a class of the same name, {kind.__name__}"
    if kind.__name__ in importlib.import_module("SaliencyExplain").PUBLIC_MODULES:
        return f"SaliencyExplain.{kind.__name__} is something else"
    return ""


def methods() -> dict[str, type[Method]]:
    """All methods, ``{name: class}``, family by family.

    Plugins that cannot be used are left out, and the log names each with the reason.
    """
    return _registered().methods


def package_of(name: str) -> str:
    """Name and version of the package that brings a method; empty for those of this project."""
    return _registered().packages.get(name, "")


def find_method(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        InputError: No method has that name (the message has the nearest one), or it is one of a
            plugin that cannot be used (the message says why).
    """
    known = _registered()
    if name not in known.methods:
        raise known.refused.get(name) or unknown_name("method", name, known.methods)
    return known.methods[name]
