"""NRRD files (.nrrd, .nhdr): a header of lines ``field: value``, and voxels after it or elsewhere.

They are not read by ITK, whose NRRD reader crashes the process on a header with many axes, ignores
units, and treats every space as left-posterior-superior. For other files the result equals ITK's
(http://teem.sourceforge.net/nrrd/format.html).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.input_file import file_beside
from SaliencyExplain.images.nrrd_header import NrrdHeader
from SaliencyExplain.images.nrrd_place import place
from SaliencyExplain.images.sizes import check_sizes
from SaliencyExplain.images.stored import AT_END, Stored, numbered, read_stored
from SaliencyExplain.images.volume import Volume, one_number, unannounced

SUFFIXES = (".nrrd", ".nhdr")

_LARGEST_HEADER = 8 << 20
_MOST_AXES = 16
_NAMES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPES = {name: code for code, names in _NAMES.items() for name in names.split(", ")}
_ENCODINGS = {
    "raw": "raw",
    "gz": "deflate",
    "gzip": "deflate",
    "bz2": "bzip2",
    "bzip2": "bzip2",
    "txt": "text",
    "text": "text",
    "ascii": "text",
    "hex": "hex",
}
#: Kinds of axes along which samples lie; other axes are components of one sample.
_DOMAIN = ("domain", "space", "time", "???", "none")


def read_nrrd(path: Path, several: bool) -> Volume:
    """Reads a NRRD file.

    Args:
        path: The file, with its voxels inside or in files of the same folder.
        several: Whether several components or volumes are returned, as layers.

    Returns:
        The volume with the header's key/value pairs; lengths in millimetres whatever the
        header's unit.

    Raises:
        InputError: It is damaged, of an unsupported kind or space, its voxels lie outside its
            folder, or it has several values per voxel and `several` is false.
    """
    header = read_header(path)
    axes = header.whole("dimension")
    if not 1 <= axes <= _MOST_AXES:
        raise header.wrong("dimension", f"1 to {_MOST_AXES} is")
    sizes = _sizes(header, axes)
    kinds = header.fields.get("kinds", "").lower().split() or ["???"] * axes
    if len(kinds) != axes:
        raise header.wrong("kinds", f"{axes} names")
    ranges = [axis for axis in range(axes) if kinds[axis] not in _DOMAIN]
    domain = [axis for axis in range(axes) if axis not in ranges]
    if not 2 <= len(domain) <= 4 or len(ranges) > 1:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{path}: it has {axes} axes by its header, {len(domain)} of them in space or time. "
            "Give an image of two or three axes.",
        )
    count = check_sizes(path, sizes)
    components = sizes[ranges[0]] if ranges else 1
    one_number(path, components, [sizes[axis] for axis in domain], several)
    # Before the voxels, since a file without a usable position need not be read further.
    affine, notes = place(header, domain[:3], sizes)
    found, more = read_stored(_stored(header, axes), _data_type(header), count, labels=several)
    values = found.reshape(sizes, order="F")
    values = values.transpose([*domain[3:], *ranges, *domain[:3]])
    values = values.reshape((-1, *(sizes[axis] for axis in domain[:3])))
    return Volume(values, affine, (*notes, *unannounced(more)), header=header.keys)


def read_header(path: Path) -> NrrdHeader:
    """Reads the header alone.

    Raises:
        InputError: It is not an NRRD header, has no end, or has a field twice.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_HEADER)
    if not re.match(rb"NRRD000[1-6]\r?\n", content):
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it may be damaged (it does not begin like an NRRD file). "
            "Write the file again.",
        )
    end = re.search(rb"\r?\n\r?\n", content)
    length = end.end() if end else len(content)
    lines = re.split(r"\r?\n", _text(content[: end.start() if end else None]))[1:]
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for number, line in enumerate(lines):
        if line.startswith("#") or not line.strip():
            continue
        key, pair, value = line.partition(":=")
        name, colon, said = line.partition(":")
        if pair and len(key) <= len(name):
            keys[_unescaped(key)] = _unescaped(value)
            continue
        name = re.sub(r"\s", "", name).lower()
        if not colon or name in fields:
            reason = f"has '{name[:40]}' twice" if colon else f"contains '{line[:40]}'"
            raise InputError(
                ErrorCode.FILE_DAMAGED,
                f"{path}: cannot be read, it may be damaged: its header {reason}. Write the file "
                "again.",
            )
        fields[name] = said.strip()
        if name == "datafile" and said.split()[:1] == ["LIST"]:
            names = tuple(line.strip() for line in lines[number + 1 :] if line.strip())
            return NrrdHeader(path, fields, keys, names, length)
    if end is None and "datafile" not in fields:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it may be damaged or cut off (its header has no end). Copy "
            "it again.",
        )
    return NrrdHeader(path, fields, keys, (), length)


def _text(content: bytes) -> str:
    """The header's text: ASCII by the format, but names of segments may use other encodings."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), text)


def _sizes(header: NrrdHeader, axes: int) -> tuple[int, ...]:
    try:
        found = tuple(int(word) for word in header.fields.get("sizes", "").split())
    except ValueError:
        found = ()
    if len(found) != axes:
        raise header.wrong("sizes", f"{axes} whole numbers are")
    return found


def _data_type(header: NrrdHeader) -> np.dtype[Any]:
    name = " ".join(header.fields.get("type", "").lower().split())
    code = _TYPES.get(name)
    if code is None:
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{header.path}: its voxels have the type '{name[:40]}', which is not supported. "
            "Convert it to a common type of number.",
        )
    order = header.fields.get("endian", "").lower()
    written_out = _encoding(header) == "text" or code.endswith("1")
    if order not in ("little", "big") and not written_out:
        raise header.wrong("endian", "'little' or 'big' is")
    return np.dtype(code).newbyteorder(">" if order == "big" else "<")


def _encoding(header: NrrdHeader) -> str:
    name = header.fields.get("encoding", "").lower()
    if name not in _ENCODINGS:
        raise header.wrong("encoding", "raw, gzip, bzip2, text or hex is")
    return _ENCODINGS[name]


def _stored(header: NrrdHeader, axes: int) -> Stored:
    lines, skip = header.whole("lineskip", 0), header.whole("byteskip", 0)
    encoding = _encoding(header)
    if lines < 0:
        raise header.wrong("lineskip", "0 or more is")
    if skip < AT_END or (skip == AT_END and encoding != "raw"):
        raise header.wrong("byteskip", "0 or more, or -1 with raw voxels, is")
    if "datafile" not in header.fields:
        start = header.length
        return Stored(header.path, (header.path,), start, lines, skip, encoding)
    files = tuple(file_beside(header.path, name) for name in _names(header, axes))
    return Stored(header.path, files, 0, lines, skip, encoding)


def _names(header: NrrdHeader, axes: int) -> list[str]:
    """The files that hold the voxels: one, those of a list, or those of a numbered pattern."""
    words = header.fields["datafile"].split()
    if words[:1] == ["LIST"]:
        names, slab = list(header.names), words[1:]
    elif "%" in header.fields["datafile"] and len(words) in (4, 5):
        try:
            names = numbered(words[0], *(int(word) for word in words[1:4]))
        except ValueError as error:
            raise header.wrong("datafile", "a pattern and three numbers are") from error
        slab = words[4:]
    else:
        names, slab = [header.fields["datafile"]], []
    # Each file holds whole slices; slabs along another axis would have to be interleaved.
    if not names or not all(names) or (slab and slab != [str(axes - 1)] and slab != [str(axes)]):
        raise header.wrong("datafile", "names of files with a slice each are")
    return names
