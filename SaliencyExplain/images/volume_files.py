"""NIfTI, Analyze and FreeSurfer volumes, read with nibabel after checks of their headers."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import same_grid
from SaliencyExplain.images.input_file import file_beside
from SaliencyExplain.images.sizes import DEFLATED, check_memory, check_sizes, check_stored
from SaliencyExplain.images.units import unit_note
from SaliencyExplain.images.volume import Volume, checked_affine, several_volumes

# nibabel reports on standard error what it corrects in headers, which many tools write wrongly.
nibabel_logger.disabled = True

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mgh", ".mgz")

#: NIfTI's codes of length units, in millimetres (nifti1.h: NIFTI_UNITS_METER, _MM, _MICRON).
_LENGTHS = {0: ("", 1.0), 1: ("metres", 1000.0), 2: ("", 1.0), 3: ("micrometres", 0.001)}
#: Bits of xyzt_units with the unit of length (nifti1.h: XYZT_TO_SPACE).
_LENGTH_BITS = 0x07
#: Largest number of bytes before a NIfTI file's voxels; the largest extensions have a few million.
_LATEST_VOXELS = 64 << 20
_EXTENSION_LEAST = 16
#: Codes of extensions are even and small (nifti1_io.h: NIFTI_ECODE_*).
_EXTENSION_CODES = range(2, 100, 2)
#: Bytes after the voxels of a compressed file that are unpacked to reach its checksum: as many as
#: the voxels have, or this many. FreeSurfer writes some kilobytes there.
_MOST_BEHIND = 64 << 20
_PIECE = 1 << 20
#: Intent codes of CIFTI-2 files (https://www.nitrc.org/projects/cifti).
_CIFTI = range(3000, 3100)


def read_nibabel(path: Path, several: bool) -> Volume:
    """Reads a NIfTI, Analyze or FreeSurfer volume.

    Args:
        path: The file.
        several: Whether volumes of more than three axes are returned, as layers.

    Returns:
        The volume, scaled by the header's slope and intercept.

    Raises:
        InputError: It is damaged or not an image, announces more than its file can hold, holds
            colours or complex numbers, has no valid affine, or holds several volumes and
            `several` is false.
    """
    packed = path.name.lower().endswith((".gz", ".mgz"))
    block, least = _checked_start(path, packed)
    image = nibabel.load(path)
    if not isinstance(image, SpatialImage):
        raise InputError(ErrorCode.FILE_FORMAT, _no_image(path, type(image).__name__))
    shape = tuple(int(size) for size in image.shape)
    if image.get_data_dtype().kind not in "iufb":
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{path}: its voxels are {_kind(image.get_data_dtype())} instead of one number each. "
            "Convert it to a volume of grey values.",
        )
    voxels = check_sizes(path, shape)
    if sum(size > 1 for size in shape[:3]) < 2:
        raise InputError(
            ErrorCode.IMAGE_AXES,
            f"{path}: has the shape {shape}, a row of values as of a surface or a table. Give an "
            "image of two or three axes.",
        )
    spatial, count = shape[:3], math.prod(shape[3:])
    if count != 1 and not several:
        raise InputError(ErrorCode.IMAGE_AMBIGUOUS, several_volumes(path, count))
    proxy = _from(image.dataobj, image.file_map["image"].filename, least)
    _check_voxels(path, proxy, voxels, packed, several)
    affine, notes = nibabel_affine(path, image, block, spatial)
    read = _unpacked(path, proxy) if packed else np.asarray(proxy)
    values = read.reshape((*spatial, count), order="F")
    return Volume(np.moveaxis(values, -1, 0), affine, tuple(notes))


def _from(proxy: Any, file: Any, least: int) -> ArrayProxy:
    """A proxy for the voxels of a file, from at least the first byte after the header."""
    offset = max(int(proxy.offset), least)
    return ArrayProxy(file, (proxy.shape, proxy.dtype, offset, proxy.slope, proxy.inter))


def _unpacked(path: Path, proxy: ArrayProxy) -> NDArray[Any]:
    """The voxels of a gzip file, read to its end to verify the checksum."""
    most = max(proxy.dtype.itemsize * math.prod(proxy.shape), _MOST_BEHIND)
    with gzip.open(path) as file:
        values = np.asarray(_from(proxy, file, 0))
        behind = 0
        while piece := file.read(_PIECE):
            behind += len(piece)
            if behind > most:
                raise InputError(
                    ErrorCode.FILE_DAMAGED,
                    f"{path}: unpacks to more than twice the voxels that its header announces; it "
                    "may be damaged. Copy it again.",
                )
    return values


def _checked_start(path: Path, packed: bool) -> tuple[bytes, int]:
    """The first bytes of the header, after checks of what would make nibabel hang.

    Also returns the first byte that can belong to a voxel.
    """
    least = 0
    suffix = path.suffix.lower()
    if suffix in (".hdr", ".img"):
        header = _other_file(path, "hdr")
        for one in (header, _other_file(path, "img")):
            file_beside(path, one.name)
        path = header
    with gzip.open(path) if packed else path.open("rb") as file:
        block = file.read(nibabel.Nifti2Header.sizeof_hdr)
        if suffix in (".mgh", ".mgz"):
            _check_mgh(path, block, packed)
        elif suffix not in (".hdr", ".img"):
            file.seek(0)
            least = _check_extensions(path, file)
    return block, least


def _other_file(path: Path, ending: str) -> Path:
    """The other file of a pair; its suffix is in capitals if the first one's is, as in nibabel."""
    capitals = path.suffix[1:].isupper()
    return path.with_suffix(f".{ending.upper() if capitals else ending}")


