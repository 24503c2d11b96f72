"""The bytes in which a volume travels: a short JSON header and compressed pieces.

Medical images are whole numbers with an even background: they become the smallest
whole-number type that holds every voxel of a piece to the bit, their bytes are sorted by
significance and each such plane is deflated. Planes that are noise go as they are: deflating
them costs seconds and saves nothing. Only numpy and the standard library are needed, and zlib
and numpy let other threads run, so that the pieces are worked on side by side.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.engine.wire.wire_volumes import TYPES, check_volume
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.voxel_volume import Volume

#: First bytes of a volume, with the version of the format.
MAGIC = b"SEV1"
#: Voxels of a piece: some megabytes, so that a thread's work fits the processor's cache.
PIECE = 1 << 20
#: Most a header may hold: pieces of 8 GiB of voxels.
_LARGEST_HEADER = 1 << 20
_PREFIX = struct.Struct("<4sI")
#: Types that whole numbers of a float32 volume may be held in, the smallest first.
_NARROW = ("<u1", "<i1", "<u2", "<i2")
_STORED, _DEFLATED = 0, 1
#: A plane is deflated where a sample of it shrinks at least to this share.
_WORTH = 0.9
_SAMPLE = 1 << 14

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class _Piece:
    """A run of voxels: how many, the type they are held in, and (method, bytes) of each plane."""

    count: int
    held: str
    planes: tuple[tuple[int, int], ...]


def encode(volume: Volume) -> bytes:
    """The volume as bytes; :func:`decode` gives it back to the bit.

    Raises:
        InputError: Its type, shape or affine is not supported.
    """
    check_volume(volume)
    flat = np.ascontiguousarray(volume.values).reshape(-1)
    packed = _side_by_side(_pack, [flat[at : at + PIECE] for at in range(0, flat.size, PIECE)])
    header = {
        "type": volume.values.dtype.str[1:],
        "shape": list(volume.values.shape),
        "affine": np.asarray(volume.affine, dtype=np.float64).reshape(-1).tolist(),
        "pieces": [[piece.count, piece.held, piece.planes] for piece, _ in packed],
    }
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    return b"".join(
        [_PREFIX.pack(MAGIC, len(text)), text, *(plane for _, planes in packed for plane in planes)]
    )


def decode(content: bytes | memoryview, *, largest: int) -> Volume:
    """The volume that :func:`encode` wrote; safe with bytes of any origin.

    Args:
        content: All of the bytes.
        largest: Most bytes that its voxels may take; nothing is unpacked before they were
            counted.

    Raises:
        InputError: They are not a volume, are damaged, or are larger than allowed.
    """
    view = memoryview(content).cast("B")
    try:
        kind, shape, affine, pieces, start = _read_header(view)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, struct.error) as error:
        raise InputError(
            ErrorCode.ENGINE_REQUEST, "The volume's header is damaged; send it again."
        ) from error
    size = math.prod(shape) * np.dtype(kind).itemsize
    if size > largest:
        raise InputError(
            ErrorCode.ENGINE_LIMIT,
            f"The volume has {size} bytes of voxels; at most {largest} are taken.",
        )
    if sum(piece.count for piece in pieces) != math.prod(shape):
        raise InputError(
            ErrorCode.ENGINE_REQUEST, "The volume's pieces do not fill its shape; send it again."
        )
    lengths = [sum(length for _, length in piece.planes) for piece in pieces]
    if start + sum(lengths) != len(view):
        raise InputError(
            ErrorCode.ENGINE_REQUEST, "The volume's bytes are cut off or too many; send it again."
        )
    values = np.empty(math.prod(shape), dtype=kind)
    work = []
    place = 0
    for piece, length in zip(pieces, lengths, strict=True):
        work.append((piece, view[start : start + length], values[place : place + piece.count]))
        start += length
        place += piece.count
    _side_by_side(lambda item: _unpack(*item), work)
    volume = Volume(values.reshape(shape), affine)
    check_volume(volume)
    return volume


def _read_header(
    view: memoryview,
) -> tuple[str, tuple[int, ...], NDArray[np.float64], list[_Piece], int]:
    magic, length = _PREFIX.unpack(view[: _PREFIX.size])
    end = _PREFIX.size + length
    if magic != MAGIC or length > _LARGEST_HEADER or end > len(view):
        raise ValueError("no header")
    header = json.loads(bytes(view[_PREFIX.size : end]))
    kind = f"<{header['type']}" if header["type"] != "u1" else "|u1"
    shape = tuple(_whole(number, least=1) for number in header["shape"])
    if kind not in TYPES or not 2 <= len(shape) <= 4:
        raise ValueError("no type or shape of a volume")
    affine = np.array([float(number) for number in header["affine"]]).reshape(4, 4)
    return kind, shape, affine, [_read_piece(piece, kind) for piece in header["pieces"]], end


def _read_piece(description: Any, kind: str) -> _Piece:
    count, held, planes = description
    known = (*_NARROW, "<f4") if kind == "<f4" else ("|u1",)
    if held not in known or len(planes) != np.dtype(held).itemsize:
        raise ValueError("no type of a piece")
    count = _whole(count, least=1)
    if count > PIECE:
        raise ValueError("a piece is too long")
    read = []
    for method, length in planes:
        length = _whole(length, least=1)
        if method not in (_STORED, _DEFLATED) or (method == _STORED and length != count):
            raise ValueError("no way to hold a plane")
        read.append((method, length))
    return _Piece(count, held, tuple(read))


def _whole(number: Any, *, least: int) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError("no count")
    return number


def _pack(voxels: NDArray[Any]) -> tuple[_Piece, list[bytes]]:
    held = _narrowest(voxels) if voxels.dtype == np.float32 else voxels
    matrix = held.view(np.uint8).reshape(held.size, held.itemsize)
    planes: list[bytes] = []
    methods: list[tuple[int, int]] = []
    for significance in range(held.itemsize):
        plane = np.ascontiguousarray(matrix[:, significance]).data
        # From the middle: the first planes of an image are air.
        middle = max(0, len(plane) // 2 - _SAMPLE // 2)
        sample = plane[middle : middle + _SAMPLE]
        method = _DEFLATED if len(zlib.compress(sample, 1)) < _WORTH * len(sample) else _STORED
        planes.append(zlib.compress(plane, 1) if method == _DEFLATED else bytes(plane))
        methods.append((method, len(planes[-1])))
    name = held.dtype.str if held.dtype == voxels.dtype else "<" + held.dtype.str[1:]
    return _Piece(voxels.size, name, tuple(methods)), planes


def _narrowest(voxels: NDArray[np.float32]) -> NDArray[Any]:
    """The same numbers in the smallest type that holds them all to the bit."""
    low, high = float(voxels.min()), float(voxels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return voxels
    for name in _NARROW:
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            narrow = voxels.astype(name)
            # By bits: minus zero does not count as a whole number.
            if np.array_equal(narrow.astype(np.float32).view(np.uint32), voxels.view(np.uint32)):
                return narrow
            return voxels
    return voxels


def _unpack(piece: _Piece, content: memoryview, into: NDArray[Any]) -> None:
    matrix = np.empty((piece.count, len(piece.planes)), dtype=np.uint8)
    at = 0
    for significance, (method, length) in enumerate(piece.planes):
        plane: bytes | memoryview = content[at : at + length]
        at += length
        if method == _DEFLATED:
            plane = _inflated(plane, piece.count)
        matrix[:, significance] = np.frombuffer(plane, dtype=np.uint8)
    into[:] = matrix.reshape(-1).view(piece.held)


def _inflated(content: bytes | memoryview, count: int) -> bytes:
    """Exactly ``count`` bytes; never more are unpacked, however many the content would give."""
    stream = zlib.decompressobj()
    try:
        plane = stream.decompress(content, count)
        # The rest is the checksum, which unpacks to nothing.
        rest = stream.decompress(stream.unconsumed_tail, 1) if not stream.eof else b""
    except zlib.error as error:
        raise InputError(
            ErrorCode.ENGINE_REQUEST, "The volume's voxels are damaged; send it again."
        ) from error
    if len(plane) != count or rest or not stream.eof or stream.unused_data:
        raise InputError(
            ErrorCode.ENGINE_REQUEST, "The volume's voxels are damaged; send it again."
        )
    return plane


def _side_by_side(work: Callable[[_Item], _Made], items: Sequence[_Item]) -> list[_Made]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1, len(items))) as pool:
        made: Iterable[_Made] = pool.map(work, items)
        return list(made)
