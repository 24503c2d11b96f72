"""Reads files of ``torch.save`` without running their code.

The pickle of the file is read with stand-ins in place of every class and function that it names:
tensors become views of the numbers in the file, all else becomes inert. torch's own unpickler is
not used, since it calls what a pickle names and finds the parts of a zip file in another way than
Python does.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from SaliencyExplain.errors import ClassifierError, ErrorCode
from SaliencyExplain.models.file_kinds import is_zip, some
from SaliencyExplain.models.pickle_reader import StandInReader
from SaliencyExplain.models.pickle_stand_ins import RefusedError, Storage
from SaliencyExplain.models.targets import shown

#: How to save only the weights.
SAVE_ALONE = "Save the weights alone: torch.save(network.state_dict(), …)."
#: Of torch's own pickle format from before its zip files: how many pickles come before the content.
_LEGACY_BEFORE = 3
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
#: torch stores tensors uncompressed; a file whose parts add up to far more is made to fill memory.
_MOST_UNPACKED = 2
_UNPACKED_FREE = 1024**2
#: What is read of a zip file of weights, apart from the storages.
_RECORDS = ("data.pkl", "byteorder", "version")
#: Modules and functions that run programs, change files or connect. Nothing of a pickle is called,
#: but a file that names one of them was made for an attack.
_ATTACKS = frozenset(
    {
        *("os", "posix", "nt", "subprocess", "_posixsubprocess", "pty", "shutil", "socket"),
        *("runpy", "importlib", "ctypes", "_ctypes", "webbrowser", "code", "pdb", "pickle"),
        *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.open"),
        *("builtins.__import__", "builtins.breakpoint", "torch.load", "torch.hub"),
        *("urllib", "requests", "http", "tempfile", "multiprocessing", "asyncio", "marshal"),
    }
)


def read_torch_file(content: bytes, name: str) -> Any:
    """The saved content, with stand-ins for all objects except tensors and plain values.

    Args:
        content: The bytes of a zip file of torch's, or of a bare pickle.
        name: The file's name, for messages.

    Returns:
        Dictionaries, lists, numbers, texts,
        :class:`~SaliencyExplain.models.pickle_stand_ins.StoredTensor` and
        :class:`~SaliencyExplain.models.pickle_stand_ins.Inert`.

    Raises:
        ClassifierError: It is damaged, names functions that weights do not need, has dictionaries
            that take hours to read, or a tensor claims more than the file holds.
    """
    try:
        if is_zip(content):
            top, reader = _of_zip(content, name)
        else:
            top, reader = _bare(io.BytesIO(content), name)
    except ClassifierError:
        raise
    except RefusedError as error:
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED, f"{name} is refused: {error}. {SAVE_ALONE}"
        ) from error
    except Exception as error:
        # A damaged pickle may raise any exception.
        raise ClassifierError(
            ErrorCode.FILE_DAMAGED,
            f"{name} cannot be read as PyTorch weights: its pickle is cut off or damaged "
            f"({type(error).__name__}). Download or copy it again.",
        ) from error
    _check_named(reader.named, name)
    return top


def _check_named(named: Iterable[str], name: str) -> None:
    attacks = [path for path in named if _is_attack(path)]
    if attacks:
        raise ClassifierError(
            ErrorCode.MODEL_UNTRUSTED,
            f"{name} is refused: its pickle calls functions that weights do not need "
            f"({some([shown(path)[1:-1] for path in attacks])}). No code of it was run. "
            f"{SAVE_ALONE}",
        )


def _is_attack(path: str) -> bool:
    path = path.replace("__builtin__.", "builtins.")
    parts = path.split(".")
    return any(".".join(parts[:count]) in _ATTACKS for count in range(1, len(parts) + 1))


def _of_zip(content: bytes, name: str) -> tuple[Any, StandInReader]:
    if not content.startswith(b"PK\x03\x04"):
        raise ClassifierError(
            ErrorCode.MODEL_REFUSED,
            f"{name} is refused: it is a zip file with something else before it. {SAVE_ALONE}",
        )
    records = _records(content, name)
    reader = StandInReader(io.BytesIO(records["data.pkl"]), _no_storage)
    top = reader.load()
    swapped = records.get("byteorder", sys.byteorder.encode()) != sys.byteorder.encode()
    for key, storage in reader.storages.items():
        record = records.pop(f"data/{key}", None)  # which releases it once it is copied
        if record is None:
            raise ClassifierError(
                ErrorCode.FILE_DAMAGED,
                f"{name} is damaged: the values of a tensor in it (data/{key[:50]}) are missing. "
                "Download or copy it again.",
            )
        _fill(storage, record, name, swapped=swapped)
    _fill_parts(reader, name)
    return top, reader


def _fill(storage: Storage, values: bytes | bytearray, name: str, *, swapped: bool) -> None:
    """Gives a storage its bytes, which it may share with others of the same key."""
    item = storage.dtype.itemsize if storage.dtype else 1
    if storage.count * item > len(values):
        raise ClassifierError(
            ErrorCode.FILE_DAMAGED,
            f"{name} is damaged: a tensor in it claims {storage.count * item} bytes and has "
            f"{len(values)}. Download or copy it again.",
        )
    # A bytearray, since a tensor on bytes that cannot be written to is no plain one.
    held = bytearray(values)
    storage.values = torch.frombuffer(held, dtype=torch.uint8) if held else _nothing()
    if swapped and storage.dtype is not None:
        storage.values.untyped_storage().byteswap(storage.dtype)


def _fill_parts(reader: StandInReader, name: str) -> None:
    """Gives the storages that are parts of others their bytes."""
    for part in reader.parts:
        root = reader.storages[part.key]
        item = root.dtype.itemsize if root.dtype else 1
        if root.values is None or part.start + part.count * item > len(root.values):
            raise RefusedError("a part of a storage in it is larger than the storage")
        part.values = root.values


def _nothing() -> Tensor:
    return torch.empty(0, dtype=torch.uint8)


def _records(content: bytes, name: str) -> dict[str, bytes]:
    """What is read of a zip file, by its name below the file's one folder."""
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
                f"{name} cannot be read as PyTorch weights: it has to contain one file data.pkl, "
                f"in a folder, and contains {some([shown(one) for one in pickles]) or 'none'}.",
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
    """Refuses names in a zip file that other readers may take for one another."""
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


