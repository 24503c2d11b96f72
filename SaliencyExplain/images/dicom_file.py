"""Opening a DICOM file with a limit on its unpacked size."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset

from SaliencyExplain.images.sizes import check_memory

_PIECE = 1 << 20
_Dataset = TypeVar("_Dataset", bound=Dataset)


class _File(io.BufferedReader):
    """A file whose rest pydicom reads in one piece only if it is going to inflate it."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As for any file.

        Raises:
            InputError: The rest is requested, is deflated and unpacks to more than the limit.
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
        return  # pydicom reports the error


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A DICOM file for pydicom and highdicom to read.

    Raises:
        InputError: While it is read: it is deflated and unpacks to more than the free memory, or
            to more than an image of its size has.
    """
    with _File(io.FileIO(path)) as file:
        yield file


def read_dicom(path: Path, **options: Any) -> FileDataset:
    """Reads a file as :func:`pydicom.dcmread` does, with a limit on its unpacked size.

    Args:
        path: The file.
        options: Options of pydicom.

    Raises:
        InputError: See :func:`opened`.
        Exception: Exceptions of pydicom for damaged files.
    """
    with opened(path) as file:
        return with_known_types(pydicom.dcmread(file, **options))


def with_known_types(dataset: _Dataset, *, within: bool = False) -> _Dataset:
    """Gives elements of unknown type (UN) the type that the standard has for their tag.

    With explicit types, an element of more than 65,534 bytes whose type has a length field of two
    bytes is written as UN (PS3.5, 6.2.2, note 5), and pydicom does not decode its value.

    Args:
        dataset: As read by pydicom; it is changed in place.
        within: Whether the items of its sequences are changed too.

    Returns:
        The dataset.
    """
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and raw.VR == "UN" and dictionary_has_tag(tag):
            known = dictionary_VR(tag)
            # Pixels and tables, which may have either of two types, are read as bytes.
            if known == "SQ":
                # Its content has implicit types and little-endian numbers (PS3.5, 6.2.2, note 4).
                raw = raw._replace(VR=known, is_implicit_VR=True, is_little_endian=True)
            elif len(known) == 2:
                raw = raw._replace(VR=known)
            dataset[tag] = raw
        if within and raw.VR == "SQ":
            for item in dataset[tag].value or ():
                with_known_types(item, within=True)
    return dataset
