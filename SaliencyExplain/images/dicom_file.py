"""Opening a DICOM file, with what it unpacks to bounded."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.dataset import FileDataset

from SaliencyExplain.images.sizes import check_memory

_PIECE = 1 << 20


class _File(io.BufferedReader):
    """A file whose rest is asked for in one piece only where pydicom is going to inflate it."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file.

        Raises:
            InputError: The rest is wanted, is deflated and unpacks to more than is read.
        """
        content = super().read(size)
        if size is None or size < 0:
            _check_inflated(Path(self.name), content)
        return content


def _check_inflated(path: Path, content: bytes) -> None:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    size, rest = 0, content
    try:
        while rest and not unpacker.eof:
            size += len(unpacker.decompress(rest, _PIECE))
            rest = unpacker.unconsumed_tail
            check_memory(path, size, 1, stored=len(content))
    except zlib.error:
        return  # pydicom says what is wrong


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A DICOM file for pydicom and highdicom to read.

    Raises:
        InputError: While it is read: it is deflated and unpacks to more than the memory takes,
            or than an image of its size has.
    """
    with _File(io.FileIO(path)) as file:
        yield file


def read_dicom(path: Path, **options: Any) -> FileDataset:
    """Reads a file as :func:`pydicom.dcmread` does, and not what unpacks without end.

    Args:
        path: The file.
        options: As pydicom takes them.

    Raises:
        InputError: See :func:`opened`.
        Exception: What pydicom raises about damaged files.
    """
    with opened(path) as file:
        return pydicom.dcmread(file, **options)
