"""2D pictures: PNG, JPEG, BMP and TIFF with Pillow, 16-bit PNG with SimpleITK."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageFile, ImageOps

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.geometry import LPS_TO_RAS
from SaliencyExplain.images.decoded import (
    CMYK_NOTE,
    TURNED_NOTE,
    Raster,
    several_pages,
    split_alpha,
)
from SaliencyExplain.images.quiet import quiet
from SaliencyExplain.images.sizes import check_memory
from SaliencyExplain.images.tiff import decode_tiff
from SaliencyExplain.images.tiff_tags import is_tiff
from SaliencyExplain.images.volume import Volume
from SaliencyExplain.images.volume_files import unreadable

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
#: Formats that Pillow may detect, whatever the file's name. It would run a program on PostScript.
_FORMATS = ("PNG", "JPEG", "BMP")

#: ITU-R BT.601 luma, which Pillow's conversion to grey uses as well.
_LUMA = np.array([0.299, 0.587, 0.114])
_EXIF_ORIENTATION = 0x0112
#: Bytes per value while a picture is converted to an image (float64).
_PIXEL_BYTES = 8
#: Exceptions of Pillow and of the parsing of tags for damaged files.
_DAMAGED = (
    ArithmeticError,
    Image.DecompressionBombError,
    LookupError,
    OSError,
    struct.error,
    SyntaxError,
    TypeError,
    ValueError,
)


def decode(path: Path, keep_palette: bool = False) -> Raster:
    """Decodes a picture at its stored bit depth, oriented according to its EXIF tag.

    Args:
        path: PNG, JPEG, BMP or TIFF.
        keep_palette: Return palette indices instead of colours.

    Returns:
        The picture, columns first.

    Raises:
        InputError: It cannot be decoded, holds several pages, or unsupported numbers or colours.
    """
    try:
        with quiet():
            return _decoded(path, keep_palette)
    except _DAMAGED as error:
        raise unreadable(path, error) from error


def _decoded(path: Path, keep_palette: bool) -> Raster:
    if is_tiff(path):
        return decode_tiff(path, keep_palette)
    with Image.open(path, formats=_FORMATS) as picture:
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise several_pages(path, pages)
        check_memory(
            path,
            picture.width * picture.height * len(picture.getbands()),
            _PIXEL_BYTES,
            stored=path.stat().st_size,
            labels=keep_palette,
        )
        if _deep_colour(picture):
            if "transparency" in picture.info:
                raise InputError(
                    ErrorCode.IMAGE_VOXEL_TYPE,
                    f"{path}: has 16-bit colours and a transparent colour, which is not "
                    "supported. Save it with an alpha channel.",
                )
            if "LA;16B" in _raw_modes(picture):
                return _decode_deep_grey_alpha(path)
            return _decode_deep(path)
        bits = _grey_bits(picture)
        picture.load()
        return _from_pillow(picture, keep_palette, bits)


def _raw_modes(picture: ImageFile.ImageFile) -> list[str]:
    tiles = [tile[3] for tile in picture.tile]
    return [str(args[0] if isinstance(args, tuple) else args) for args in tiles]


def _deep_colour(picture: ImageFile.ImageFile) -> bool:
    """Whether Pillow would silently cut to 8 bits: 16-bit colours, and 16-bit grey with alpha."""
    modes = _raw_modes(picture) if picture.format == "PNG" else []
    return any(mode.endswith(";16B") and not mode.startswith("I") for mode in modes)


def _grey_bits(picture: ImageFile.ImageFile) -> int:
    """Bits of a grey PNG's values; Pillow scales fewer than 8 bits to 8."""
    modes = _raw_modes(picture) if picture.format == "PNG" else []
    # With one bit Pillow scales the transparent value as well.
    few = {"L;2": 2, "L;4": 4}
    return next((few[mode] for mode in modes if mode in few), 8)


def _decode_deep(path: Path) -> Raster:
    try:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise unreadable(path, error) from error
    if array.ndim != 3 or array.shape[-1] not in (2, 3, 4):
        raise InputError(
            ErrorCode.IMAGE_VOXEL_TYPE,
            f"{path}: its pixels are neither grey, RGB nor RGBA values. Convert it to one of them.",
        )
    return split_alpha(array)


