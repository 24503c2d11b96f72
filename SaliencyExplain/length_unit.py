"""The unit in which lengths of an image are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What readers give a picture without a size: pixels of one millimetre on the axes of LPS,
#: or as wide as that where only the ratio of height and width is known.
_WITHOUT_SIZE = np.diag([-1.0, -1.0, 1.0, 1.0])


def length_unit(affine: NDArray[Any], shape: Sequence[int]) -> str:
    """``mm``, or ``px`` where the image has no size.

    Readers take a pixel of a picture without a size (PNG, JPEG, TIFF) as one millimetre, without
    a place in the patient. A length in such units is one in pixels, also where a header
    says that a pixel is just 1 mm.

    Args:
        affine: 4x4 of the image as it was read, voxel indices to RAS mm; not that of the image
            after a classifier's preprocessing.
        shape: Voxels along each of the 2 or 3 axes; 3D Slicer holds a picture as one slice.
    """
    flat = len(shape) == 2 or shape[2] == 1
    squared = np.array(affine, dtype=np.float64)
    if len(shape) == 2:
        squared[1, 1] /= abs(squared[1, 1]) or 1.0
    return "px" if flat and np.allclose(squared, _WITHOUT_SIZE, rtol=0, atol=1e-6) else "mm"


def joined(units: Iterable[str]) -> str:
    """The units of several images as a heading tells them: ``mm``, ``px`` or ``mm or px``."""
    return " or ".join(sorted(set(units))) or "mm"
