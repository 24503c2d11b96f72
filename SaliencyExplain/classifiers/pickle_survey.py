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

    def __init__(self, content: io.BytesIO) -> None:
        super().__init__(content, encoding="latin-1")
        self.named: dict[str, type[Inert]] = {}
        self.storages: list[tuple[Any, ...]] = []

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in; only a dictionary is what it says."""
        path = f"{module}.{name}"
        if path not in self.named:
            self.named[path] = _named(path)
        return _Dictionary if path == "collections.OrderedDict" else self.named[path]

    def persistent_load(self, pid: Any) -> Any:
        """A stand-in for a storage."""
        self.storages.append(pid if isinstance(pid, tuple) else (pid,))
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

    dispatch[pickle.TUPLE[0]] = load_tuple
    dispatch[pickle.TUPLE1[0]] = lambda self: self._load_few(1)
    dispatch[pickle.TUPLE2[0]] = lambda self: self._load_few(2)
    dispatch[pickle.TUPLE3[0]] = lambda self: self._load_few(3)


def check_pickle(content: bytes, name: str) -> None:
    """Refuses weights that torch should not read, and says what is in them.

    Args:
        content: The bytes of a zip file of torch's, or of a bare pickle.
        name: The file's name, for messages.

    Raises:
        ClassifierError: It is broken, names classes or functions of others, has tensors of
            another kind than the plain ones, or a tensor claims more than the file holds.
    """
    sizes: dict[str, int] | None = None
    try:
        if is_zip(content):
            stream, sizes = _of_zip(content, name)
        else:
            stream = io.BytesIO(content)
        top, reader = _read(stream, legacy=sizes is None)
    except ClassifierError:
        raise
    except Exception as error:
        # A damaged pickle raises whatever its instructions lead to.
        raise ClassifierError(
            ErrorCode.MODEL_WEIGHTS,
            f"{name} cannot be read as PyTorch weights: its pickle is cut off or damaged "
            f"({type(error).__name__}).",
        ) from error
    _check_named(top, list(reader.named), name)
    if sizes is not None:
        _check_storages(reader.storages, sizes, name)


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


def _of_zip(content: bytes, name: str) -> tuple[io.BytesIO, dict[str, int]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        unpacked = sum(info.file_size for info in infos)
        if unpacked > _MOST_UNPACKED * len(content) + _UNPACKED_FREE:
            raise ClassifierError(
                ErrorCode.MODEL_REFUSED,
                f"{name} is refused: its {len(content)} bytes unpack to {unpacked}. PyTorch "
                "stores weights uncompressed; save them again with torch.save.",
            )
        pickles = [info.filename for info in infos if info.filename.endswith("data.pkl")]
        if len(pickles) != 1:
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"{name} cannot be read as PyTorch weights: it holds {len(pickles)} files "
                "data.pkl and not one.",
            )
        top = pickles[0].removesuffix("data.pkl")
        sizes = {
            info.filename.removeprefix(f"{top}data/"): info.file_size
            for info in infos
            if info.filename.startswith(f"{top}data/")
        }
        return io.BytesIO(archive.read(pickles[0])), sizes


def _read(stream: io.BytesIO, *, legacy: bool) -> tuple[Any, _Reader]:
    reader = _Reader(stream)
    found = reader.load()
    if legacy and found == _LEGACY_MAGIC:
        for _ in range(_LEGACY_BEFORE):
            reader = _Reader(stream)
            found = reader.load()
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
        if len(storage) != 5:
            continue  # torch refuses it
        _, kind, key, _, count = storage
        item = _ITEM_BYTES.get(getattr(kind, "path", "").rpartition(".")[2], 1)
        held = sizes.get(str(key))
        if isinstance(count, int) and held is not None and not 0 <= count * item <= held:
            raise ClassifierError(
                ErrorCode.MODEL_WEIGHTS,
                f"{name} is damaged: a tensor in it claims {count * item} bytes and {held} are "
                "there.",
            )
