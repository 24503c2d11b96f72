"""Masks and label maps in picture files: transparency, palettes, colours, grey values, JPEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.images.decoded import Raster
from SaliencyExplain.images.label_types import Color, Label, LabelMap
from SaliencyExplain.images.label_values import (
    hard_layers,
    labels_of,
    whole_numbers,
    without_background,
)
from SaliencyExplain.images.raster import decode

#: A picture with more colours is a photograph or has blurred edges.
_MOST_COLOURS = 32
#: Values of a soft or compressed mask above this share of the largest are certainly inside, and
#: values below the remaining share certainly outside.
_SURE = 0.75
#: Largest share of uncertain pixels in a JPEG mask.
_MOST_UNSURE = 0.05
#: In a JPEG mask with a smaller maximum the noise of the compression dominates.
_LEAST_BRIGHT = 64
#: Largest difference of red, green and blue of a grey pixel in JPEG.
_COLOURFUL = 64
_NAMES = {code: name for name, code in ImageColor.colormap.items() if isinstance(code, str)}


def from_picture(path: Path) -> LabelMap:
    """Makes a label map from a picture.

    If the transparency varies, it is the mask. Otherwise each colour, palette index or grey
    label is a segment and black is the background. Grey values with soft edges, and JPEG, are
    thresholded at half of the brightest value.

    Args:
        path: PNG, JPEG, BMP or TIFF.

    Raises:
        InputError: It cannot be decoded, or is a photograph or an X-ray rather than a mask.
    """
    picture = decode(path, keep_palette=True)
    if picture.lossy:
        return _from_jpeg(path, picture)
    if picture.palette is not None:
        return _from_palette(path, picture, picture.palette)
    if picture.alpha is not None and picture.alpha.min() != picture.alpha.max():
        return _from_alpha(picture, np.asarray(picture.alpha) > 0)
    values = picture.values
    if (values == values[..., :1]).all():
        return _from_grey(path, picture, values[..., 0])
    return _from_colours(path, picture, np.ones(values.shape[:2], dtype=bool))


def _from_jpeg(path: Path, picture: Raster) -> LabelMap:
    values = picture.values.astype(np.float64)
    strongest = values.max(axis=2)
    top = float(strongest.max())
    if top == 0:
        return _one_mask(picture, strongest > 0)
    advice = "Save the mask as PNG"
    if top < _LEAST_BRIGHT:
        raise _no_mask(path, f"its largest value, {top:.0f}, is as low as JPEG's noise. {advice}")
    colourful = np.ptp(values, axis=2) > _COLOURFUL
    if colourful.mean() > 0.01 * (strongest > top / 2).mean():
        raise _no_mask(path, f"JPEG mixes the colours that distinguish segments. {advice}")
    bright = int((strongest > _SURE * top).sum())
    unsure = int((strongest > (1 - _SURE) * top).sum()) - bright
    if unsure > min(bright, _MOST_UNSURE * strongest.size):
        raise _no_mask(
            path,
            f"{unsure / strongest.size * 100:.0f} % of its pixels are neither dark nor bright, so "
            f"it is a photograph, or a JPEG of several labels. {advice}",
        )
    note = "JPEG blurs masks; pixels of at least half of the brightest value are inside"
    return _one_mask(picture, strongest > top / 2, note)


def _from_alpha(picture: Raster, opaque: NDArray[np.bool_]) -> LabelMap:
    # The transparency is the mask if nothing else varies, or if a photograph was cut out.
    colours = np.unique(picture.values[opaque], axis=0)
    if len(colours) < 2 or len(colours) > _MOST_COLOURS:
        return _one_mask(picture, opaque)
    codes, found = _codes(picture, opaque)
    return _labelled(picture, codes, found, ())


def _from_palette(path: Path, picture: Raster, palette: NDArray[np.float64]) -> LabelMap:
    index = picture.values[..., 0]
    used = [int(value) for value in np.unique(index)]
    if used[-1] >= len(palette):
        raise _no_mask(path, f"it has {len(palette)} colours, and a pixel has the index {used[-1]}")
    colours = palette[used]
    varies = picture.alpha is not None and picture.alpha.min() != picture.alpha.max()
    if (colours == colours[:, :1]).all() and not varies:
        # A palette of grey values; their indices have no meaning.
        return _from_grey(path, picture, np.rint(palette[:, 0] * 255).astype(np.uint8)[index])
    opaque = np.asarray(picture.alpha) > 0 if varies else np.ones(index.shape, dtype=bool)
    dark = [value for value in used if not palette[value].any()]
    notes: tuple[str, ...] = ()
    # Black if present, since tools that optimise palettes change the order of colours.
    background = set(dark) or {0}
    if not varies and (background - {0} or 0 not in used or palette[0].any()):
        named = ", ".join(str(value) for value in sorted(background))
        notes = (f"colour {named} of the palette is treated as the background",)
    elif varies:
        background = set()
    shown = set(np.unique(index[opaque]).tolist()) - background
    values = [value for value in used if value in shown]
    if len(values) > _MOST_COLOURS:
        raise _no_mask(path, f"its palette has {len(values)} colours, like a photograph")
    # 0 means outside, but here it may be a segment's index.
    inside = opaque & np.isin(index, values)
    shifted = np.where(inside, index.astype(np.int32) + 1, 0)
    labels_of(path, shifted)
    labels = tuple(
        Label(f"label {value} ({_name(palette[value])})", _rgb(palette[value]), 0, value + 1)
        for value in values
    )
    return LabelMap(shifted[np.newaxis], None, labels, (*picture.notes, *notes))


def _from_grey(path: Path, picture: Raster, values: NDArray[Any]) -> LabelMap:
    if values.dtype.kind not in "iu":
        whole, notes = whole_numbers(path, values[np.newaxis])
    else:
        whole, notes = values[np.newaxis], ()
    whole, more = without_background(path, whole)
    whole, soft_notes = hard_layers(whole)
    notes = (*notes, *more, *soft_notes)
    if np.unique(whole[whole != 0]).size < 2:
        return _one_mask(picture, whole[0] != 0, *notes)
    try:
        found = labels_of(path, whole[0])
    except InputError:
        soft = _soft(picture, whole[0])
        if soft is None:
            raise
        return soft
    labels = tuple(Label(f"label {value}", None, 0, value) for value in found)
    return LabelMap(whole, None, labels, (*picture.notes, *notes))


def _soft(picture: Raster, values: NDArray[Any]) -> LabelMap | None:
    """A mask with grey edges, thresholded at half; None if it has more grey than white."""
    top = float(values.max())
    sure = int((values > _SURE * top).sum())
    unsure = int((values > (1 - _SURE) * top).sum()) - sure
    if values.min() < 0 or unsure > sure:
        return None
    note = f"the mask is soft ({unsure} grey pixels); at least half of the maximum is inside"
    return _one_mask(picture, values > top / 2, note)


def _from_colours(path: Path, picture: Raster, opaque: NDArray[np.bool_]) -> LabelMap:
    codes, found = _codes(picture, opaque)
    if len(found) > _MOST_COLOURS:
        raise _no_mask(path, f"it has {len(found)} colours, like a photograph or blurred edges")
    notes: tuple[str, ...] = ()
    white = np.array([_most(picture)] * 3)
    if not (picture.values == 0).all(axis=2).any():
        at_corners = picture.values[[0, 0, -1, -1], [0, -1, 0, -1]]
        notes = ("no pixel is black, so each colour is a segment, including the background",)
        if (at_corners == white).all():
            notes = ("no pixel is black; white, found in the corners, is treated as background",)
            codes, found = _codes(picture, opaque & (picture.values != white).any(axis=2))
    # Shades of blurred edges are not segments.
    labels_of(path, codes)
    return _labelled(picture, codes, found, notes)


def _codes(
    picture: Raster, opaque: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], list[NDArray[Any]]]:
    """The index of each pixel's colour, from 1 and 0 for black, and the colours."""
    coloured = opaque & (picture.values != 0).any(axis=2)
    found, numbers = np.unique(picture.values[coloured], axis=0, return_inverse=True)
    codes = np.zeros(coloured.shape, dtype=np.int32)
    codes[coloured] = numbers.reshape(-1) + 1
    return codes, list(found)


