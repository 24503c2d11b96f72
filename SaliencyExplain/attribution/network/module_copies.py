"""Copies of what a module holds: its containers and objects, with or without the tensors."""

from __future__ import annotations

import copy
import functools
import types
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Elements up to which a container is copied, and levels of objects that are: what is larger
#: is data that the network was given, such as a table or a trainer, and no place to keep a
#: result of a pass.
MOST_ELEMENTS = 10_000
DEEPEST = 4

#: Containers that a pass may write into.
CONTAINERS = (dict, list, set, deque)

#: What holds nothing that a pass could replace in it.
FIXED = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type),
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    *(torch.device, torch.dtype, torch.Size, torch.Generator, np.random.Generator),
)

#: Known by their very type, which is quicker than asking for each base class.
_FIXED_KINDS = frozenset(FIXED)
_PLAIN_CONTAINERS = frozenset((dict, OrderedDict, list, set))


class Copier:
    """Copies values with all that they hold; each object once, however often it is met.

    What cannot be copied is shared.

    Args:
        tensors: Whether tensors and arrays are copied; else they are shared.
        memo: Copies known from the start, by the ``id`` of what they are copies of.
    """

    def __init__(self, *, tensors: bool, memo: dict[int, Any] | None = None) -> None:
        self._tensors = tensors
        self._memo: dict[int, Any] = {} if memo is None else memo
        #: An ``id`` is an object's as long as the object lives.
        self._alive: list[Any] = []

    def copied(self, value: Any, depth: int = 0) -> Any:
        """The copy of a value that lies so many levels deep."""
        kind = type(value)
        if kind in _FIXED_KINDS:
            return value
        if id(value) in self._memo:
            return self._memo[id(value)]
        # Most of what a module holds: its empty tables of hooks.
        if kind in _PLAIN_CONTAINERS and not value:
            return self._keep(value, kind())
        if isinstance(value, FIXED):
            return value
        if isinstance(value, Tensor):
            return self._keep(value, cloned(value)) if self._tensors else value
        if isinstance(value, np.ndarray):
            return self._keep(value, value.copy()) if self._tensors else value
        if isinstance(value, CONTAINERS) and len(value) == 0:
            return self._keep(value, copy.copy(value))
        if depth > DEEPEST:
            return value
        if isinstance(value, nn.Module):
            # Kept in a list or object where the network's modules() do not see it.
            return self.modules(value, depth)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self.copied(value.__self__, depth + 1))
        if isinstance(value, functools.partial):
            arguments = [self.copied(one, depth + 1) for one in value.args]
            words = {name: self.copied(one, depth + 1) for name, one in value.keywords.items()}
            return functools.partial(self.copied(value.func, depth + 1), *arguments, **words)
        if isinstance(value, (*CONTAINERS, tuple)):
            return self._container(value, depth)
        return self._object(value, depth)

    def modules(self, network: nn.Module, depth: int = 0) -> nn.Module:
        """The copy of a network, with separate modules, containers and objects.

        Containers of a class (``cache = {}`` in its body) become the copy's own as well.
        """
        new = [module for module in network.modules() if id(module) not in self._memo]
        for module in new:
            # Made without calling the class: calling that of an fx.GraphModule makes another class.
            self._keep(module, object.__new__(type(module)))
        shared: dict[type[nn.Module], dict[str, Any]] = {}
        for module in new:
            kind = type(module)
            if kind not in shared:
                shared[kind] = class_containers(kind)
            held = {**shared[kind], **vars(module)}
            twin = self._memo[id(module)]
            for name, value in held.items():
                twin.__dict__[name] = self.copied(value, depth + 1)
        found: nn.Module = self._memo[id(network)]
        return found

    def _keep(self, value: Any, twin: Any) -> Any:
        self._alive.append(value)
        self._memo[id(value)] = twin
        return twin

    def _container(self, value: Any, depth: int) -> Any:
        if len(value) > MOST_ELEMENTS:
            return value
        if isinstance(value, tuple):
            parts = [self.copied(one, depth + 1) for one in value]
            if all(new is old for new, old in zip(parts, value, strict=True)):
                return value
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        twin = self._keep(value, copy.copy(value))
        if isinstance(value, dict):
            for key, one in value.items():
                twin[key] = self.copied(one, depth + 1)
        elif isinstance(value, (list, deque)):
            for place, one in enumerate(value):
                twin[place] = self.copied(one, depth + 1)
        return twin

    def _object(self, value: Any, depth: int) -> Any:
        attributes = getattr(value, "__dict__", None)
        if not isinstance(attributes, dict):
            return value
        try:
            twin = copy.copy(value)
            held = vars(twin)
        except (TypeError, ValueError, AttributeError, RuntimeError, OSError, copy.Error):
            return value  # a lock, an open file, a class that forbids it
        self._keep(value, twin)
        for name, one in attributes.items():
            held[name] = self.copied(one, depth + 1)
        return twin


def cloned(tensor: Tensor) -> Tensor:
    """A tensor of the same values without a graph; a parameter stays one."""
    values = tensor.detach().clone()
    parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(values, requires_grad=False) if parameter else values


def class_containers(kind: type[nn.Module]) -> dict[str, Any]:
    """Containers in the body of a network's classes, which all its objects share."""
    found: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        if one.__module__.partition(".")[0] in ("torch", "builtins", "typing"):
            continue
        for name, value in vars(one).items():
            if isinstance(value, CONTAINERS) and not name.startswith("__"):
                found[name] = value
    return found
