"""Looking into a weight file's pickle before torch reads it, without running anything of it.

The pickle is read with stand-ins in place of every class and function that it names, so that
nothing is imported and nothing is called. What comes out says whether torch may read the file:
which objects lie in it beside tensors, and whether its tensors hold what they claim to hold.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from SaliencyExplain.classifiers.file_kinds import is_zip, some
from SaliencyExplain.classifiers.targets import shown
from SaliencyExplain.errors import ClassifierError, ErrorCode

#: What is done to have the weights alone.
SAVE_ALONE = "Save the weights alone: torch.save(network.state_dict(), …)."
#: Tensors of other kinds than the plain ones, by the function that makes them.
_OTHER_KINDS = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor of the device meta, without values",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch.nested._internal.nested_tensor._rebuild_njt": "a nested tensor",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
    "torch._tensor._rebuild_from_type_v2": "a tensor of a class of its own",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another kind of device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another kind of device",
}
_ITEM_BYTES = {
    **dict.fromkeys(("UntypedStorage", "ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
#: Of torch's own pickle format from before its zip files: how many pickles come before the content.
_LEGACY_BEFORE = 3
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
#: torch stores tensors uncompressed; a file whose parts add up to far more is made to fill memory.
_MOST_UNPACKED = 2
_UNPACKED_FREE = 1024**2
_DEEPEST_TUPLE = 16
_LARGEST_TUPLE = 100_000
#: Beyond it different integers have the same hash, and a dictionary of them takes hours to fill.
_LARGEST_KEY = 2**53
#: Optimizers number their state by parameter; a network has at most 20,000 layers.
_MOST_NUMBER_KEYS = 50_000
_LARGEST_MEMO = 2**32
#: What torch reads of a zip file of weights, apart from the storages.
_RECORDS = ("data.pkl", "byteorder", "version")


class Inert:
    """Stands for an object of a file; it takes what it is given and does nothing.

    Attributes:
        path: Dotted name of what it stands for.
    """

    path = ""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """An object, whatever the arguments are."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Keeps nothing."""

    def __setstate__(self, state: Any) -> None:
        """Keeps nothing."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keeps nothing."""

    def append(self, value: Any) -> None:
        """Keeps nothing."""

    def extend(self, values: Any) -> None:
        """Keeps nothing."""

    def add(self, value: Any) -> None:
        """Keeps nothing."""