def _no_storage(content: bytes) -> Storage:
    raise RefusedError("it has a file within a file")


def _bare(stream: io.BytesIO, name: str, nested: bool = False) -> tuple[Any, StandInReader]:
    """The content of a file without zip, and its reader.

    torch wrote five pickles: a number, a version, sizes of types, the content, and the keys of
    the storages, whose numbers follow. Python's own ``pickle`` writes one, in which each storage
    is such a file in turn.
    """

    def storage_of(content: bytes) -> Storage:
        inner, _ = _bare(io.BytesIO(content), name, nested=True)
        if not isinstance(inner, Storage):
            raise RefusedError("it has a tensor whose values are not a storage")
        return inner

    load_storage = _no_storage if nested else storage_of
    reader = StandInReader(stream, load_storage)
    found = reader.load()
    if not isinstance(found, int) or found != _LEGACY_MAGIC:
        if reader.storages:
            raise RefusedError("it refers to values that are not in it")
        return found, reader
    swapped = False
    for _ in range(_LEGACY_BEFORE):
        reader = StandInReader(stream, load_storage)
        before, found = found, reader.load()
        if isinstance(before, Mapping) and isinstance(before.get("little_endian"), bool):
            swapped = before["little_endian"] != (sys.byteorder == "little")
    last = StandInReader(stream, _no_storage)
    keys = last.load()
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
        raise RefusedError("the keys of its storages are not a list of texts")
    _read_storages(stream, reader, [str(key) for key in keys], name, swapped=swapped)
    _fill_parts(reader, name)
    reader.named |= last.named
    return found, reader


def _read_storages(
    stream: io.BytesIO, reader: StandInReader, keys: list[str], name: str, *, swapped: bool
) -> None:
    missing = set(reader.storages) - set(keys)
    if missing:
        raise ClassifierError(
            ErrorCode.FILE_DAMAGED,
            f"{name} is damaged: it does not hold the values of {len(missing)} of its tensors. "
            "Download or copy it again.",
        )
    for key in keys:
        storage = reader.storages.get(key)
        if storage is None or storage.values is not None:
            raise RefusedError("the keys of its storages are not those of its tensors")
        if storage.dtype is None:
            raise RefusedError(f"it has numbers of the type {shown(storage.kind)}")
        count = int.from_bytes(stream.read(8), "little", signed=True)
        if count < storage.count:
            raise ClassifierError(
                ErrorCode.FILE_DAMAGED,
                f"{name} is damaged: a tensor in it claims {storage.count} numbers and has "
                f"{count}. Download or copy it again.",
            )
        _fill(storage, stream.read(count * storage.dtype.itemsize), name, swapped=swapped)
