"""Stand-ins for the objects that weight files hold beside tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any


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


def stand_in(path: str) -> type[Inert]:
    """A class whose objects stand for those of a dotted name."""
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
FILLED = ("collections.Counter", "collections.defaultdict", *_DICTIONARIES)


def _filled_by_default(*_: Any) -> OrderedDict[Any, Any]:
    """What stands for a defaultdict: an empty dictionary."""
    return OrderedDict()


#: ``(stand-in, name in the file)`` for :func:`torch.serialization.safe_globals`.
STAND_INS: tuple[tuple[Callable[..., Any], str], ...] = (
    *((stand_in(path), path) for path in _BESIDE),
    *((OrderedDict, path) for path in _DICTIONARIES),
    (_filled_by_default, "collections.defaultdict"),
)