def _check_mgh(path: Path, block: bytes, packed: bool) -> None:
    # nibabel multiplies the sizes and seeks to the result before it checks them. They follow the
    # version and are big-endian.
    voxels = check_sizes(path, np.frombuffer(block, ">i4", 5)[1:].tolist())
    check_stored(path, voxels, path.stat().st_size, DEFLATED if packed else 1)


def _check_extensions(path: Path, file: Any) -> int:
    """Checks the extensions after a header; a length of 0 makes nibabel loop for ever.

    Returns:
        The first byte after the header and the four bytes that announce extensions. Voxels with
        an offset of 0 begin there, as in nifti_image_read.
    """
    start = file.read(4)
    wide = nibabel.Nifti2Header.sizeof_hdr in (
        int.from_bytes(start, "little"),
        int.from_bytes(start, "big"),
    )
    kind = nibabel.Nifti2Header if wide else nibabel.Nifti1Header
    block = start + file.read(kind.sizeof_hdr - 4)
    header = kind(block, check=False)
    if int(header["intent_code"]) in _CIFTI:
        raise InputError(ErrorCode.FILE_FORMAT, _no_image(path, "CIFTI"))
    voxels = float(header["vox_offset"])
    place = kind.sizeof_hdr + 4
    if voxels != 0 and not place <= voxels <= _LATEST_VOXELS:
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it may be damaged (by its header the voxels begin at byte "
            f"{voxels:g}). Write the file again.",
        )
    if file.read(4)[:1] in (b"", b"\0"):
        return place
    order = f"{header.endianness}i4"
    if voxels - place < _EXTENSION_LEAST:
        _check_no_extension(path, file, order, voxels)
    least = place
    while voxels - place >= _EXTENSION_LEAST:
        length = int(np.frombuffer(file.read(4), order, 1)[0])
        if length < _EXTENSION_LEAST or place + length > voxels:
            raise InputError(
                ErrorCode.FILE_DAMAGED,
                f"{path}: cannot be read, it may be damaged (an extension of its header has the "
                f"length {length}). Write the file again.",
            )
        file.seek(length - 4, os.SEEK_CUR)
        place += length
    return least


