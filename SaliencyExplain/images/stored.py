"""Reading voxels from the files that a text header (NRRD, MetaImage) names, in any encoding."""

from __future__ import annotations

import bz2
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.sizes import DEFLATED, check_memory, check_stored

_PIECE = 1 << 20
#: Largest number of bytes after the voxels that are unpacked to reach the checksum, unless the
#: voxels have more.
_MOST_BEHIND = 64 << 20
#: Value of `skip` for voxels that are the last bytes of their file.
AT_END = -1
#: bzip2 expands 39 bytes to at most 45,899,235 (a block of one value), one byte to 1.2 million.
_BZIP2 = 1_200_000


@dataclass(frozen=True)
class Stored:
    """The location of a header's voxels.

    Attributes:
        header: The header's file, for messages.
        files: The files, in order; each holds an equal share of the voxels.
        start: Bytes of a header before the voxels in the same file.
        lines: Number of lines skipped after the header.
        skip: Number of unpacked bytes skipped after those lines, or AT_END.
        encoding: ``raw``, ``deflate`` (zlib or gzip), ``bzip2``, ``text`` or ``hex``.
    """

    header: Path
    files: tuple[Path, ...]
    start: int = 0
    lines: int = 0
    skip: int = 0
    encoding: str = "raw"


def read_stored(
    stored: Stored, data_type: np.dtype[Any], count: int, *, labels: bool = False
) -> tuple[NDArray[Any], int]:
    """Checks the sizes in the header and reads the voxels.

    Args:
        stored: Their location.
        data_type: Type of one number, with its byte order.
        count: Numbers in all files together.
        labels: See :func:`check_memory`.

    Returns:
        ``(count,)`` in the machine's byte order, and how many surplus numbers raw files have.

    Raises:
        InputError: The files hold less than announced, something else, or more than the memory.
    """
    share, rest = divmod(count, len(stored.files))
    if rest:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{stored.header}: its {count} voxels cannot be divided equally among the "
            f"{len(stored.files)} files that it names. Correct the header.",
        )
    wanted = share * data_type.itemsize
    packed = stored.encoding in ("deflate", "bzip2")
    sizes = [file.stat().st_size for file in stored.files]
    check_memory(
        stored.header,
        count,
        data_type.itemsize,
        stored=sum(sizes) if packed else None,
        labels=labels,
    )
    values = np.empty(count, dtype=data_type.newbyteorder("="))
    more = 0
    for index, (file, size) in enumerate(zip(stored.files, sizes, strict=True)):
        with file.open("rb") as opened:
            if packed:
                growth = DEFLATED if stored.encoding == "deflate" else _BZIP2
                check_stored(stored.header, wanted, size, growth)
            elif stored.encoding == "raw":
                check_stored(stored.header, wanted, size - stored.start - max(stored.skip, 0))
            else:
                check_stored(stored.header, share, size)
            found, beyond = _READERS[stored.encoding](opened, stored, data_type, share)
        values[index * share : (index + 1) * share] = found
        more += beyond // data_type.itemsize
    return values, more


def _raw(
    file: BinaryIO, stored: Stored, data_type: np.dtype[Any], count: int
) -> tuple[NDArray[Any], int]:
    wanted = count * data_type.itemsize
    if stored.skip == AT_END:
        file.seek(-wanted, os.SEEK_END)
    else:
        _begin(file, stored)
        file.seek(stored.skip, os.SEEK_CUR)
    content = file.read(wanted)
    more = 0 if stored.skip == AT_END else len(file.read(_PIECE))
    check_stored(stored.header, wanted, len(content))
    return np.frombuffer(content, dtype=data_type), more


def _deflated(
    file: BinaryIO, stored: Stored, data_type: np.dtype[Any], count: int
) -> tuple[NDArray[Any], int]:
    # 32 + 15: zlib detects its own and gzip's headers.
    unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)

    def unpack(packed: bytes, most: int) -> tuple[bytes, bytes]:
        nonlocal unpacker
        if unpacker.eof:
            # A file may consist of several gzip members, and be padded with zeros at its end.
            packed = packed.lstrip(b"\0")
            if not packed:
                return b"", b""
            unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
        piece = unpacker.decompress(packed, most)
        return piece, unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail

    return _unpacked(file, stored, data_type, count, unpack, lambda: unpacker.eof)


