"""MetaImage files (.mha, .mhd): a header of lines ``key = value``, voxels after it or elsewhere.

They are not read by ITK, whose MetaImage reader trusts the header: a wrong number of axes crashes
the process, and voxels that cannot be unpacked are returned as wrong voxels without an error. For
valid files the result equals ITK's (https://itk.org/Wiki/ITK/MetaIO/Documentation).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS
from SaliencyExplain.images.input_file import file_beside
from SaliencyExplain.images.sizes import check_sizes
from SaliencyExplain.images.stored import AT_END, Stored, numbered, read_stored
from SaliencyExplain.images.units import millimetres, unit_note
from SaliencyExplain.images.volume import Volume, checked_affine, one_number, unannounced

SUFFIXES = (".mha", ".mhd")

#: Largest header in bytes; real files have a few hundred.
_LARGEST_HEADER = 1 << 20
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MOST_AXES = 5
#: The key that ends the header.
_END = "ElementDataFile"


@dataclass(frozen=True)
class _Header:
    path: Path
    fields: dict[str, str]
    length: int

    def first(self, *keys: str, default: str) -> str:
        return next((self.fields[key] for key in keys if key in self.fields), default)

    def numbers(self, *keys: str, count: int, default: float) -> NDArray[np.float64]:
        text = self.first(*keys, default="")
        try:
            found = np.array([float(word) for word in text.split()])
        except ValueError:
            found = np.array([np.nan])
        if not text:
            return np.full(count, default)
        if len(found) != count or not np.isfinite(found).all():
            named = next(key for key in keys if key in self.fields)
            raise self.wrong(named, text, f"{count} numbers")
        return found

    def whole(self, key: str, default: int) -> int:
        text = self.first(key, default=str(default))
        try:
            return int(text)
        except ValueError as error:
            raise self.wrong(key, text, "a whole number is") from error

    def true(self, *keys: str, default: bool) -> bool:
        return self.first(*keys, default=str(default))[:1] in ("T", "t", "1")

    def wrong(self, key: str, text: str, wanted: str) -> InputError:
        return InputError(
            ErrorCode.FILE_DAMAGED,
            f"{self.path}: cannot be read, it may be damaged: {key} is '{text[:80]}' in its "
            f"header, and {wanted} expected. Write the file again.",
        )


def read_meta_image(path: Path, several: bool) -> Volume:
    """Reads a MetaImage file.

    Args:
        path: The file, with its voxels inside or in files of the same folder.
        several: Whether several components or volumes are returned, as layers.

    Returns:
        The volume; lengths in millimetres whatever the header's unit.

    Raises:
        InputError: It is damaged, of an unsupported kind, its voxels lie outside its folder, or
            it has several values per voxel and `several` is false.
    """
    header = _header(path)
    kind = header.first("ObjectType", default="Image")
    if kind != "Image":
        raise InputError(
            ErrorCode.FILE_FORMAT,
            f"{path}: is a MetaIO file of a {kind[:40]} and not an image. Give an image.",
        )
    axes = header.whole("NDims", 0)
    if not 2 <= axes <= _MOST_AXES:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{path}: it has {axes} axes by its header. Give an image of two or three axes.",
        )
    sizes = _sizes(header, axes)
    channels = header.whole("ElementNumberOfChannels", 1)
    count = check_sizes(path, (*sizes, channels))
    one_number(path, channels, sizes, several)
    if header.numbers("ElementToIntensityFunctionSlope", count=1, default=1.0)[0] != 1 or (
        header.numbers("ElementToIntensityFunctionOffset", count=1, default=0.0)[0] != 0
    ):
        raise InputError(
            ErrorCode.IMAGE_VALUES,
            f"{path}: its header defines a scaling of the values (ElementToIntensityFunction), "
            "which 3D Slicer and ITK ignore. Apply it and write the file again.",
        )
    found, more = read_stored(_stored(header, axes), _data_type(header), count, labels=several)
    values = found.reshape((channels, *sizes), order="F")
    # Channels vary fastest in the file, volumes slowest.
    spatial = min(axes, 3)
    values = np.moveaxis(values.reshape((channels, *sizes[:spatial], -1), order="F"), -1, 1)
    values = values.reshape((-1, *sizes[:spatial]))
    affine, notes = _affine(header, axes)
    return Volume(values, affine, (*notes, *unannounced(more)), header=dict(header.fields))


def _header(path: Path) -> _Header:
    with path.open("rb") as file:
        content = file.read(_LARGEST_HEADER)
    fields: dict[str, str] = {}
    place = 0
    while place < len(content):
        end = content.find(b"\n", place)
        end = len(content) if end < 0 else end
        line = content[place:end]
        place = min(end + 1, len(content))
        # "=" and ":" both separate; a file's name may hold either.
        cut = min((at for at in (line.find(b"="), line.find(b":")) if at >= 0), default=-1)
        if cut < 0 and line.strip():
            break
        key, value = line[:cut].strip(), line[cut + 1 :].strip()
        if not key:
            continue
        name = key.decode("utf-8", "replace")
        if name in fields:
            raise InputError(
                ErrorCode.FILE_DAMAGED,
                f"{path}: cannot be read, it may be damaged: its header has '{name[:80]}' twice. "
                "Write the file again.",
            )
        fields[name] = value.decode("utf-8", "replace")
        if name == _END:
            return _Header(path, fields, place)
    raise InputError(
        ErrorCode.FILE_DAMAGED,
        f"{path}: cannot be read, it may be damaged or cut off (its header does not end with "
        f"{_END}). Copy it again.",
    )


def _sizes(header: _Header, axes: int) -> tuple[int, ...]:
    text = header.first("DimSize", default="")
    try:
        found = tuple(int(word) for word in text.split())
    except ValueError:
        found = ()
    if len(found) != axes:
        raise header.wrong("DimSize", text, f"{axes} whole numbers are")
    return found


def _data_type(header: _Header) -> np.dtype:
    name = header.first("ElementType", default="")
    code = _TYPES.get(name.removesuffix("_ARRAY"))
    if code is None:
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{header.path}: its voxels have the type '{name[:40]}', which is not supported. "
            "Convert it to a common type of number.",
        )
    big = header.true("BinaryDataByteOrderMSB", "ElementByteOrderMSB", default=False)
    return np.dtype(code).newbyteorder(">" if big else "<")


def _stored(header: _Header, axes: int) -> Stored:
    name = header.fields[_END]
    skip = header.whole("HeaderSize", 0)
    packed = header.true("CompressedData", default=False)
    encoding = "raw"
    if packed:
        encoding = "deflate"
    elif not header.true("BinaryData", default=True):
        encoding = "text"
    if name.upper() == "LOCAL":
        return Stored(header.path, (header.path,), start=header.length, encoding=encoding)
    if skip < AT_END or (skip and packed):
        raise header.wrong(
            "HeaderSize", str(skip), "0, -1, or the size of a raw file's header in bytes is"
        )
    files = tuple(file_beside(header.path, one) for one in _names(header, name, axes))
    return Stored(header.path, files, skip=skip, encoding=encoding)


def _names(header: _Header, name: str, axes: int) -> list[str]:
    """The files that hold the voxels: one, those of a list, or those of a numbered pattern."""
    words = name.split()
    if words[:1] == ["LIST"]:
        content = header.path.read_bytes()[header.length : header.length + _LARGEST_HEADER]
        names = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
        names = [one for one in names if one]
        if not names:
            raise header.wrong(_END, name, "names of files after it are")
        return names
    if "%" in name and len(words) == 4:
        try:
            return numbered(words[0], *(int(word) for word in words[1:]))
        except ValueError as error:
            raise header.wrong(_END, name, "a pattern and three numbers are") from error
    if not name:
        raise header.wrong(_END, name, "the name of a file is")
    return [name]


def _affine(header: _Header, axes: int) -> tuple[NDArray[np.float64], list[str]]:
    spatial = min(axes, 3)
    matrix = header.numbers(
        "TransformMatrix", "Rotation", "Orientation", count=axes * axes, default=np.nan
    ).reshape(axes, axes)
    if np.isnan(matrix).all():
        matrix = np.eye(axes)
    offset = header.numbers("Origin", "Offset", "Position", count=axes, default=0.0)
    spacing = header.numbers("ElementSpacing", "ElementSize", count=axes, default=1.0)
    if spacing[:spatial].min() <= 0:
        raise InputError(
            ErrorCode.IMAGE_GEOMETRY,
            f"{header.path}: its spacing is {' '.join(f'{one:g}' for one in spacing)}, and must be "
            "above 0. Correct the header.",
        )
    unit = header.first("DistanceUnits", default="")
    scale = millimetres(header.path, unit)
    lps = np.eye(4)
    # Each row of the header's matrix is the direction of an axis.
    lps[:spatial, :spatial] = matrix[:spatial, :spatial].T * spacing[:spatial] * scale
    lps[:spatial, 3] = offset[:spatial] * scale
    affine = LPS_TO_RAS @ lps
    checked_affine(header.path, affine)
    return affine, [unit_note(unit)] if scale != 1 else []