def _check_no_extension(path: Path, file: Any, order: str, voxels: float) -> None:
    """Refuses an extension at the offset of the voxels; many headers do not announce it."""
    length, code = (int(one) for one in np.frombuffer(file.read(8).ljust(8, b"\0"), order))
    found = length >= _EXTENSION_LEAST and length % _EXTENSION_LEAST == 0
    if voxels == 0 or (found and code in _EXTENSION_CODES):
        raise InputError(
            ErrorCode.FILE_DAMAGED,
            f"{path}: cannot be read, it may be damaged (by its header the voxels begin at byte "
            f"{voxels:g}, inside the header or an extension). Write the file again.",
        )


def _check_voxels(path: Path, proxy: ArrayProxy, voxels: int, packed: bool, labels: bool) -> None:
    """Compares the size in the header with the file and the memory."""
    stored = os.path.getsize(proxy.file_like)
    wanted = int(proxy.offset) + voxels * proxy.dtype.itemsize
    check_stored(path, wanted, stored, DEFLATED if packed else 1)
    check_memory(
        path, voxels, proxy.dtype.itemsize, stored=stored if packed else None, labels=labels
    )


def nibabel_affine(
    path: Path,
    image: SpatialImage,
    block: bytes,
    shape: tuple[int, ...],
) -> tuple[NDArray[np.float64], list[str]]:
    """The affine of a nibabel image in millimetres, and notes on it.

    Args:
        path: The file, for messages.
        image: The image.
        block: The stored bytes of the header, before nibabel corrects them.
        shape: Sizes of the spatial axes.

    Raises:
        InputError: The header's unit is invalid, or the affine has no inverse.
    """
    affine = np.array(image.affine, dtype=np.float64)
    notes: list[str] = []
    header = image.header
    if isinstance(header, nibabel.Nifti1Header):
        sform, sform_code = image.get_sform(coded=True)
        qform, qform_code = image.get_qform(coded=True)
        if not sform_code and not qform_code:
            notes.append(
                "the header has no orientation; the first axis is assumed to run to the patient's "
                "left"
            )
        if sform_code and qform_code and not same_grid(shape, sform, shape, qform, 0.5):
            notes.append("the header has two different orientations; the sform is used")
        if not sform_code:
            notes += _spacing_notes(type(header)(_start(block, header), check=False), len(shape))
        code = int(header["xyzt_units"]) & _LENGTH_BITS
        if code not in _LENGTHS:
            raise InputError(
                ErrorCode.IMAGE_GEOMETRY,
                f"{path}: the code of the unit of length in its header, {code}, is not defined in "
                "NIfTI. Write the file in mm.",
            )
        unit, scale = _LENGTHS[code]
        if scale != 1:
            affine[:3] *= scale
            notes.append(unit_note(unit))
    elif isinstance(header, nibabel.AnalyzeHeader):
        notes.append("an Analyze header has no orientation; left and right may be swapped")
        notes += _spacing_notes(type(header)(_start(block, header), check=False), len(shape))
    checked_affine(path, affine)
    return affine, notes


def _start(block: bytes, header: nibabel.AnalyzeHeader) -> bytes:
    return block[: header.template_dtype.itemsize]


def _spacing_notes(as_stored: nibabel.AnalyzeHeader, axes: int) -> list[str]:
    """Notes on nibabel's corrections of voxel sizes: it replaces 0 by 1 and ignores signs."""
    said = [float(size) for size in as_stored["pixdim"][1 : axes + 1]]
    missing = [str(axis) for axis, size in enumerate(said, start=1) if size == 0]
    if not missing:
        return []
    return [f"the header has no voxel size along axis {', '.join(missing)}; 1 mm is used"]


def _no_image(path: Path, kind: str) -> str:
    name = kind.removesuffix("Image")
    return (
        f"{path}: is a {name} file with values of a surface or of brain regions, and not an image. "
        "Export a volume (NIfTI) from the program that wrote it."
    )


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that a library could not read, with the reason in one line."""
    reason = (
        str(error).strip().splitlines()[-1].strip() if str(error).strip() else "no reason given"
    )
    return InputError(
        ErrorCode.FILE_DAMAGED,
        f"{path}: cannot be read, it may be damaged or cut off ({reason[:200]}). Copy or export it "
        "again.",
    )


def _kind(data_type: np.dtype) -> str:
    return "complex" if data_type.kind == "c" else "colour"
