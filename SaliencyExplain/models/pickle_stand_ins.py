"""Stand-ins for the classes and functions that the pickle of a weight file names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

#: torch itself has no more axes.
_MOST_AXES = 64


class RefusedError(Exception):
    """A pickle has unsupported content, which the text names."""


class Inert:
    """Stands for an object of a file; it stores its arguments and runs nothing.

    Attributes:
        path: Dotted name of the object's class or function.
        arguments: The arguments of the call.
        entries: Its items, as in a dictionary.
        state: Its attributes.
    """

    path: ClassVar[str] = ""
    arguments: tuple[Any, ...] = ()
    entries: Mapping[Any, Any] = MappingProxyType({})
    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """An object, whatever the arguments are."""
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **_: Any) -> None:
        """Stores the arguments."""
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        """Keeps the attributes of the object."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keeps an entry, as of a dictionary."""
        if not isinstance(self.entries, dict):
            self.entries = {}
        self.entries[key] = value

    def append(self, value: Any) -> None:
        """Keeps nothing."""

    def extend(self, values: Any) -> None:
        """Keeps nothing."""

    def add(self, value: Any) -> None:
        """Keeps nothing."""


@dataclass(eq=False)
class Storage:
    """The numbers of one or several tensors.

    Attributes:
        key: Its name in the file.
        dtype: None where each tensor names it, or where it is unknown.
        kind: Name of torch's class for it.
        count: How many numbers it claims to hold.
        values: Its bytes as uint8, ``(N,)``, once they are read.
        start: Byte of ``values`` at which it begins.
    """

    key: str
    dtype: torch.dtype | None
    kind: str
    count: int
    values: Tensor | None = None
    start: int = 0

    def __setstate__(self, state: Any) -> None:
        """Ignores the state: a file does not change it."""


@dataclass(eq=False)
class StoredTensor:
    """A plain tensor of a file: a view of a storage.

    Attributes:
        storage: Where its numbers are.
        dtype: Of its numbers.
        offset: Of its first number in the storage.
        size: Its shape.
        stride: Steps in the storage along each axis.
    """

    storage: Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Refuses the values that PyTorch before 0.4 gave to a tensor after making it."""
        if isinstance(state, tuple) and len(state) > 3:
            raise RefusedError("it has tensors in the form of PyTorch before 0.4")

    def tensor(self) -> Tensor:
        """The tensor.

        Raises:
            RefusedError: It reaches beyond its storage.
        """
        storage = self.storage
        if storage.values is None:
            raise RefusedError(f"the values of the storage {storage.key} are not in it")
        values = storage.values[storage.start :]
        item = self.dtype.itemsize
        reached = self.offset + sum(
            (count - 1) * step for count, step in zip(self.size, self.stride, strict=True)
        )
        if math.prod(self.size) and (reached + 1) * item > len(values):
            raise RefusedError(
                f"a tensor of it claims {(reached + 1) * item} bytes and has {len(values)}"
            )
        whole = values[: len(values) // item * item].view(self.dtype)
        return whole.as_strided(self.size, self.stride, self.offset)


def stand_in(path: str) -> type[Inert]:
    """A class whose objects stand for those of a dotted name; a new one at each call."""
    return type("Stand", (_REBUILT.get(path, Inert),), {"path": path})


def stored(
    storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None
) -> StoredTensor:
    """A plain tensor as a pickle describes it.

    Raises:
        RefusedError: The description makes no sense.
    """
    if not isinstance(storage, Storage) or dtype is None:
        raise RefusedError("it has a tensor without a storage or a type of numbers")
    numbers = (offset, *size, *stride) if _are_lists(size, stride) else (None,)
    if not all(isinstance(one, int) and 0 <= one < 2**63 for one in numbers):
        raise RefusedError("it has a tensor whose size is not made of whole numbers")
    if len(size) != len(stride) or len(size) > _MOST_AXES or math.prod(size) >= 2**63:
        raise RefusedError("it has a tensor of an impossible size")
    return StoredTensor(storage, dtype, offset, tuple(size), tuple(stride))


def _are_lists(*values: Any) -> bool:
    return all(isinstance(value, (tuple, list)) for value in values)


class _Tensor(Inert):
    """``_rebuild_tensor(storage, offset, size, stride)`` and ``_rebuild_tensor_v2``."""

    def __new__(cls, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
        """The tensor, without its gradient's hooks."""
        metadata = rest[2] if len(rest) > 2 else None
        if isinstance(metadata, dict) and any(metadata.values()):
            return stand_in("a tensor that is stored conjugated or negated")()
        return stored(storage, offset, size, stride, getattr(storage, "dtype", None))


class _TypedTensor(Inert):
    """``_rebuild_tensor_v3(storage, offset, size, stride, gradient, hooks, dtype, …)``."""

    def __new__(cls, *arguments: Any) -> Any:
        """The tensor, of types that have no storage of their own, such as float8."""
        storage, offset, size, stride, _, _, kind = arguments[:7]
        name = getattr(kind, "path", "").removeprefix("torch.")
        dtype = getattr(torch, name, None) if name.isidentifier() else None
        return stored(
            storage, offset, size, stride, dtype if isinstance(dtype, torch.dtype) else None
        )


class _Parameter(Inert):
    """``_rebuild_parameter(tensor, …)``, and the class itself."""

    def __new__(cls, tensor: Any = None, *_: Any) -> Any:
        """The tensor of the parameter."""
        return tensor


class _OfAClass(Inert):
    """``_rebuild_from_type_v2(function, class, arguments, attributes)``."""

    def __new__(cls, function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
        """The tensor, where its class adds nothing to the numbers."""
        path = getattr(kind, "path", "")
        if path not in _PLAIN_CLASSES:
            return stand_in(path)()
        is_class = isinstance(function, type) and issubclass(function, Inert)
        if not is_class or not isinstance(arguments, tuple):
            raise RefusedError("it has a tensor that is not made by a function of torch")
        return function(*arguments)


class _Bytes(Inert):
    """``_codecs.encode(text, "latin1")``: bytes in a pickle of Python 2's protocol."""

    def __new__(cls, text: Any = "", *_: Any) -> Any:
        """The bytes."""
        return text.encode("latin-1") if isinstance(text, str) else b""


_PLAIN_CLASSES = (
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    "monai.data.meta_tensor.MetaTensor",
)
#: Stand-ins that make a tensor, by the name of torch's function.
_REBUILT: dict[str, type[Inert]] = {
    "torch._utils._rebuild_tensor": _Tensor,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_tensor_v3": _TypedTensor,
    "torch._utils._rebuild_parameter": _Parameter,
    "torch._utils._rebuild_parameter_with_state": _Parameter,
    "torch.nn.parameter.Parameter": _Parameter,
    "torch._tensor._rebuild_from_type_v2": _OfAClass,
    "_codecs.encode": _Bytes,
}
