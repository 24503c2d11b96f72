"""Unpickling with stand-ins alone, so that nothing is imported and nothing is called."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from SaliencyExplain.models.pickle_stand_ins import FILLED, Inert, stand_in

_DEEPEST_TUPLE = 16
_LARGEST_TUPLE = 100_000
#: Beyond it different integers have the same hash, and a dictionary of them takes hours to fill.
_LARGEST_KEY = 2**53
#: Optimizers number their state by parameter; a network has at most 20,000 layers.
_MOST_NUMBER_KEYS = 50_000
_LARGEST_MEMO = 2**32


class RefusedError(Exception):
    """A pickle has what torch should not see; the text says what."""


class _Dictionary(dict[Any, Any]):
    """A dictionary that may have attributes, as an OrderedDict."""

    def __init__(self, *_: Any) -> None:
        """Keeps nothing; what an OrderedDict is made of is looked at by the reader."""
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Keeps nothing."""


class _Tuple(tuple[Any, ...]):
    """A tuple that knows how much is in it.

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
    """Unpickles with stand-ins alone, and notes what is named.

    The form of it in Python: that in C gives a pickle as much memory as it asks for.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {**pickle._Unpickler.dispatch}
    # Of the base class, which says nothing of their types.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    readline: Callable[[], bytes]
    memo: dict[int, Any]

    def __init__(self, content: io.BytesIO) -> None:
        super().__init__(content, encoding="latin-1")
        self.named: dict[str, type[Inert]] = {}
        self.storages: list[tuple[Any, ...]] = []
        self._number_keys = 0

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in; only a dictionary is what it says."""
        path = f"{module}.{name}"
        if path not in self.named:
            self.named[path] = stand_in(path)
        return _Dictionary if path == "collections.OrderedDict" else self.named[path]

    def persistent_load(self, pid: Any) -> Any:
        """A stand-in for a storage."""
        storage = pid if isinstance(pid, tuple) else (pid,)
        view = storage[5] if len(storage) > 5 and isinstance(storage[5], tuple) else ()
        # torch looks storages up by these.
        self._check_keys([*storage[2:3], *view[:1]])
        self.storages.append(storage)
        return Inert()

    def load_tuple(self) -> None:
        """Makes a tuple of what lies on the stack since the last mark."""
        items = self.pop_mark()  # it puts another stack in place
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
        path = getattr(function, "path", "")
        made_by_default = path == "collections.defaultdict"  # its arguments are not used
        if function is _Dictionary or (path in FILLED and not made_by_default):
            for argument in arguments:
                self._check_pairs(argument)
        super().load_reduce()  # type: ignore[misc]

    def load_build(self) -> None:
        """Gives an object its state."""
        filled = self.stack[-2]
        if isinstance(filled, _Dictionary) or getattr(filled, "path", "") in FILLED:
            self._check_pairs(self.stack[-1])  # torch updates a dictionary with it
        super().load_build()  # type: ignore[misc]

    def load_put(self) -> None:
        """Remembers what lies on the stack under a number in decimal digits."""
        number = int(self.readline()[:-1])
        if not 0 <= number < _LARGEST_MEMO:
            raise ValueError("a number of the memo is too large")
        self.memo[number] = self.stack[-1]

    def _check_pairs(self, content: Any) -> None:
        """Refuses what cannot safely become the items of a dictionary."""
        if content is None or isinstance(content, dict):
            return  # its keys were looked at when they were set
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
            if not isinstance(key, (int, float)):
                kind = "tuple" if isinstance(key, tuple) else "object"
                raise RefusedError(
                    f"a dictionary in it has a key that is no text or number but a {kind}"
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
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.PUT[0]] = load_put
    dispatch[pickle.TUPLE[0]] = load_tuple
    dispatch[pickle.TUPLE1[0]] = lambda self: self._load_few(1)
    dispatch[pickle.TUPLE2[0]] = lambda self: self._load_few(2)
    dispatch[pickle.TUPLE3[0]] = lambda self: self._load_few(3)
