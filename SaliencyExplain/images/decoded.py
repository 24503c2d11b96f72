"""A decoded picture, before it becomes an image or a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError

#: Note for a picture that is not stored upright.
TURNED_NOTE = "rotated or mirrored according to its orientation tag (TIFF, EXIF)"
#: Note for a picture in CMYK colours.
CMYK_NOTE = "CMYK colours are converted to RGB without a colour profile"


@dataclass(frozen=True)
class Raster:
    """A decoded picture.

    Attributes:
        values: (columns, rows, components), components 1 (grey or palette index) or 3.
        alpha: (columns, rows), 0 where transparent, or None.
        palette: RGB in [0, 1] of each palette index, or None.
        lossy: Whether values may have been changed by compression.
        notes: Notes for the user.
        over_black: Whether the values are premultiplied by alpha (associated alpha).
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None
    palette: NDArray[np.float64] | None
    lossy: bool
    notes: tuple[str, ...]
    over_black: bool = False


def split_alpha(array: NDArray[Any], *, lossy: bool = False, notes: tuple[str, ...] = ()) -> Raster:
    """A picture without a palette.

    Args:
        array: (rows, columns, components), 1 or 3 components, and optionally alpha after them.
        lossy: See :class:`Raster`.
        notes: See :class:`Raster`.
    """
    turned = array.transpose(1, 0, 2)
    if turned.shape[2] in (2, 4):
        return Raster(turned[..., :-1], turned[..., -1], None, lossy, notes)
    return Raster(turned, None, None, lossy, notes)


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotates and mirrors a picture according to its orientation tag (TIFF 6.0, section 8).

    Args:
        array: (rows, columns, ...) as stored.
        orientation: 1 to 8; states which sides of the picture the first row and column are.
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def several_pages(path: Path, pages: int) -> InputError:
    """The error for a file of several pages instead of one picture."""
    return InputError(
        ErrorCode.IMAGE_AMBIGUOUS,
        f"{path}: holds {pages} pages instead of one picture. Save one page as a separate file, "
        "or all of them as a volume (NIfTI, NRRD).",
    )
