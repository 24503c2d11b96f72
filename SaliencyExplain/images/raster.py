"""Pictures of two axes: PNG, JPEG and TIFF through Pillow, deep colours through SimpleITK."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.grids import LPS_TO_RAS
from SaliencyExplain.images.volume import Volume
from SaliencyExplain.images.volume_files import itk_quiet, unreadable

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

#: ITU-R BT.601 luma, the weights of Pillow's conversion to grey as well.
_LUMA = np.array([0.299, 0.587, 0.114])
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Raster:
    """A decoded picture.

    Attributes:
        values: (columns, rows, components), components 1 (grey or palette index) or 3.
        alpha: (columns, rows), 0 where transparent, or None.
        palette: RGB in [0, 1] of each palette index, or None.
        lossy: Whether values may have been changed by compression.
        notes: What is to be said aloud.
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None
    palette: NDArray[np.float64] | None
    lossy: bool
    notes: tuple[str, ...]


def decode(path: Path, keep_palette: bool = False) -> Raster:
    """Decodes a picture in the depth in which it is stored, turned as its EXIF tag says.

    Args:
        path: PNG, JPEG or TIFF.
        keep_palette: Palette indices instead of the colours they stand for.

    Returns:
        The picture, columns first.

    Raises:
        InputError: It cannot be decoded or holds several pages.
    """
    try:
        with Image.open(path) as picture:
            pages = getattr(picture, "n_frames", 1)
            if pages > 1:
                raise InputError(
                    ErrorCode.IMAGE_AMBIGUOUS,
                    f"{path}: holds {pages} pages, and one picture is wanted. Save the page you "
                    "mean as a file of its own, or all of them as a volume (NIfTI, NRRD).",
                )
            if _deep_colour(picture):
                return _decode_deep(path)
            picture.load()
            return _from_pillow(picture, keep_palette)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if _is_tiff(path):
            return _decode_deep(path)
        raise unreadable(path, error) from error


def _is_tiff(path: Path) -> bool:
    """Pillow does not know 16-bit colour TIFF and says only that it cannot identify it."""
    return path.suffix.lower() in (".tif", ".tiff")


def _deep_colour(picture: ImageFile.ImageFile) -> bool:
    """Pillow cuts 16-bit colours down to 8 bits without a word."""
    if picture.format == "PNG":
        tiles = [tile[3] for tile in picture.tile]
        modes = [str(args[0] if isinstance(args, tuple) else args) for args in tiles]
        return any(mode.endswith(";16B") and not mode.startswith("I") for mode in modes)
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        bits = picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))
        return len(bits) > 1 and max(bits) > 8
    return False


def _decode_deep(path: Path) -> Raster:
    try:
        with itk_quiet():
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise unreadable(path, error) from error
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] > 4):
        raise InputError(
            ErrorCode.IMAGE_AMBIGUOUS, f"{path}: holds several pages, and one picture is wanted."
        )
    return _split_alpha(array if array.ndim == 3 else array[..., np.newaxis], None, False, ())


def _from_pillow(picture: Image.Image, keep_palette: bool) -> Raster:
    notes: tuple[str, ...] = ()
    lossy = picture.format == "JPEG" or picture.format == "MPO"
    if picture.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        ImageOps.exif_transpose(picture, in_place=True)
        notes = ("turned upright as its EXIF tag says",)
    palette = None
    if picture.mode == "P" and keep_palette:
        colors = picture.getpalette("RGB") or []
        palette = np.array(colors, dtype=float).reshape(-1, 3) / 255.0
        transparent = picture.info.get("transparency")
        index = np.asarray(picture)[..., np.newaxis]
        alpha = (index[..., 0] != transparent).T if isinstance(transparent, int) else None
        return Raster(index.transpose(1, 0, 2), alpha, palette, lossy, notes)
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA", "RGBX"):
        picture = picture.convert("RGBA" if picture.mode == "PA" else "RGB")
    array = np.asarray(picture)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    return _split_alpha(array if array.ndim == 3 else array[..., np.newaxis], palette, lossy, notes)


def _split_alpha(
    array: NDArray[Any],
    palette: NDArray[np.float64] | None,
    lossy: bool,
    notes: tuple[str, ...],
) -> Raster:
    turned = array.transpose(1, 0, 2)
    if turned.shape[2] in (2, 4):
        return Raster(turned[..., :-1], turned[..., -1], palette, lossy, notes)
    return Raster(turned, None, palette, lossy, notes)


def read_raster(path: Path, colour: bool) -> Volume:
    """Reads a picture as an image of two axes (x, y), one pixel taken as one millimetre.

    Args:
        path: PNG, JPEG or TIFF.
        colour: Three layers, red, green and blue, instead of one of grey values.

    Returns:
        The image; its axes run to the patient's left and back, as SimpleITK has them.

    Raises:
        InputError: It cannot be decoded or holds several pages.
    """
    raster = decode(path)
    notes = [*raster.notes, "the size of its pixels is not known: a pixel (px) counts as 1 mm"]
    values = raster.values.astype(np.float64)
    if raster.alpha is not None:
        opaque = np.iinfo(raster.alpha.dtype).max if raster.alpha.dtype.kind in "iu" else 1.0
        if raster.alpha.min() < opaque:
            values = values * (raster.alpha[..., np.newaxis] / opaque)
            notes.append("transparent pixels are laid over black")
    if colour:
        layers = np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values
    elif values.shape[2] == 1:
        layers = values
    elif (values == values[..., :1]).all():
        layers = values[..., :1]
    else:
        layers = (values @ _LUMA)[..., np.newaxis]
        notes.append("colours are turned into grey values (ITU-R 601 luma)")
    return Volume(np.moveaxis(layers, -1, 0), LPS_TO_RAS.copy(), tuple(notes), colour=colour)