class _Dictionary(dict[Any, Any]):
    """A dictionary that may have attributes, as an OrderedDict."""

    def __init__(self, *_: Any) -> None:
        """Keeps nothing; what an OrderedDict is made of is looked at by the reader."""
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Keeps nothing."""


class _RefusedError(Exception):
    """A pickle has what torch should not see; the text says what."""


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


def _named(path: str) -> type[Inert]:
    return type("Stand", (Inert,), {"path": path})


#: Values that training scripts save beside the weights. Nothing of them is used, so that stand-ins
#: take their places.
_BESIDE = [
    "argparse.Namespace",
    "types.SimpleNamespace",
    "datetime.datetime",
    "datetime.date",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.float64",
    "numpy.float32",
    "numpy.float16",
    "numpy.int64",
    "numpy.int32",
    "numpy.bool_",
    "numpy.bool",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Float16DType",
    "numpy.dtypes.Int64DType",
    "numpy.dtypes.Int32DType",
    "numpy.dtypes.BoolDType",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.StringNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.BooleanNode",
    "typing.Any",
    "builtins.dict",
    "builtins.list",
    "builtins.int",
    "builtins.str",
    "builtins.float",
    "builtins.bool",
    "__builtin__.dict",
    "__builtin__.list",
    "__builtin__.int",
    "__builtin__.str",
    "__builtin__.float",
]
#: Dictionaries of other libraries, of which plain ones are made.
_DICTIONARIES = [
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "yacs.config.CfgNode",
    "easydict.EasyDict",
    "addict.addict.Dict",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
]

#: Of all of these torch makes dictionaries; an OrderedDict has a stand-in of its own.
_FILLED = ("collections.Counter", "collections.defaultdict", *_DICTIONARIES)


def _filled_by_default(*_: Any) -> OrderedDict[Any, Any]:
    """What stands for a defaultdict: an empty dictionary."""
    return OrderedDict()


#: ``(stand-in, name in the file)`` for :func:`torch.serialization.safe_globals`.
STAND_INS: tuple[tuple[Callable[..., Any], str], ...] = (
    *((_named(path), path) for path in _BESIDE),
    *((OrderedDict, path) for path in _DICTIONARIES),
    (_filled_by_default, "collections.defaultdict"),
)
#: Parts of torch whose objects are no weights.
_TORCH_CODE = ("nn.modules", "optim", "utils", "fx", "jit", "_dynamo", "distributed", "ao", "hub")


class _Reader(pickle._Unpickler):
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
            self.named[path] = _named(path)
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
        if function is _Dictionary or (path in _FILLED and not made_by_default):
            for argument in arguments:
                self._check_pairs(argument)
        super().load_reduce()  # type: ignore[misc]

    def load_build(self) -> None:
        """Gives an object its state."""
        filled = self.stack[-2]
        if isinstance(filled, _Dictionary) or getattr(filled, "path", "") in _FILLED:
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
                raise _RefusedError("a dictionary in it is not made of keys and values")
        self._check_keys([pair[0] for pair in pairs])

    def _check_keys(self, keys: list[Any]) -> None:
        """Refuses keys of dictionaries that may take long to hash or to tell apart."""
        for key in keys:
            if key is None or isinstance(key, (str, bytes, bool)):
                continue
            if not isinstance(key, (int, float)):
                kind = "tuple" if isinstance(key, tuple) else "object"
                raise _RefusedError(
                    f"a dictionary in it has a key that is no text or number but a {kind}"
                )
            self._number_keys += 1
            if not abs(key) <= _LARGEST_KEY:
                raise _RefusedError("a dictionary in it has a key beyond 2^53")
            if self._number_keys > _MOST_NUMBER_KEYS:
                raise _RefusedError(
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


def check_pickle(content: bytes, name: str) -> bytes:
    """Refuses weights that torch should not read, and gives what torch may read instead.

    Args:
        content: The bytes of a zip file of torch's, or of a bare pickle.
        name: The file's name, for messages.

    Returns:
        The bytes for ``torch.load``: of a zip file one with the parts that were looked at and
        no others, since torch finds the parts of a zip file in another way than Python does.

    Raises:
        ClassifierError: It is broken, names classes or functions of others, has tensors of
            another kind than the plain ones, has dictionaries that take hours to read, or a
            tensor claims more than the file holds.
    """
    try:
        if is_zip(content):
            records = _of_zip(content, name)
            reader = _Reader(io.BytesIO(records["data.pkl"]))
            top = reader.load()
        else:
            records = {}
            top, reader = _read(io.BytesIO(content), name)
    except ClassifierError:
        raise
    except _RefusedError as error:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED, f"{name} is refused: {error}. {SAVE_ALONE}"
        ) from error
    except Exception as error:
        # A damaged pickle raises whatever its instructions lead to.
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} cannot be read as PyTorch weights: its pickle is cut off or damaged "
            f"({type(error).__name__}).",
        ) from error
    _check_named(top, list(reader.named), name)
    if not records:
        whole = {str(storage[2]): len(content) for storage in reader.storages if len(storage) > 2}
        _check_storages(reader.storages, whole, name)
        return content
    sizes = {key.removeprefix("data/"): len(part) for key, part in records.items()}
    _check_storages(reader.storages, sizes, name)
    return _packed(records)


def foreign_names(named: Iterable[str]) -> list[str]:
    """Those of the names in a pickle that torch does not know as weights or settings."""
    known = {path for _, path in STAND_INS}
    code = tuple(f"torch.{part}." for part in _TORCH_CODE)
    own = ("torch.", "collections.")
    return [
        path
        for path in named
        if path not in known and (path.startswith(code) or not path.startswith(own))
    ]


def _of_zip(content: bytes, name: str) -> dict[str, bytes]:
    """What torch reads of a zip file, by its name below the file's one folder."""
    if not content.startswith(b"PK\x03\x04"):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{name} is refused: it is a zip file with something else before it. {SAVE_ALONE}",
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        unpacked = sum(info.file_size for info in infos)
        if unpacked > _MOST_UNPACKED * len(content) + _UNPACKED_FREE:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{name} is refused: its {len(content)} bytes unpack to {unpacked}. PyTorch "
                "stores weights uncompressed; save them again with torch.save.",
            )
        _check_file_names(infos, name)
        pickles = [info.filename for info in infos if info.filename.endswith("data.pkl")]
        if len(pickles) != 1 or not pickles[0].endswith("/data.pkl"):
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"{name} cannot be read as PyTorch weights: it holds {len(pickles)} files "
                "data.pkl and not one in its folder.",
            )
        top = pickles[0].removesuffix("data.pkl")
        inner = {
            info.filename.removeprefix(top): info
            for info in infos
            if info.filename.startswith(top) and not info.is_dir()
        }
        return {
            key: archive.read(info)
            for key, info in inner.items()
            if key in _RECORDS or key.startswith("data/")
        }


