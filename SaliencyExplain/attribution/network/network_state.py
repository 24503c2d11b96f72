"""State that a network keeps between forward passes: detected, restored, kept apart.

In eval mode a network should be a function of the image. Some write into a buffer in each
pass (a running mean by hand, the centre of DINO, a queue), count passes or fill a cache. Then a
score depends on earlier passes, and the user's network is changed afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from SaliencyExplain.attribution.network.module_copies import (
    CONTAINERS,
    DEEPEST,
    FIXED,
    MOST_ELEMENTS,
    Copier,
    class_containers,
)

#: Attributes by which torch itself keeps modules, and the flag that methods set and restore.
_OF_TORCH = frozenset(vars(nn.Module())) | {"_forward_hooks_with_kwargs", "_conv_forward"}

_GROUPS = ("_parameters", "_buffers")

#: Values at which the search for tensors and containers ends.
_MOST_VALUES = 200_000

_MISSING: Any = object()

#: The modules of a network by name. (TorchScript has no get_submodule().)
Modules = dict[str, nn.Module]


@dataclass(frozen=True)
class Place:
    """Where a network keeps something.

    Attributes:
        module: Name of the module, as ``network.named_modules()`` names it.
        group: ``_parameters``, ``_buffers``, or empty for a plain attribute.
        name: Of the attribute.
        written: Whether a pass wrote into a tensor there, instead of putting another one.
        counts: Whether there are numbers and words alone, such as how many passes ran.
    """

    module: str
    group: str
    name: str
    written: bool = False
    counts: bool = False

    @property
    def title(self) -> str:
        """The attribute in words, such as ``stem.running_centre``."""
        return f"{self.module}.{self.name}" if self.module else self.name

    def holder(self, modules: Modules) -> Any:
        """The dictionary in which the module holds the attribute."""
        module = modules[self.module]
        return getattr(module, self.group) if self.group else vars(module)

    def value(self, modules: Modules) -> Any:
        """The current value; the class's container if the object has none."""
        found = _get(self.holder(modules), self.name)
        if found is _MISSING and not self.group:
            return class_containers(type(modules[self.module])).get(self.name, _MISSING)
        return found


@dataclass(frozen=True)
class Repeatability:
    """What is necessary so that a network's score depends on its image alone.

    Attributes:
        one_at_a_time: The score of an image depends on the others in its batch.
        changing: What a forward pass changes in the network.
        drifts: Whether the score depends on the passes before unless that is put back.
        float32: The wrapped network is a copy in float32 of one in half precision, whose
            forward pass must be kept from converting to that.
        notes: Notes for the user, a sentence each.
    """

    one_at_a_time: bool = False
    changing: tuple[Place, ...] = ()
    drifts: bool = False
    float32: bool = False
    notes: tuple[str, ...] = ()

    def written(self, network: nn.Module) -> list[Tensor]:
        """The tensors of a network that a pass writes into."""
        found: list[Tensor] = []
        modules = dict(network.named_modules()) if self.changing else {}
        for place in self.changing:
            if place.written:
                _collect(place.value(modules), found, 0)
        return found


#: A function of the image, as a network should be.
REPEATABLE = Repeatability()


@contextmanager
def as_given(network: nn.Module, changing: Sequence[Place]) -> Iterator[None]:
    """Lets a pass work on copies of what it changes, and keeps the network as it was given.

    Copies, and not the values put back afterwards: what a backward pass needs would be written
    over before it runs.

    Args:
        network: Whose forward pass runs.
        changing: What it changes.
    """
    if not changing:
        yield
        return
    modules = dict(network.named_modules())
    copier = Copier(tensors=True, memo={id(module): module for module in modules.values()})
    undo: list[tuple[Any, str, Any]] = []
    try:
        for place in changing:
            holder, value = place.holder(modules), place.value(modules)
            undo.append((holder, place.name, _get(holder, place.name)))
            if value is not _MISSING:
                holder[place.name] = copier.copied(value)
        yield
    finally:
        for holder, name, before in undo:
            if before is _MISSING:
                holder.pop(name, None)
            else:
                holder[name] = before


