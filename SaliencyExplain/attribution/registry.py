"""All methods by name; a method is added by putting its module into the folder ``methods``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from SaliencyExplain.attribution import methods as package
from SaliencyExplain.attribution.method import FAMILIES, Method
from SaliencyExplain.errors import unknown_name


@cache
def methods() -> dict[str, type[Method]]:
    """All methods, ``{name: class}``, family by family."""
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, Method) and not inspect.isabstract(member):
                found[member.name] = member
    order = list(FAMILIES)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1].family), item[0])))


def find_method(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        InputError: No method has that name; the message has the nearest one.
    """
    known = methods()
    if name not in known:
        raise unknown_name("method", name, known)
    return known[name]