def _decode_deep_grey_alpha(path: Path) -> Raster:
    """Decodes 16-bit grey with alpha, which neither Pillow nor ITK reads.

    A pixel has as many bytes as in an 8-bit RGBA picture, and PNG's filters use the same ones.
    With the header of such a picture Pillow returns the bytes.
    """
    content = bytearray(path.read_bytes())
    content[24:26] = 8, 6
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with Image.open(io.BytesIO(bytes(content)), formats=("PNG",)) as picture:
        picture.load()
        stored = np.ascontiguousarray(np.asarray(picture))
    return split_alpha(stored.view(">u2").astype(np.uint16))


def _with_key(raster: Raster, key: int | tuple[int, ...]) -> Raster:
    """The picture with alpha 0 at the one value that its file declares as transparent."""
    opaque = (raster.values != np.atleast_1d(key)).any(axis=2).astype(np.uint8) * 255
    return Raster(raster.values, opaque, raster.palette, raster.lossy, raster.notes)


def _from_pillow(picture: Image.Image, keep_palette: bool, bits: int) -> Raster:
    notes: tuple[str, ...] = ()
    lossy = picture.format in ("JPEG", "MPO")
    if picture.getexif().get(_EXIF_ORIENTATION, 1) not in (0, 1):
        ImageOps.exif_transpose(picture, in_place=True)
        notes = (TURNED_NOTE,)
    if picture.mode == "P" and keep_palette:
        return _of_palette(picture, lossy, notes)
    key = picture.info.get("transparency")
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        key = None
    elif picture.mode in ("CMYK", "YCbCr", "HSV", "PA", "RGBX"):
        if picture.mode == "CMYK":
            notes += (CMYK_NOTE,)
        picture = picture.convert("RGBA" if picture.mode == "PA" else "RGB")
    array = np.asarray(picture)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    array = array if array.ndim == 3 else array[..., np.newaxis]
    raster = split_alpha(array, lossy=lossy, notes=notes)
    if raster.alpha is not None or not isinstance(key, (int, tuple)):
        return raster
    stretched = 255 // (2**bits - 1) if bits < 8 and isinstance(key, int) else 1
    return _with_key(raster, key * stretched if isinstance(key, int) else key)


def _of_palette(picture: Image.Image, lossy: bool, notes: tuple[str, ...]) -> Raster:
    colors = picture.getpalette("RGB") or []
    palette = np.array(colors, dtype=float).reshape(-1, 3) / 255.0
    index = np.asarray(picture).T
    transparent = picture.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = (index != transparent).astype(np.uint8) * 255
    elif isinstance(transparent, bytes):
        # Alpha values of the first colours; the others are opaque.
        of_index = np.full(256, 255, np.uint8)
        of_index[: len(transparent)] = np.frombuffer(transparent, np.uint8)
        alpha = of_index[index]
    return Raster(index[..., np.newaxis], alpha, palette, lossy, notes)


def read_raster(path: Path, colour: bool) -> Volume:
    """Reads a picture as an image of two axes (x, y) with a pixel size of one millimetre.

    Args:
        path: PNG, JPEG, BMP or TIFF.
        colour: Return red, green and blue as three layers instead of one of grey values.

    Returns:
        The image; its axes run to the patient's left and back, as in SimpleITK.

    Raises:
        InputError: See :func:`decode`.
    """
    raster = decode(path)
    notes = [*raster.notes, "the pixel size is unknown: a pixel (px) counts as 1 mm"]
    values = raster.values.astype(np.float64)
    if raster.alpha is not None:
        opaque = np.iinfo(raster.alpha.dtype).max if raster.alpha.dtype.kind in "iu" else 1.0
        if raster.alpha.min() < opaque:
            if not raster.over_black:
                values = values * (raster.alpha[..., np.newaxis] / opaque)
            notes.append("transparent pixels are blended with black")
    if colour:
        layers = np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values
    elif values.shape[2] == 1:
        layers = values
    elif (values == values[..., :1]).all():
        layers = values[..., :1]
    else:
        layers = (values @ _LUMA)[..., np.newaxis]
        notes.append("colours are converted to grey values (ITU-R 601 luma)")
    return Volume(np.moveaxis(layers, -1, 0), LPS_TO_RAS.copy(), tuple(notes), colour=colour)
