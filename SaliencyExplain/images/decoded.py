"""A picture as its decoder hands it on, before it becomes an image or a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.errors import ErrorCode, InputError

#: What is told of a picture that is not stored upright.
TURNED_NOTE = "turned upright as its orientation tag (TIFF, EXIF) says"
#: What is told of a picture in the colours of a printer.
CMYK_NOTE = "CMYK colours are turned into RGB without a colour profile"


@dataclass(frozen=True)
class Raster:
    """A decoded picture.

    Attributes:
        values: (columns, rows, components), components 1 (grey or palette index) or 3.
        alpha: (columns, rows), 0 where transparent, or None.
        palette: RGB in [0, 1] of each palette index, or None.
        lossy: Whether values may have been changed by compression.
        notes: What is to be said aloud.
        over_black: Whether the values are laid over black where alpha is below its largest value
            (associated alpha).
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
        array: (rows, columns, components), 1 or 3 components, and one of alpha after them.
        lossy: As :class:`Raster`.
        notes: As :class:`Raster`.
    """
    turned = array.transpose(1, 0, 2)
    if turned.shape[2] in (2, 4):
        return Raster(turned[..., :-1], turned[..., -1], None, lossy, notes)
    return Raster(turned, None, None, lossy, notes)


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turns and mirrors a picture as its orientation tag says (TIFF 6.0, section 8).

    Args:
        array: (rows, columns, ...) as stored.
        orientation: 1 to 8: which sides of the picture the first row and column are.
    """
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def several_pages(path: Path, pages: int) -> InputError:
    """The error for a file of several pages where one picture is wanted."""
    return InputError(
        ErrorCode.IMAGE_AMBIGUOUS,
        f"{path}: holds {pages} pages, and one picture is wanted. Save the page you "
        "mean as a file of its own, or all of them as a volume (NIfTI, NRRD).",
    )