def _check_file_names(infos: list[zipfile.ZipInfo], name: str) -> None:
    """Refuses names in a zip file that torch may take for one another."""
    seen: set[str] = set()
    for info in infos:
        key = info.filename.casefold()
        if key in seen or "\\" in info.orig_filename or "\0" in info.orig_filename:
            why = "stands in it twice" if key in seen else "is no name of PyTorch's"
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{name} is refused: the file {shown(info.filename)} {why} (PyTorch makes no "
                f"difference between capital and small letters). {SAVE_ALONE}",
            )
        seen.add(key)


def _packed(records: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for key, part in records.items():
            archive.writestr(f"archive/{key}", part)
    return packed.getvalue()


def _read(stream: io.BytesIO, name: str) -> tuple[Any, _Reader]:
    """The content of a file without zip, and its reader.

    torch reads five pickles: a number, a version, sizes of types, the content, and the keys of
    the storages that follow.
    """
    reader = _Reader(stream)
    found = reader.load()
    if not isinstance(found, int) or found != _LEGACY_MAGIC:
        return found, reader
    for _ in range(_LEGACY_BEFORE):
        reader = _Reader(stream)
        found = reader.load()
    last = _Reader(stream)
    keys = last.load()
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise _RefusedError("the keys of its storages are not a list of texts")
    last._check_keys(keys)
    missing = {storage[2] for storage in reader.storages if len(storage) > 2} - set(keys)
    if missing:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} is damaged: it does not hold the values of {len(missing)} of its tensors.",
        )
    reader.named |= last.named
    return found, reader


def _check_named(top: Any, named: list[str], name: str) -> None:
    foreign = foreign_names(named)
    pickled = getattr(top, "path", type(top).path if isinstance(top, Inert) else "")
    kinds = [_OTHER_KINDS[path] for path in named if path in _OTHER_KINDS]
    if pickled and pickled not in _OTHER_KINDS and "_rebuild" not in pickled:
        modules = any(path.startswith("torch.nn.modules.") for path in named)
        what = "a whole network" if modules else "an object"
        raise ClassifierError(
            ErrorCode.MODEL_UNTRUSTED,
            f"{name} is refused: it is a pickle of {what} of the class {shown(pickled)} and not "
            f"only weights; to read it would run code. {SAVE_ALONE}",
        )
    if foreign:
        raise ClassifierError(
            ErrorCode.MODEL_UNTRUSTED,
            f"{name} is refused: it is a pickle with objects in it that are not only weights "
            f"({some([shown(path)[1:-1] for path in foreign])}), and nothing of it was run. "
            f"{SAVE_ALONE}",
        )
    if kinds:
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} holds {kinds[0]}; only plain tensors are read. Turn it into a plain tensor "
            "before the weights are saved.",
        )


def _check_storages(storages: list[tuple[Any, ...]], sizes: dict[str, int], name: str) -> None:
    for storage in storages:
        if len(storage) not in (5, 6):
            continue  # torch refuses it
        _, kind, key, _, count = storage[:5]
        item = _ITEM_BYTES.get(getattr(kind, "path", "").rpartition(".")[2], 1)
        held = sizes.get(str(key))
        if isinstance(count, int) and held is not None and not 0 <= count * item <= held:
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"{name} is damaged: a tensor in it claims {count * item} bytes and {held} are "
                "there.",
            )
