"""Damage to files: to bytes, and to what a format's header says."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import nibabel
import numpy as np
import pydicom
from numpy.random import Generator
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

# fmt: off
NUMBERS = (
    -1, 0, 1, 2, 3, 7, 127, 255, 256, 32767, 65535, 100_000, 2**31 - 1, 2**31, 2**32, 2**63
)
WORDS = (
    "", "-1", "0", "1", "2147483648", "99999999999999999999", "1e308", "nan", "inf", "-inf", "abc",
    "1.5", "%d", "../../x", "/dev/zero", "LIST", "\0", "é", "1 2 3", "None", "true",
)
# fmt: on


def damaged(content: bytes, kind: str, name: str, rng: Generator) -> bytes:
    """A copy of a file's content with one to four things wrong.

    Args:
        content: Of a good file.
        kind: Which header it has: one of :data:`_HEADERS`, or ``bytes``.
        name: Of the file; those of gzip are damaged within as often as without.
        rng: Decides.
    """
    packed = name.endswith(("gz", "mgz"))
    if packed and rng.random() < 0.6:
        inside = damaged(gzip.decompress(content), kind, "", rng)
        return gzip.compress(inside, compresslevel=1)
    for _ in range(int(rng.integers(1, 5))):
        change = _HEADERS.get(kind)
        if change is None or rng.random() > 0.7:
            content = _bytes(content, rng)
            continue
        try:
            content = change(content, rng)
        except Exception:  # noqa: BLE001 - so damaged already that its header cannot be found
            content = _bytes(content, rng)
    return content


def _bytes(content: bytes, rng: Generator) -> bytes:
    data = bytearray(content)
    if not data:
        return content
    # Headers lie in front: half of the damage is done there.
    end = len(data) if rng.random() < 0.5 else min(len(data), 600)
    place = int(rng.integers(0, end))
    length = int(rng.integers(1, 17))
    what = rng.integers(0, 8)
    if what == 0:
        data[place] ^= 1 << int(rng.integers(0, 8))
    elif what == 1:
        data[place] = int(rng.integers(0, 256))
    elif what == 2:
        data[place : place + length] = rng.bytes(length)
    elif what == 3:
        del data[place : place + length]
    elif what == 4:
        data[place:place] = rng.bytes(length)
    elif what == 5:
        return bytes(data[: int(rng.integers(0, len(data) + 1))])
    elif what == 6:
        other = int(rng.integers(0, len(data)))
        data[place : place + length] = data[other : other + length]
    else:
        form = "<>"[int(rng.integers(0, 2))] + "bhiqfd"[int(rng.integers(0, 6))]
        number = _packed_number(form, rng)
        data[place : place + len(number)] = number
    return bytes(data)


def _packed_number(form: str, rng: Generator) -> bytes:
    number = NUMBERS[int(rng.integers(0, len(NUMBERS)))]
    if form[1] in "fd":
        value = (float(number), float("nan"), float("inf"), 1e30)[int(rng.integers(0, 4))]
        return struct.pack(form, value)
    size = struct.calcsize(form)
    wrapped = number % 2 ** (8 * size)
    return wrapped.to_bytes(size, "little" if form[0] == "<" else "big")


def _structured(dtype: np.dtype[Any]) -> Callable[[bytes, Generator], bytes]:
    """Sets a field of a header of fixed fields."""
    places = []
    for field in dtype.names or ():
        base, offset = dtype.fields[field][:2]
        count = int(np.prod(base.shape, dtype=int))
        element = base.base
        if element.kind in "iuf":
            form = {"i": "bhiq", "u": "bhiq", "f": "fd"}[element.kind]
            sizes = {"b": 1, "h": 2, "i": 4, "q": 8, "f": 4, "d": 8}
            code = next(one for one in form if sizes[one] == element.itemsize)
            places += [(offset + index * element.itemsize, code) for index in range(count)]

    def change(content: bytes, rng: Generator) -> bytes:
        place, code = places[int(rng.integers(0, len(places)))]
        order = ">" if dtype[0].str.startswith(">") else "<"
        number = _packed_number(order + code, rng)
        return content[:place] + number + content[place + len(number) :]

    return change


def _text(content: bytes, rng: Generator) -> bytes:
    """Changes a line of a header of lines ``key: value`` or ``key = value``."""
    end = content.find(b"\n\n")
    local = re.search(rb"ElementDataFile *= *[^\n]*\n", content)
    end = local.end() if local else end + 1 if end >= 0 else len(content)
    lines = content[:end].split(b"\n")
    index = int(rng.integers(0, max(len(lines) - 1, 1)))
    what = rng.integers(0, 5)
    if what == 0:
        del lines[index]
    elif what == 1:
        lines.insert(index, lines[int(rng.integers(0, len(lines)))])
    else:
        parts = re.split(rb"(\s*[:=]+\s*)", lines[index], maxsplit=1)
        words = parts[-1].split(b" ")
        word = WORDS[int(rng.integers(0, len(WORDS)))].encode()
        if what == 4:
            words = [word] * int(rng.integers(1, 40))
        else:
            words[int(rng.integers(0, len(words)))] = word
        parts[-1] = b" ".join(words)
        lines[index] = b"".join(parts)
    return b"\n".join(lines) + content[end:]


def _json(content: bytes, rng: Generator) -> bytes:
    """Changes, removes or doubles a value of a JSON tree."""
    try:
        tree = json.loads(content)
    except ValueError:
        return _bytes(content, rng)
    holders: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        pairs = (
            node.items()
            if isinstance(node, dict)
            else enumerate(node)
            if isinstance(node, list)
            else ()
        )
        for key, value in list(pairs):
            holders.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    if isinstance(tree, (dict, list)):
        walk(tree)
    if not holders:
        return _bytes(content, rng)
    holder, key = holders[int(rng.integers(0, len(holders)))]
    strange: tuple[Any, ...] = (None, True, [], {}, [[]], -1, 0, 2, 2**31, 2**63, 1e308, 0.5,
                                "", "x", "$1", "@image", "%x", {"_target_": "os.system"},
                                [1, 2, 3], ["a"] * 20, {"0": "a"})  # fmt: skip
    if rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = strange[int(rng.integers(0, len(strange)))]
    return json.dumps(tree).encode()


def _dicom(content: bytes, rng: Generator) -> bytes:
    """Changes, removes or adds an element of a DICOM file, also within sequences."""
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    elements: list[tuple[Dataset, DataElement]] = []
    for element in dataset:
        elements.append((dataset, element))
        if element.VR == "SQ":
            elements += [(item, inner) for item in element.value for inner in item]
            elements += [
                (deep, inner)
                for item in element.value
                for middle in item
                if middle.VR == "SQ"
                for deep in middle.value
                for inner in deep
            ]
    holder, element = elements[int(rng.integers(0, len(elements)))]
    what = rng.integers(0, 4)
    if what == 0:
        del holder[element.tag]
    elif what == 1 and element.VR != "SQ":
        # As bytes, whatever the type: numbers and texts that it cannot be.
        text = WORDS[int(rng.integers(0, len(WORDS)))]
        strange = (text, f"{text}\\{text}\\{text}", "1" * 70)[int(rng.integers(0, 3))]
        element = DataElement(element.tag, "UN", strange.encode("utf-8", "replace"))
        holder[element.tag] = element
    elif what == 2 and element.VR in ("US", "UL", "SS", "SL", "IS", "DS", "FD", "FL"):
        number = NUMBERS[int(rng.integers(0, len(NUMBERS)))]
        holder[element.tag].value = min(number, 65535) if element.VR == "US" else number
    elif element.VR == "SQ":
        element.value = list(element.value) * int(rng.integers(0, 3))
    else:
        element.value = element.value
        holder[element.tag].VR = ("UN", "OB", "LO", "US", "DS")[int(rng.integers(0, 5))]
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=False)
    return out.getvalue()


def _png(content: bytes, rng: Generator) -> bytes:
    """Changes a chunk and makes its checksum right again."""
    chunks: list[tuple[bytes, bytes]] = []
    place = 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        if length > len(content):
            return _bytes(content, rng)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return _bytes(content, rng)
    index = int(rng.integers(0, len(chunks)))
    kind, data = chunks[index]
    if rng.random() < 0.15:
        del chunks[index]
    elif rng.random() < 0.15:
        chunks.insert(index, chunks[int(rng.integers(0, len(chunks)))])
    elif kind == b"IDAT" and rng.random() < 0.5:
        try:
            data = zlib.compress(_bytes(zlib.decompress(data), rng))
        except zlib.error:
            data = _bytes(data, rng)
        chunks[index] = (kind, data)
    else:
        chunks[index] = (kind, _bytes(data, rng))
    out = content[:8]
    for kind, data in chunks:
        out += struct.pack(">I", len(data)) + kind + data
        out += struct.pack(">I", zlib.crc32(kind + data))
    return out


def _tiff(content: bytes, rng: Generator) -> bytes:
    """Changes an entry of the first directory of tags."""
    order = "<" if content[:2] == b"II" else ">"
    try:
        (place,) = struct.unpack_from(order + "I", content, 4)
        (count,) = struct.unpack_from(order + "H", content, place)
    except struct.error:
        return _bytes(content, rng)
    if not count:
        return _bytes(content, rng)
    entry = place + 2 + 12 * int(rng.integers(0, count))
    at, form = ((0, "h"), (2, "h"), (4, "i"), (8, "i"), (8, "h"))[int(rng.integers(0, 5))]
    number = _packed_number(order + form, rng)
    return content[: entry + at] + number + content[entry + at + len(number) :]


def _zip(content: bytes, rng: Generator) -> bytes:
    """Changes the bytes of a file within an archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return _bytes(content, rng)
    if not files:
        return _bytes(content, rng)
    names = sorted(files)
    pickles = [name for name in names if name.endswith(".pkl")]
    chosen = pickles if pickles and rng.random() < 0.6 else names
    name = chosen[int(rng.integers(0, len(chosen)))]
    if rng.random() < 0.1:
        del files[name]
    else:
        files[name] = _bytes(files[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


_MGH = np.dtype([("version", ">i4"), ("dims", ">i4", (4,)), ("type", ">i4"), ("dof", ">i4"),
                 ("good", ">i2"), ("delta", ">f4", (3,)), ("Mdc", ">f4", (3, 3)),
                 ("Pxyz_c", ">f4", (3,))])  # fmt: skip
_HEADERS: dict[str, Callable[[bytes, Generator], bytes]] = {
    "nifti1": _structured(nibabel.Nifti1Header.template_dtype),
    "nifti2": _structured(nibabel.Nifti2Header.template_dtype),
    "analyze": _structured(nibabel.Spm99AnalyzeHeader.template_dtype),
    "mgh": _structured(_MGH),
    "text": _text,
    "json": _json,
    "dicom": _dicom,
    "png": _png,
    "tiff": _tiff,
    "zip": _zip,
}
