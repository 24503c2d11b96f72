"""Unpickles weights with stand-ins: no imports, and no code of the file is called."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch

from SaliencyExplain.models.pickle_stand_ins import Inert, RefusedError, Storage, stand_in

_DEEPEST_TUPLE = 16
_LARGEST_TUPLE = 100_000
#: Beyond it different integers have the same hash, and a dictionary of them takes hours to fill.
_LARGEST_KEY = 2**53
#: Optimizers number their state by parameter; a network has at most 20,000 layers.
_MOST_NUMBER_KEYS = 50_000
#: How much a tuple may hold that is a key, and how many of them there may be.
_LARGEST_TUPLE_KEY = 64
_MOST_TUPLE_KEYS = 1_000
_LARGEST_MEMO = 2**32
_DICTIONARIES = ("collections.OrderedDict", "collections.defaultdict")
#: Types of numbers by the name of torch's class for their storage.
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


class _Dictionary(dict[Any, Any]):
    """A dictionary that may have attributes, as an OrderedDict."""

    def __init__(self, pairs: Any = ()) -> None:
        """Takes its pairs, which were checked, or the factory of a defaultdict."""
        super().__init__(() if _is_factory(pairs) else pairs)

    def __setstate__(self, state: Any) -> None:
        """Keeps nothing."""


def _is_factory(argument: Any) -> bool:
    """Whether an argument is what a defaultdict makes its values of."""
    return argument is None or isinstance(argument, (type, Inert))


class _Tuple(tuple[Any, ...]):
    """A tuple with the number of its items, nested ones included.

    To hash a tuple goes through all that is in it, with the processor's stack and without a
    limit: one that is nested deeply enough ends the process.
    """

    depth: int
    size: int

    @classmethod
    def of(cls, items: Iterable[Any]) -> _Tuple:
        """The tuple of these items.

        Raises:
            ValueError: It is nested too deeply or too large.
        """
        found = cls(items)
        inner = [item for item in found if isinstance(item, _Tuple)]
        found.depth = 1 + max((item.depth for item in inner), default=0)
        found.size = len(found) + sum(item.size for item in inner)
        if found.depth > _DEEPEST_TUPLE or found.size > _LARGEST_TUPLE:
            raise ValueError("a tuple is nested too deeply")
        return found


class StandInReader(pickle._Unpickler):
    """Unpickles with stand-ins alone, and records the names in the pickle.

    The unpickler in Python: the one in C allocates as much memory as a pickle requests.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {**pickle._Unpickler.dispatch}
    # Of the base class, which says nothing of their types.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    readline: Callable[[], bytes]
    memo: dict[int, Any]

    def __init__(self, content: io.BytesIO, load_storage: Callable[[bytes], Storage]) -> None:
        """Begins to read.

        Args:
            content: The pickle.
            load_storage: Reads the storage in the bytes that Python's own ``pickle`` keeps of it.
        """
        super().__init__(content, encoding="latin-1")
        self._load_storage = load_storage
        self.named: dict[str, type[Inert]] = {}
        self.storages: dict[str, Storage] = {}
        self.parts: list[Storage] = []
        self._number_keys = 0
        self._tuple_keys = 0

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in; only dictionaries are created as they are."""
        path = f"{module}.{name}"
        if path not in self.named:
            self.named[path] = stand_in(path)
        return _Dictionary if path in _DICTIONARIES else self.named[path]

    def persistent_load(self, pid: Any) -> Any:
        """The storage of a tensor, without its values; or the class of a network.

        In files from before torch 1.6 the class of each network stands in such a place, with its
        source, which is not read.
        """
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise RefusedError("it refers to external data that is not a storage")
        _, kind, key, _, count = pid[:5]
        view = pid[5] if len(pid) > 5 else None
        if not isinstance(count, int) or not 0 <= count < 2**63:
            raise RefusedError("a storage in it has no size")
        self._check_keys([key])
        key = str(key)
        name = getattr(kind, "path", "").rpartition(".")[2]
        if key not in self.storages:
            self.storages[key] = Storage(key, DTYPES.get(name), name, count)
        if not isinstance(view, tuple):
            return self.storages[key]
        _, start, length = view
        return self._part(self.storages[key], start, length)

    def _part(self, root: Storage, start: Any, length: Any) -> Storage:
        """A storage that is a part of another, as in files of torch 0.3."""
        if not all(isinstance(one, int) and 0 <= one < 2**63 for one in (start, length)):
            raise RefusedError("a part of a storage in it has no size")
        item = root.dtype.itemsize if root.dtype else 1
        part = Storage(root.key, root.dtype, root.kind, length, start=start * item)
        self.parts.append(part)
        return part

    def load_tuple(self) -> None:
        """Makes a tuple of what lies on the stack since the last mark."""
        items = self.pop_mark()  # it replaces the stack
        self.append(_Tuple.of(items))

    def _load_few(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) < count:
            raise ValueError("the stack is empty")
        self.stack[-count:] = [_Tuple.of(items)]

    def load_setitem(self) -> None:
        """Sets one item of a dictionary."""
        self._check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        """Sets the items of a dictionary that lie on the stack since the last mark."""
        self._check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        """Makes a dictionary of what lies on the stack since the last mark."""
        self._check_keys(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    def load_additems(self) -> None:
        """Puts what lies on the stack since the last mark into a set."""
        self._check_keys(self.stack)
        super().load_additems()  # type: ignore[misc]

    def load_frozenset(self) -> None:
        """Makes a set of what lies on the stack since the last mark."""
        self._check_keys(self.stack)
        super().load_frozenset()  # type: ignore[misc]

    def load_reduce(self) -> None:
        """Calls a stand-in; a dictionary may be made of pairs, as in files of Python 2."""
        function, arguments = self.stack[-2:]
        if function is _Dictionary:
            for argument in arguments:
                if not _is_factory(argument):
                    self._check_pairs(argument)
        if getattr(function, "path", "") == "torch.storage._load_from_bytes":
            (content,) = arguments
            self.stack[-2:] = [self._load_storage(content)]
            return
        super().load_reduce()  # type: ignore[misc]

    def load_put(self) -> None:
        """Remembers what lies on the stack under a number in decimal digits."""
        number = int(self.readline()[:-1])
        if not 0 <= number < _LARGEST_MEMO:
            raise ValueError("a number of the memo is too large")
        self.memo[number] = self.stack[-1]

    def _check_pairs(self, content: Any) -> None:
        """Refuses items that are unsafe in a dictionary."""
        if content is None or isinstance(content, dict):
            return  # its keys were checked when they were set
        pairs = list(content) if isinstance(content, (list, tuple)) else [content]
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise RefusedError("a dictionary in it is not made of keys and values")
        self._check_keys([pair[0] for pair in pairs])

    def _check_keys(self, keys: list[Any]) -> None:
        """Refuses keys of dictionaries that may take long to hash or to tell apart."""
        for key in keys:
            if key is None or isinstance(key, (str, bytes, bool)):
                continue
            if isinstance(key, Inert) or (isinstance(key, type) and issubclass(key, Inert)):
                continue  # each of them is its own key
            if isinstance(key, _Tuple) and key.size <= _LARGEST_TUPLE_KEY:
                self._tuple_keys += 1
                if self._tuple_keys > _MOST_TUPLE_KEYS:
                    raise RefusedError(
                        f"its dictionaries have more than {_MOST_TUPLE_KEYS} tuples as keys"
                    )
                self._check_keys(list(key))
                continue
            if not isinstance(key, (int, float)):
                kind = "tuple" if isinstance(key, tuple) else "object"
                raise RefusedError(
                    f"a dictionary in it has a key of the type {kind}, not a text or number"
                )
            self._number_keys += 1
            if not abs(key) <= _LARGEST_KEY:
                raise RefusedError("a dictionary in it has a key beyond 2^53")
            if self._number_keys > _MOST_NUMBER_KEYS:
                raise RefusedError(
                    f"its dictionaries have more than {_MOST_NUMBER_KEYS} numbers as keys"
                )

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.PUT[0]] = load_put
    dispatch[pickle.TUPLE[0]] = load_tuple
    dispatch[pickle.TUPLE1[0]] = lambda self: self._load_few(1)
    dispatch[pickle.TUPLE2[0]] = lambda self: self._load_few(2)
    dispatch[pickle.TUPLE3[0]] = lambda self: self._load_few(3)
