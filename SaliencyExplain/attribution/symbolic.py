"""torch.fx traces of a network that leave the network itself as it was.

While torch.fx traces, the network's code runs on stand-ins (:class:`torch.fx.Proxy`) for
tensors. A network that keeps something from its first pass, as LeViT and EfficientFormer keep
their attention biases in eval mode, would keep a stand-in and return one ever after. So a copy
is traced, with modules and attributes of its own and the same weights.
"""

from __future__ import annotations

import copy
import functools
import types
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

#: Elements up to which a container is copied, and levels of objects that are: what is larger
#: is data that the network was given, such as a table or a trainer, and no place to keep a
#: result of a pass.
_MOST_ELEMENTS = 10_000
_DEEPEST = 4

#: What holds nothing that a pass could replace in it.
_FIXED = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type, np.ndarray),
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, Tensor),
    *(torch.device, torch.dtype, torch.Size, torch.Generator, np.random.Generator),
)


def symbolic_trace(network: nn.Module) -> fx.GraphModule:
    """The operations of a network, as :func:`torch.fx.symbolic_trace` gives them.

    Args:
        network: Is left as it was, also what it keeps from pass to pass.

    Returns:
        A graph whose weights are the network's own.

    Raises:
        Exception: Whatever torch.fx raises for networks that it cannot trace.
    """
    return fx.symbolic_trace(copy_sharing_weights(network))


def copy_sharing_weights(network: nn.Module) -> nn.Module:
    """A copy with the same tensors, and modules, containers and objects of its own.

    Containers of a class (``cache = {}`` in its body) become the copy's own as well. What
    cannot be copied is shared.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        memo[id(module)] = object.__new__(type(module))
    for module in network.modules():
        _fill(module, memo[id(module)], memo, 0)
    twin: nn.Module = memo[id(network)]
    return twin


def _fill(module: nn.Module, twin: nn.Module, memo: dict[int, Any], depth: int) -> None:
    for name, value in class_containers(type(module)).items():
        twin.__dict__[name] = _copied(value, memo, depth + 1)
    for name, value in vars(module).items():
        twin.__dict__[name] = _copied(value, memo, depth + 1)


def class_containers(kind: type[nn.Module]) -> dict[str, Any]:
    """Containers in the body of a network's classes, which all its objects share."""
    found: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        if one.__module__.partition(".")[0] in ("torch", "builtins", "typing"):
            continue
        for name, value in vars(one).items():
            if isinstance(value, (dict, list, set, deque)) and not name.startswith("__"):
                found[name] = value
    return found


def _copied(value: Any, memo: dict[int, Any], depth: int) -> Any:
    """A value with new containers and objects, the same tensors, and the modules' copies."""
    if isinstance(value, _FIXED):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, (dict, list, set, deque)) and len(value) == 0:
        return copy.copy(value)
    if depth > _DEEPEST:
        return value
    if isinstance(value, nn.Module):
        # Kept in a list or object where the network's modules() do not see it.
        memo[id(value)] = twin = object.__new__(type(value))
        for module in value.children():
            _copied(module, memo, depth)
        _fill(value, twin, memo, depth)
        return twin
    if isinstance(value, types.MethodType):
        return types.MethodType(value.__func__, _copied(value.__self__, memo, depth + 1))
    if isinstance(value, functools.partial):
        arguments = [_copied(one, memo, depth + 1) for one in value.args]
        words = {name: _copied(one, memo, depth + 1) for name, one in value.keywords.items()}
        return functools.partial(_copied(value.func, memo, depth + 1), *arguments, **words)
    if isinstance(value, (dict, list, set, deque, tuple)):
        return _container(value, memo, depth)
    return _object(value, memo, depth)


def _container(value: Any, memo: dict[int, Any], depth: int) -> Any:
    if len(value) > _MOST_ELEMENTS:
        return value
    if isinstance(value, tuple):
        parts = [_copied(one, memo, depth + 1) for one in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    memo[id(value)] = twin = copy.copy(value)
    if isinstance(value, dict):
        for key, one in value.items():
            twin[key] = _copied(one, memo, depth + 1)
    elif isinstance(value, (list, deque)):
        for place, one in enumerate(value):
            twin[place] = _copied(one, memo, depth + 1)
    return twin


def _object(value: Any, memo: dict[int, Any], depth: int) -> Any:
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return value
    try:
        twin = copy.copy(value)
        held = vars(twin)
    except (TypeError, ValueError, AttributeError, RuntimeError, OSError, copy.Error):
        return value  # a lock, an open file, a class that forbids it
    memo[id(value)] = twin
    for name, one in attributes.items():
        held[name] = _copied(one, memo, depth + 1)
    return twin
