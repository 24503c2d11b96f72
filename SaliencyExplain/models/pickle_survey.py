"""Looking into a weight file's pickle before torch reads it, without running anything of it.

The pickle is read with stand-ins in place of every class and function that it names, so that
nothing is imported and nothing is called. What comes out says whether torch may read the file:
which objects lie in it beside tensors, and whether its tensors hold what they claim to hold.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from typing import Any

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.file_kinds import is_zip, some
from SaliencyExplain.models.pickle_reader import RefusedError, StandInReader
from SaliencyExplain.models.pickle_stand_ins import STAND_INS, Inert
from SaliencyExplain.models.targets import shown

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
#: What torch reads of a zip file of weights, apart from the storages.
_RECORDS = ("data.pkl", "byteorder", "version")
#: Parts of torch whose objects are no weights.
_TORCH_CODE = ("nn.modules", "optim", "utils", "fx", "jit", "_dynamo", "distributed", "ao", "hub")


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
            reader = StandInReader(io.BytesIO(records["data.pkl"]))
            top = reader.load()
        else:
            records = {}
            top, reader = _read(io.BytesIO(content), name)
    except ClassifierError:
        raise
    except RefusedError as error:
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


def _read(stream: io.BytesIO, name: str) -> tuple[Any, StandInReader]:
    """The content of a file without zip, and its reader.

    torch reads five pickles: a number, a version, sizes of types, the content, and the keys of
    the storages that follow.
    """
    reader = StandInReader(stream)
    found = reader.load()
    if not isinstance(found, int) or found != _LEGACY_MAGIC:
        return found, reader
    for _ in range(_LEGACY_BEFORE):
        reader = StandInReader(stream)
        found = reader.load()
    last = StandInReader(stream)
    keys = last.load()
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise RefusedError("the keys of its storages are not a list of texts")
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