class Snapshot:
    """All that a network holds at one moment; takes a copy of its weights.

    Args:
        network: In whatever mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._tensors: dict[int, _Held] = {}
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._arrays: dict[int, tuple[Any, Any]] = {}
        self._values: dict[tuple[str, str, str], Any] = {}
        self._left = _MOST_VALUES
        for key, value in _places(network):
            self._values[key] = value
            self._record(value, 0)

    def changed(self) -> tuple[Place, ...]:
        """The attributes that have changed."""
        found = []
        now = dict(_places(self._network))
        for key in dict.fromkeys([*self._values, *now]):
            before, after = self._values.get(key, _MISSING), now.get(key, _MISSING)
            written = before is not _MISSING and self._is_written(before, set(), 0)
            if written or not _is_same(before, after) or self._differs(before, set(), 0):
                counts = not (_holds_more(before, 0) or _holds_more(after, 0))
                found.append(Place(*key, written=written, counts=counts))
        return tuple(found)

    def restore(self) -> None:
        """Restores everything."""
        now, modules = dict(_places(self._network)), dict(self._network.named_modules())
        for key in dict.fromkeys([*self._values, *now]):
            before = self._values.get(key, _MISSING)
            place = Place(*key)
            holder = place.holder(modules)
            if before is _MISSING:
                holder.pop(place.name, None)
            elif not _is_same(before, now.get(key, _MISSING)):
                holder[place.name] = before
        for container, content in self._containers.values():
            _refill(container, content)
        for array, values in self._arrays.values():
            array[...] = values
        for held in self._tensors.values():
            held.restore()

    def _record(self, value: Any, depth: int) -> None:
        self._left -= 1
        if isinstance(value, FIXED) or depth > DEEPEST or self._left < 0:
            return
        if isinstance(value, Tensor):
            if id(value) not in self._tensors:
                self._tensors[id(value)] = _Held(value)
        elif isinstance(value, np.ndarray):
            self._arrays.setdefault(id(value), (value, value.copy()))
        else:
            content = _content(value)
            if content is None or id(content) in self._containers:
                return
            if not isinstance(content, tuple):
                self._containers[id(content)] = content, _shallow(content)
            for one in _elements(content):
                self._record(one, depth + 1)

    def _is_written(self, value: Any, seen: set[int], depth: int) -> bool:
        """Whether a tensor in a value as it was has been written into."""
        if isinstance(value, FIXED) or id(value) in seen or depth > DEEPEST:
            return False
        seen.add(id(value))
        if isinstance(value, Tensor):
            return id(value) in self._tensors and self._tensors[id(value)].is_written()
        content = _content(value)
        if content is None:
            return False
        _, before = self._containers.get(id(content), (content, content))
        return any(self._is_written(one, seen, depth + 1) for one in _elements(before))

    def _differs(self, value: Any, seen: set[int], depth: int) -> bool:
        """Whether a container, object or array in a value has another content."""
        if isinstance(value, (Tensor, *FIXED)) or id(value) in seen or depth > DEEPEST:
            return False
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            return id(value) in self._arrays and not np.array_equal(
                value, self._arrays[id(value)][1]
            )
        content = _content(value)
        if content is None:
            return False
        _, before = self._containers.get(id(content), (content, content))
        if not _same_elements(content, before):
            return True
        return any(self._differs(one, seen, depth + 1) for one in _elements(before))


class _Held:
    """A tensor and what is needed to put it back."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._alias = tensor.detach()
        self._version = _version(tensor)
        try:
            self._values = self._alias.clone()
        except torch.OutOfMemoryError:
            self._values = self._alias.cpu()

    def is_written(self) -> bool:
        """Whether it was written to, also through ``.data``."""
        if self._is_moved() or _version(self._tensor) != self._version:
            return True
        return not _equal(self._alias, self._values)

    def restore(self) -> None:
        """Puts storage and values back."""
        with torch.no_grad():
            if self._is_moved():
                self._tensor.data = self._alias
            if not _equal(self._alias, self._values):
                self._alias.copy_(self._values)

    def _is_moved(self) -> bool:
        now, before = self._tensor.detach(), self._alias
        return (
            now.shape != before.shape
            or now.dtype != before.dtype
            or now.device != before.device
            or now.data_ptr() != before.data_ptr()
        )


def _places(network: nn.Module) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Everything that the modules hold, but for what torch itself does with them."""
    for name, module in network.named_modules():
        for group in _GROUPS:
            for key, tensor in getattr(module, group).items():
                if tensor is not None and not nn.parameter.is_lazy(tensor):
                    yield (name, group, key), tensor
        if isinstance(module, torch.jit.ScriptModule):
            continue
        own = vars(module)
        for key, value in class_containers(type(module)).items():
            if key not in own:
                yield (name, "", key), value
        for key, value in own.items():
            if key not in _OF_TORCH:
                yield (name, "", key), value


def _get(holder: Any, name: str) -> Any:
    try:
        return holder[name]  # TorchScript's dictionaries have no get().
    except (KeyError, RuntimeError):
        return _MISSING


def _content(value: Any) -> Any:
    """What can be written into: a container, an object's attributes; None: nothing."""
    if isinstance(value, (*CONTAINERS, tuple)):
        return value if len(value) <= MOST_ELEMENTS else None
    if isinstance(value, nn.Module):
        # One in a list, whose tensors matter; those of the network are seen by themselves.
        return vars(value)
    content = getattr(value, "__dict__", None)
    return content if isinstance(content, dict) else None


def _elements(content: Any) -> list[Any]:
    return list(content.values()) if isinstance(content, dict) else list(content)


def _shallow(content: Any) -> Any:
    return dict(content) if isinstance(content, dict) else type(content)(content)


def _same_elements(now: Any, before: Any) -> bool:
    if len(now) != len(before):
        return False
    if isinstance(now, set):
        return bool(now == before)
    if isinstance(now, dict):
        return all(_is_same(value, now.get(key, _MISSING)) for key, value in before.items())
    return all(_is_same(one, other) for one, other in zip(now, before, strict=True))


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, tuple) or _same_elements(container, content):
        return
    container.clear()
    if isinstance(container, (dict, set)):
        container.update(content)
    elif isinstance(container, (list, deque)):
        container.extend(content)


def _collect(value: Any, found: list[Tensor], depth: int) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif not isinstance(value, FIXED) and depth <= DEEPEST:
        content = _content(value)
        for one in _elements(content) if content is not None else ():
            _collect(one, found, depth + 1)


def _holds_more(value: Any, depth: int) -> bool:
    """Whether a value holds more than numbers and words."""
    if value is _MISSING or isinstance(value, (type(None), bool, int, float, complex, str, bytes)):
        return False
    if not isinstance(value, (*CONTAINERS, tuple)) or depth > DEEPEST:
        return True
    return any(_holds_more(one, depth + 1) for one in _elements(value))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are one object, or equal numbers or words."""
    simple = (bool, int, float, complex, str, bytes)
    return one is other or (
        isinstance(one, simple) and type(one) is type(other) and bool(one == other)
    )


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else int(tensor._version)


def _equal(one: Tensor, other: Tensor) -> bool:
    other = other.to(one.device)
    if torch.equal(one, other):
        return True
    return bool(((one == other) | ((one != one) & (other != other))).all())