def _bzip2(
    file: BinaryIO, stored: Stored, data_type: np.dtype[Any], count: int
) -> tuple[NDArray[Any], int]:
    unpacker = bz2.BZ2Decompressor()

    def unpack(packed: bytes, most: int) -> tuple[bytes, bytes]:
        # The decompressor may hold back output, which it returns without further input.
        return b"" if unpacker.eof else unpacker.decompress(packed, most), b""

    return _unpacked(file, stored, data_type, count, unpack, lambda: unpacker.eof)


def _unpacked(
    file: BinaryIO,
    stored: Stored,
    data_type: np.dtype[Any],
    count: int,
    unpack: Callable[[bytes, int], tuple[bytes, bytes]],
    ended: Callable[[], bool],
) -> tuple[NDArray[Any], int]:
    """Unpacks the requested bytes, and continues to the checksum at the end of their stream."""
    _begin(file, stored)
    wanted, skip = count * data_type.itemsize, max(stored.skip, 0)
    most = wanted + max(wanted, _MOST_BEHIND)
    content = bytearray()
    behind = 0
    rest = b""
    while (len(content) < wanted or not ended()) and len(content) + behind <= most:
        packed = rest or file.read(_PIECE)
        piece, rest = unpack(packed, _PIECE)
        if not packed and not piece:
            break
        cut = min(skip, len(piece))
        skip -= cut
        if len(content) < wanted:
            content += piece[cut:]
        else:
            behind += len(piece)
    check_stored(stored.header, wanted, len(content))
    if not ended():
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{stored.header}: cannot be read, it may be damaged or cut off (its compressed voxels "
            "do not end with a checksum). Copy it again.",
        )
    return np.frombuffer(memoryview(content)[:wanted], dtype=data_type), 0


def _text(
    file: BinaryIO, stored: Stored, data_type: np.dtype[Any], count: int
) -> tuple[NDArray[Any], int]:
    _begin(file, stored)
    file.seek(max(stored.skip, 0), os.SEEK_CUR)
    words = file.read().replace(b",", b" ").split(maxsplit=count)[:count]
    check_stored(stored.header, count, len(words))
    # Parsed as Python integers, since 64-bit integers have more digits than float64.
    number = float if data_type.kind == "f" else int
    return np.array([number(word) for word in words], dtype=data_type.newbyteorder("=")), 0


def _hex(
    file: BinaryIO, stored: Stored, data_type: np.dtype[Any], count: int
) -> tuple[NDArray[Any], int]:
    _begin(file, stored)
    file.seek(max(stored.skip, 0), os.SEEK_CUR)
    content = bytes.fromhex(file.read().decode("ascii"))
    wanted = count * data_type.itemsize
    check_stored(stored.header, wanted, len(content))
    return np.frombuffer(content[:wanted], dtype=data_type), 0


def _begin(file: BinaryIO, stored: Stored) -> None:
    file.seek(stored.start)
    for _ in range(stored.lines):
        if not file.readline():
            check_stored(stored.header, 1, 0)


_READERS = {"raw": _raw, "deflate": _deflated, "bzip2": _bzip2, "text": _text, "hex": _hex}


def numbered(pattern: str, first: int, last: int, step: int) -> list[str]:
    """File names from a pattern with a number, such as ``slice%03d.raw``.

    Raises:
        ValueError: The pattern is invalid, or gives no or too many names.
    """
    before, sign, rest = pattern.partition("%")
    digits, letter, after = rest.partition("d")
    width = digits.removeprefix("0")
    if not sign or not letter or "%" in after or not (not width or width.isdigit()):
        raise ValueError(pattern)
    if step == 0 or int(width or 0) > 64:
        raise ValueError(pattern)
    numbers = range(first, last + (1 if step > 0 else -1), step)
    if not 1 <= len(numbers) <= 100_000:
        raise ValueError(pattern)
    fill = "0" if digits.startswith("0") else " "
    return [f"{before}{number:{fill}{width}d}{after}" for number in numbers]