def _labelled(
    picture: Raster, codes: NDArray[np.int32], colours: list[NDArray[Any]], notes: tuple[str, ...]
) -> LabelMap:
    shares = [np.atleast_1d(colour).astype(float) / _most(picture) for colour in colours]
    shares = [share if share.size == 3 else share.repeat(3) for share in shares]
    if len(shares) == 1:
        return _one_mask(picture, codes > 0, *notes)
    labels = tuple(
        Label(_name(share), _rgb(share), 0, number) for number, share in enumerate(shares, start=1)
    )
    return LabelMap(codes[np.newaxis], None, labels, (*picture.notes, *notes))


def _one_mask(picture: Raster, mask: NDArray[np.bool_], *notes: str) -> LabelMap:
    more: tuple[str, ...] = ()
    corners = mask[[0, 0, -1, -1], [0, -1, 0, -1]]
    if corners.all() and not mask.all():
        more = ("all corners of the picture are inside the mask, which may be inverted",)
    notes = (*picture.notes, *notes, *more)
    return LabelMap(mask[np.newaxis], None, (Label("mask", None, 0, 1),), notes)


def _most(picture: Raster) -> float:
    """The value of white."""
    kind = picture.values.dtype
    return float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0


def _rgb(share: NDArray[np.float64]) -> Color:
    red, green, blue = (float(part) for part in share)
    return red, green, blue


def _name(share: NDArray[np.float64]) -> str:
    """A colour's name in CSS, else its code such as ``#a6d106``."""
    code = "#" + "".join(f"{round(float(part) * 255):02x}" for part in share)
    return _NAMES.get(code, code)


def _no_mask(path: Path, wrong: str) -> InputError:
    return InputError(ErrorCode.SEGMENTATION_LABELS, f"{path}: is not a mask: {wrong}.")
